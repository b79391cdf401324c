package vmlab

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iserd/iserd/test/lab"
)

//go:embed mksiw.sh
var mksiw string

// SIW returns the file siw.ko, the software iWARP driver for kernel k. It is
// built when it is not in the cache: half a minute, and 150 MB to download.
func SIW(t testing.TB, k Kernel) string {
	t.Helper()
	lab.NeedTools(t, "make", "gcc-12", "xz", "debugfs", "strip", "apt-get")
	kernel := filepath.Dir(buildImage(t, k).modules)
	cache, err := lab.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(mksiw + filepath.Base(kernel)))
	out := filepath.Join(cache, "vm-siw-"+hex.EncodeToString(sum[:6]))
	cmd := exec.CommandContext(t.Context(), "bash", "-s", "--", kernel, out)
	cmd.Stdin = strings.NewReader(mksiw)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("vmlab: building siw: %v\n%s", err, b)
	}
	return filepath.Join(out, "siw.ko")
}

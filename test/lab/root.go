package lab

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed mkroot.sh
var mkroot string

// CacheDir is where the lab keeps what takes long to build:
// iserd-lab below $XDG_CACHE_HOME or ~/.cache.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return filepath.Join(base, "iserd-lab"), nil
}

// RootDir is the guest's root directory for this version of mkroot.sh; it may
// not exist yet.
func RootDir() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(mkroot))
	return filepath.Join(cache, "uml-root-"+hex.EncodeToString(sum[:6])), nil
}

// BuildRoot builds the guest's root directory unless it is in the cache, and
// returns its path. Each progress line goes to say. It takes about a minute
// the first time, and may be called by many processes at once.
func BuildRoot(say func(line string)) (string, error) {
	dir, err := RootDir()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("bash", "-s", "--", dir)
	cmd.Stdin = strings.NewReader(mkroot)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		say(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("lab: guest's root: %w\n%s", err, stderr.String())
	}
	return dir, nil
}

// root returns the guest's root directory, built when need be.
func root(t testing.TB) string {
	t.Helper()
	dir, err := BuildRoot(func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

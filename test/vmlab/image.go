package vmlab

import (
	"bufio"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/iserd/iserd/test/lab"
)

//go:embed mkimage.sh guest
var files embed.FS

// Kernel is a kernel that a guest can run, by the Debian package that depends
// on its newest build.
type Kernel string

// Debian 12's kernel, and the one that its archive has from Debian 13.
const (
	Kernel61  Kernel = "linux-image-amd64"
	Kernel612 Kernel = "linux-image-6.12-amd64"
)

// image is what a guest boots from.
type image struct {
	root    string // file system image
	modules string // file system image of /lib/modules
	vmlinuz string
	initrd  string
}

// buildImage builds what is not in the cache: about two minutes the first
// time. It may be called by many processes at once.
func buildImage(t testing.TB, k Kernel) image {
	t.Helper()
	lab.NeedRoot(t)
	lab.NeedTools(t, "qemu-system-x86_64", "debootstrap", "mke2fs", "apt-get")
	base, err := lab.BuildRoot(func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	root := build(t, base, "root", "vm-root", "")
	kernel := build(t, base, "kernel", "vm-"+string(k), string(k))
	return image{
		root:    filepath.Join(root, "root.img"),
		modules: filepath.Join(kernel, "modules.img"),
		vmlinuz: filepath.Join(kernel, "vmlinuz"),
		initrd:  filepath.Join(kernel, "initrd.img"),
	}
}

// build runs mkimage.sh and returns the directory that it filled, which is
// named after all that it is made from.
func build(t testing.TB, base, what, name, kernel string) string {
	t.Helper()
	script, early := read(t, "mkimage.sh"), read(t, "guest/early.sh")
	cache, err := lab.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(script + early + filepath.Base(base)))
	out := filepath.Join(cache, name+"-"+hex.EncodeToString(sum[:6]))

	init := filepath.Join(t.TempDir(), "early.sh")
	if err := os.WriteFile(init, []byte(early), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-s", "--", what, base, out)
	cmd.Env = append(os.Environ(), "KERNEL="+kernel, "EARLY_INIT="+init)
	cmd.Stdin = strings.NewReader(script)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("vmlab: %v", err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("vmlab: building the %s: %v\n%s", what, err, stderr.String())
	}
	return out
}

// read is the text of an embedded file.
func read(t testing.TB, name string) string {
	t.Helper()
	b, err := files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// BuildTest compiles the tests of a package of this repository, with cgo and
// these flags, to the file out.
func BuildTest(t testing.TB, out, pkg string, flags ...string) {
	t.Helper()
	gobuild(t, slices.Concat([]string{"test", "-c", "-o", out}, flags, []string{pkg})...)
}

// Build compiles a program of this repository, with cgo and these flags, to
// the file out.
func Build(t testing.TB, out, pkg string, flags ...string) {
	t.Helper()
	gobuild(t, slices.Concat([]string{"build", "-o", out}, flags, []string{pkg})...)
}

func gobuild(t testing.TB, args ...string) {
	t.Helper()
	lab.NeedTools(t, "gcc")
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("vmlab: go %s: %v\n%s", strings.Join(args, " "), err, b)
	}
}

// Gate skips a test that boots a VM, unless it is asked for by ISERD_VM=1 or
// runs under CI.
func Gate(t testing.TB) {
	t.Helper()
	if os.Getenv("ISERD_VM") == "" && !lab.CI() {
		t.Skip("set ISERD_VM=1 to run (needs root, QEMU and debootstrap)")
	}
}

// quote makes s a word of the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// environment is a shell script that exports env.
func environment(env map[string]string) string {
	var b strings.Builder
	for _, k := range sortedKeys(env) {
		fmt.Fprintf(&b, "export %s=%s\n", k, quote(env[k]))
	}
	return b.String()
}

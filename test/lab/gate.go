package lab

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// CI reports whether the tests run in continuous integration, where nothing
// that a test needs may be missing: env CI is non-empty.
func CI() bool { return os.Getenv("CI") != "" }

// Gate skips a test that runs foreign programs against a real daemon, unless
// it is asked for by ISERD_INTEROP=1 or runs under CI.
func Gate(t testing.TB) {
	t.Helper()
	if os.Getenv("ISERD_INTEROP") == "" && !CI() {
		t.Skip("set ISERD_INTEROP=1 to run (or: make interop)")
	}
}

// NeedTools skips the test when a program is not installed; under CI it fails
// the test.
func NeedTools(t testing.TB, names ...string) {
	t.Helper()
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		lack(t, "needs "+strings.Join(missing, ", ")+": run scripts/setup")
	}
}

// NeedRoot skips the test when it does not run as root; under CI it fails
// the test. Namespaces, tap devices and debootstrap need root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "needs root")
	}
}

func lack(t testing.TB, what string) {
	t.Helper()
	if CI() {
		t.Fatal(what)
	}
	t.Skip(what)
}

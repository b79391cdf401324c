// Package interop_test drives the daemon with initiators that others wrote:
// libiscsi's tools, QEMU's block driver, and the Linux kernel's initiator in a
// guest of package lab. The tests run with ISERD_INTEROP=1 or under CI.
package interop_test

import (
	"os/exec"
	"testing"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// run runs a command to its end and returns what it printed; it fails the test
// when the command fails.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

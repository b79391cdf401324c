package interop_test

import (
	_ "embed"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

//go:embed guest/stop.sh
var stopScript string

// SIGTERM asks initiators to log out, which the kernel's does, with its commands
// done; it logs in again when the daemon is back, and a file system on top of it
// notices no more than a pause.
func TestKernelStop(t *testing.T) {
	lab.Gate(t)
	n := lab.NewNet(t)
	d := target.Start(t, target.Config{Net: n, LUNs: fileLUNs(t, 128*mib)})
	vm := lab.Start(t, n, lab.Guest{Script: stopScript, Env: guestEnv(d, nil)})
	vm.WaitLine("lab: running", time.Minute)
	for round := range 2 {
		for range 3 { // I/O goes on
			vm.WaitLine("lab: file ", time.Minute)
		}
		before := len(d.Log())
		took := d.Stop()
		log := d.Log()[before:]
		_, end, ok := strings.Cut(log, "stopping: signal=terminated")
		if !ok || !strings.Contains(end, "logged out: ") || strings.Contains(end, "did not log out") || !strings.Contains(end, "iserd: stopped") {
			t.Errorf("stop %d: the initiator did not log out in good order:\n%s", round, log)
		}
		t.Logf("stop %d took %v", round, took)
		d.Restart()
	}
	vm.WaitLine("lab: file ", time.Minute)
	vm.WaitLine("lab: file ", time.Minute)
	vm.Signal("stop")
	if r := vm.Wait(); r.Status != 0 || !strings.Contains(r.Output, "files are what was written") {
		t.Fatalf("guest script ended with status %d:\n%s", r.Status, r.Output)
	}
}

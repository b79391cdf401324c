package interop_test

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

//go:embed guest/live.sh
var liveScript string

// liveHCL has LUN 0 in a file of any size, LUN 1 in one of a configured size,
// and, with extra, LUN 2 in memory.
func liveHCL(files []target.LUN, size1 int64, extra bool) func(*target.Daemon) string {
	return func(d *target.Daemon) string {
		more, block := "", ""
		if extra {
			more = "  lun \"2\" { backend = backend.memory.extra }\n"
			block = "backend \"memory\" \"extra\" { size = \"16MiB\" }\n"
		}
		return fmt.Sprintf(`
portal_group "test" {
  tag = 1
  portal %q {}
}
backend "file" "any" { path = %q }
backend "file" "sized" {
  path   = %q
  size   = "%dB"
  create = true
}
%starget %q {
  insecure = true
  lun "0" { backend = backend.file.any }
  lun "1" { backend = backend.file.sized }
%s}
`, d.Portal(), files[0].Path, files[1].Path, size1, block, target.IQN, more)
	}
}

// The kernel's initiator has file systems mounted and under load while LUNs
// grow, by command and by a reload, and others come and go: it sees all of it
// after a rescan, in the same session.
func TestKernelLive(t *testing.T) {
	lab.Gate(t)
	n := lab.NewNet(t)
	files := fileLUNs(t, 64*mib, 320*mib)
	d := target.Start(t, target.Config{Net: n, LUNs: files, HCL: liveHCL(files, 320*mib, false)})
	vm := lab.Start(t, n, lab.Guest{
		Script: liveScript, Timeout: 3 * time.Minute,
		Env: guestEnv(d, map[string]string{
			"WANT0": "192", "WANT1": "512", "WANT2": "16",
			"FILL0": "100", "FILL1": "340", // more than there is room for at first
		}),
	})
	vm.WaitLine("lab: mounted, 64 and 320 MiB", time.Minute)
	if err := os.Truncate(files[0].Path, 192*mib); err != nil {
		t.Fatal(err)
	}
	d.Iserd("lun", "resize", target.IQN+"/0")
	d.Rewrite(liveHCL(files, 512*mib, false))
	if out := d.Iserd("config", "reload"); !strings.Contains(out, "backend.size") {
		t.Errorf("the reload says %q", out)
	}
	vm.Signal("grown")
	vm.WaitLine("lab: grown", time.Minute)

	d.Rewrite(liveHCL(files, 512*mib, true))
	d.Iserd("config", "reload")
	vm.Signal("added")
	vm.WaitLine("lab: added", time.Minute)

	d.Rewrite(liveHCL(files, 512*mib, false))
	d.Iserd("config", "reload")
	vm.Signal("removed")
	vm.WaitLine("lab: removed", time.Minute)
	if r := vm.Wait(); r.Status != 0 || !strings.Contains(r.Output, "lab: live: done in one session") {
		t.Fatalf("guest script ended with status %d:\n%s", r.Status, r.Output)
	}
	if out := d.Iserd("config", "diff"); out != "Nothing changes.\n" {
		t.Errorf("config diff: %s", out)
	}
}

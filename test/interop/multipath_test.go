package interop_test

import (
	_ "embed"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

//go:embed guest/multipath.sh
var multipathScript string

// The second path: addresses of its own on the same device.
const (
	hostAddr2  = "10.99.1.1"
	guestAddr2 = "10.99.1.2"
)

// Linux's dm-multipath writes and verifies over two portals while one path and
// then the other is cut: nothing is lost, and no error comes through.
func TestKernelMultipath(t *testing.T) {
	lab.Gate(t)
	n := lab.NewNet(t)
	address := func(what, addr string) {
		t.Helper()
		var out []byte
		var err error
		n.Do(func() { out, err = exec.Command("ip", "addr", what, addr+"/24", "dev", lab.Device).CombinedOutput() })
		if err != nil {
			t.Fatalf("ip addr %s %s: %v\n%s", what, addr, err, out)
		}
	}
	address("add", hostAddr2)
	portal2 := lab.HostPort(hostAddr2, 3260)
	d := target.Start(t, target.Config{Net: n, Portals: []string{portal2}, LUNs: []target.LUN{{Size: 64 * mib}}})
	vm := lab.Start(t, n, lab.Guest{
		Script: multipathScript,
		Env: guestEnv(d, map[string]string{
			"LAB_PORTAL1": d.Portal(), "LAB_PORTAL2": portal2, "LAB_ADDR2": guestAddr2 + "/24",
		}),
		Timeout: 4 * time.Minute,
	})
	vm.WaitLine("lab: running", time.Minute)
	vm.WaitLine("lab: pass ", time.Minute)
	for _, addr := range []string{hostAddr2, lab.HostAddr} {
		address("del", addr)
		path, _, _ := strings.Cut(vm.WaitLine("lab: path ", time.Minute), " ")
		vm.WaitLine("lab: pass ", time.Minute)
		vm.WaitLine("lab: pass ", time.Minute)
		address("add", addr)
		if got := vm.WaitLine("lab: path ", time.Minute); got != path+" is back" {
			t.Errorf("path %s failed; then: %s", path, got)
		}
	}
	vm.WaitLine("lab: pass ", time.Minute)
	vm.Signal("stop")
	r := vm.Wait()
	if r.Status != 0 || !strings.Contains(r.Output, "lab: result passes=") {
		t.Fatalf("guest script ended with status %d:\n%s", r.Status, r.Output)
	}
}

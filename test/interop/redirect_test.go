package interop_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

//go:embed guest/redirect.sh
var redirectScript string

// movingHCL has two portals, of which one sends logins to the other, and, with
// extra, a second LUN.
func movingHCL(away, here string, extra bool) func(*target.Daemon) string {
	return func(*target.Daemon) string {
		lun, block := "", ""
		if extra {
			lun = "  lun \"1\" { backend = backend.memory.extra }\n"
			block = "backend \"memory\" \"extra\" { size = \"16MiB\" }\n"
		}
		return fmt.Sprintf(`
portal_group "test" {
  tag = 1
  portal %q {
    redirect { to = %q }
  }
  portal %q {}
}
backend "memory" "disk" { size = "64MiB" }
%starget %q {
  insecure     = true
  async_events = true
  lun "0" { backend = backend.memory.disk }
%s}
`, away, here, here, block, target.IQN, lun)
	}
}

// The kernel's initiator follows a redirect, moves to another portal in the middle of
// its I/O when the operator has it log out, and looks for a new LUN by itself when an
// Asynchronous Message tells of it.
func TestKernelRedirect(t *testing.T) {
	lab.Gate(t)
	n := lab.NewNet(t)
	d := target.Start(t, target.Config{Net: n, LUNs: []target.LUN{{Size: 64 * mib}}, HCL: func(d *target.Daemon) string {
		return movingHCL(d.Portal(), beside(t, d), false)(d)
	}})
	one, two := d.Portal(), beside(t, d)
	vm := lab.Start(t, n, lab.Guest{
		Script: redirectScript, Timeout: 2 * time.Minute,
		Env: guestEnv(d, map[string]string{"OTHER": two}),
	})
	vm.WaitLine("lab: redirected", time.Minute)

	d.Rewrite(movingHCL(two, one, false))
	d.Iserd("config", "reload")
	var sessions []struct {
		TSIH int `json:"tsih"`
	}
	if err := json.Unmarshal([]byte(d.Iserd("session", "ls", "-o", "json")), &sessions); err != nil || len(sessions) != 1 {
		t.Fatalf("sessions: %+v, %v", sessions, err)
	}
	d.Iserd("session", "logout", strconv.Itoa(sessions[0].TSIH))
	vm.WaitLine("lab: moved", time.Minute)
	for begin := time.Now(); !strings.Contains(d.Iserd("session", "ls"), "0x0002"); time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("there is no second session")
		}
	}

	d.Rewrite(movingHCL(two, one, true))
	d.Iserd("config", "reload")
	vm.WaitLine("lab: found LUN 1", time.Minute)
	vm.Signal("done")
	if r := vm.Wait(); r.Status != 0 || !strings.Contains(r.Output, "lab: redirect: no errors") {
		t.Fatalf("guest script ended with status %d:\n%s", r.Status, r.Output)
	}
}

// beside is the port after the daemon's.
func beside(t *testing.T, d *target.Daemon) string {
	t.Helper()
	host, port, err := net.SplitHostPort(d.Portal())
	if err != nil {
		t.Fatal(err)
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return lab.HostPort(host, p+1)
}

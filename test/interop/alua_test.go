package interop_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

//go:embed guest/alua.sh
var aluaScript string

// portalB is a second portal of the daemon, beside Daemon.Portal.
var portalB = lab.HostPort(lab.HostAddr, 3261)

func aluaHCL(alias string, preferred bool) func(*target.Daemon) string {
	return func(d *target.Daemon) string {
		return fmt.Sprintf(`
portal_group "a" {
  tag = 1
  portal %q {}
}
portal_group "b" {
  tag = 2
  portal %q {}
}
backend "memory" "m" { size = "16MiB" }
target %q {
  alias         = %q
  insecure      = true
  portal_groups = ["a", "b"]
  lun "0" {
    backend = backend.memory.m
    alua {
      explicit = true
      group "a" { preferred = %t }
      group "b" { state = "active/non-optimized" }
    }
  }
}
`, d.Portal(), portalB, target.IQN, alias, preferred)
	}
}

// The kernel's initiator reaches a LUN by two portal groups, whose access states
// the configuration, the console, SET TARGET PORT GROUPS and a reload decide.
func TestKernelALUA(t *testing.T) {
	lab.Gate(t)
	n := lab.NewNet(t)
	d := target.Start(t, target.Config{Net: n, HCL: aluaHCL("one", true)})
	vm := lab.Start(t, n, lab.Guest{
		Script: aluaScript,
		Env:    map[string]string{"LAB_PORTAL": d.Portal(), "LAB_TARGET": target.IQN, "PORTAL_A": d.Portal(), "PORTAL_B": portalB},
	})
	lun := target.IQN + "/0"
	vm.WaitLine("lab: configured", time.Minute)
	for _, state := range []string{"standby", "unavailable"} {
		d.Iserd("alua", "set", lun, "b", state)
		vm.Signal(state)
		vm.WaitLine("lab: "+state, time.Minute)
	}
	vm.WaitLine("lab: explicit", time.Minute)

	var shown []struct {
		Groups []struct {
			PortalGroup string `json:"portal_group"`
			State       string
			SetBy       string `json:"set_by"`
		}
	}
	if err := json.Unmarshal([]byte(d.Iserd("alua", "show", lun, "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(shown); got != "[{[{a standby initiator} {b active/optimized initiator}]}]" {
		t.Errorf("alua show: %s", got)
	}
	if !strings.Contains(d.Log(), "an initiator set an access state") {
		t.Error("the log does not tell who set the states")
	}
	if out := d.Iserd("config", "diff"); strings.Count(out, "by an initiator") != 2 {
		t.Errorf("config diff does not show what the initiator has set:\n%s", out)
	}
	// A reload that changes the alua block puts all of it into force.
	d.Rewrite(aluaHCL("one", false))
	if out := d.Iserd("config", "reload"); !strings.Contains(out, `alua.group "a".preferred: true -> false`) {
		t.Errorf("the reload says %q", out)
	}
	vm.Signal("reloaded")
	if r := vm.Wait(); r.Status != 0 || !strings.Contains(r.Output, "lab: alua: done") {
		t.Fatalf("guest script ended with status %d:\n%s", r.Status, r.Output)
	}
}

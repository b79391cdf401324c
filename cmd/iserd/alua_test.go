package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/initiator"
)

const aluaTarget = "iqn.2026-11.com.example:still"

const aluaBlock = `
  portal_groups = ["lan", "wan"]
  alua {
    explicit = true
    group "lan" { preferred = true }
    group "wan" { state = "standby" }
  }
`

// aluaConfig is reloadA with a second portal group at addr, and block in the
// first target.
func aluaConfig(addr, block string) string {
	text := strings.Replace(reloadA, "insecure = true", "insecure = true"+block, 1)
	text = strings.Replace(text, "alias    = \"one\"", "portal_groups = [\"lan\"]", 1)
	return text + fmt.Sprintf("\nportal_group \"wan\" {\n  tag = 2\n  portal %q {}\n}\n", addr)
}

// scsiExec sends a command and returns its data, or the additional sense code that
// it failed with.
func scsiExec(t *testing.T, s *initiator.Session, cdb, out []byte, in int) (data []byte, asc uint16) {
	t.Helper()
	r, err := s.Exec(t.Context(), 0, cdb, out, in)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status == 0 {
		return r.Data, 0
	}
	if len(r.Sense) < 14 {
		t.Fatalf("status %v, sense % x", r.Status, r.Sense)
	}
	if r.Sense[0]&0x7F == 0x72 {
		return nil, binary.BigEndian.Uint16(r.Sense[2:])
	}
	return nil, binary.BigEndian.Uint16(r.Sense[12:])
}

var (
	readBlock    = []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	reportGroups = []byte{0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}
)

// aluaRig is a target that two sessions reach, each through its own portal
// group.
type aluaRig struct {
	*rig
	cl       *api.Client
	second   string
	lan, wan *initiator.Session
}

func newALUARig(t *testing.T) *aluaRig {
	t.Helper()
	second := freePort(t)
	r := &aluaRig{rig: newRig(t, aluaConfig(second, aluaBlock)), second: second}
	r.cl = r.open(config.Console{}, nil)
	r.lan = r.connect(aluaTarget)
	first := r.addr
	r.addr = second
	r.wan = r.connect(aluaTarget)
	r.addr = first
	scsiExec(t, r.wan, readBlock, nil, 512) // what is left of unit attentions
	return r
}

// states checks what REPORT TARGET PORT GROUPS says of both groups: the first
// bytes of their descriptors, and their status codes.
func (r *aluaRig) states(s *initiator.Session, lan, wan, lanBy, wanBy byte) {
	r.t.Helper()
	b, asc := scsiExec(r.t, s, reportGroups, nil, 512)
	if asc != 0 || len(b) != 4+2*12 {
		r.t.Fatalf("REPORT TARGET PORT GROUPS: %#04x % x", asc, b)
	}
	if b[4] != lan || b[16] != wan || b[9] != lanBy || b[21] != wanBy || b[7] != 1 || b[19] != 2 || b[15] != 1 || b[27] != 2 {
		r.t.Errorf("REPORT TARGET PORT GROUPS: % x, want states %#x and %#x", b, lan, wan)
	}
}

// changed expects ASYMMETRIC ACCESS STATE CHANGED, once.
func (r *aluaRig) changed(s *initiator.Session, what string) {
	r.t.Helper()
	if _, asc := scsiExec(r.t, s, readBlock, nil, 512); asc != 0x2A06 {
		r.t.Errorf("%s: %#04x, want a unit attention 2A/06", what, asc)
	}
}

func (r *aluaRig) reads(s *initiator.Session, want uint16) {
	r.t.Helper()
	if _, asc := scsiExec(r.t, s, readBlock, nil, 512); asc != want {
		r.t.Errorf("READ: %#04x, want %#04x", asc, want)
	}
}

// TestALUAConfigured: the alua block is what initiators see, a reload changes
// it under their sessions, and what the console sets is drift.
func TestALUAConfigured(t *testing.T) {
	r := newALUARig(t)
	if b, _ := scsiExec(t, r.lan, []byte{0x12, 0, 0, 0, 96, 0}, nil, 96); b[5]&0x30 != 0x30 {
		t.Errorf("TPGS: INQUIRY byte 5 is %#x", b[5])
	}
	r.states(r.wan, 0x80, 0x02, 0, 0)
	r.reads(r.lan, 0)
	r.reads(r.wan, 0x040B) // TARGET PORT IN STANDBY STATE

	if err := r.cl.SetALUA(t.Context(), aluaTarget, 0, "wan", &api.ALUAChange{State: "active/non-optimized"}); err != nil {
		t.Fatal(err)
	}
	r.changed(r.lan, "alua set")
	r.changed(r.wan, "alua set")
	r.reads(r.wan, 0)
	r.states(r.lan, 0x80, 0x01, 0, 2)
	const drift = `= target "` + aluaTarget + `" lun "0"  # not as configured, until it is changed back or the daemon is restarted
    alua.group "wan".state: standby -> active/non-optimized, by `
	p, err := r.cl.Plan(t.Context())
	if err != nil || len(p.Changes) != 0 || len(p.Drift) != 1 || p.Drift[0].Text != drift+"command" {
		t.Errorf("plan: %+v %v", p, err)
	}

	// A reload that is about something else leaves the state.
	r.write(strings.Replace(aluaConfig(r.second, aluaBlock), "insecure = true", "insecure = true\nalias = \"x\"", 1))
	if _, _, err := r.ctl.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.states(r.lan, 0x80, 0x01, 0, 2)
	r.reads(r.wan, 0)

	r.write(aluaConfig(r.second, strings.Replace(aluaBlock, "standby", "unavailable", 1)))
	changes, _, err := r.ctl.reload(t.Context())
	if err != nil || len(changes) != 2 || changes[1].Action != config.ChangeALUA {
		t.Fatalf("%+v %v", changes, err)
	}
	r.changed(r.wan, "reload")
	r.reads(r.wan, 0x040C)
	r.reads(r.lan, 0) // nothing has changed for it

	r.write(aluaConfig(r.second, `
  portal_groups = ["lan", "wan"]
`))
	if _, _, err := r.ctl.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*initiator.Session{r.lan, r.wan} {
		scsiExec(t, s, readBlock, nil, 512) // INQUIRY DATA HAS CHANGED, or what comes with it
		scsiExec(t, s, readBlock, nil, 512)
		r.reads(s, 0)
	}
	if _, asc := scsiExec(t, r.lan, reportGroups, nil, 512); asc != 0x2400 {
		t.Errorf("REPORT TARGET PORT GROUPS without an alua block: %#04x", asc)
	}
	if all, err := r.ctl.d.server.Sessions(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%d sessions, want the same 2: %v", len(all), err)
	}
}

// TestALUAExplicit: an initiator sets states, which the console tells.
func TestALUAExplicit(t *testing.T) {
	r := newALUARig(t)
	list := []byte{0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 2} // lan standby, wan active/optimized
	if _, asc := scsiExec(t, r.lan, []byte{0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, byte(len(list)), 0, 0}, list, 0); asc != 0 {
		t.Fatalf("SET TARGET PORT GROUPS: %#04x", asc)
	}
	r.changed(r.wan, "SET TARGET PORT GROUPS")
	r.reads(r.lan, 0x040B)
	r.reads(r.wan, 0)
	r.states(r.lan, 0x82, 0x00, 1, 1)
	l, err := r.cl.LUN(t.Context(), aluaTarget, 0)
	want := []api.ALUAGroup{
		{PortalGroup: "lan", ID: 1, State: "standby", Preferred: true, SetBy: "initiator"},
		{PortalGroup: "wan", ID: 2, State: "active/optimized", SetBy: "initiator"},
	}
	if err != nil || l.ALUA == nil || !l.ALUA.Explicit || l.ALUA.Groups[0] != want[0] || l.ALUA.Groups[1] != want[1] {
		t.Errorf("%+v %v", l.ALUA, err)
	}
	no := false
	if err := r.cl.SetALUA(t.Context(), aluaTarget, 0, "lan", &api.ALUAChange{State: "active/optimized", Preferred: &no}); err != nil {
		t.Fatal(err)
	}
	r.changed(r.lan, "alua set")
	r.states(r.lan, 0x00, 0x00, 2, 1)

	for name, x := range map[string]struct {
		target, group string
		change        api.ALUAChange
		kind          error
		says          string
	}{
		"no target":   {"iqn.2026-11.com.example:none", "lan", api.ALUAChange{State: "standby"}, api.ErrNotFound, "there is no target"},
		"no group":    {aluaTarget, "man", api.ALUAChange{State: "standby"}, api.ErrNotFound, "it has lan, wan"},
		"no alua":     {"iqn.2026-11.com.example:changes", "lan", api.ALUAChange{State: "standby"}, api.ErrConflict, "write an alua block"},
		"wrong state": {aluaTarget, "lan", api.ALUAChange{State: "best"}, api.ErrInvalid, "write active/optimized, "},
		"nothing":     {aluaTarget, "lan", api.ALUAChange{}, api.ErrInvalid, "which state"},
	} {
		err := r.cl.SetALUA(t.Context(), x.target, 0, x.group, &x.change)
		if !errors.Is(err, x.kind) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDrift: what commands have changed is told apart from what a reload would.
func TestDrift(t *testing.T) {
	r := newRig(t, reloadA)
	cl := r.open(config.Console{}, nil)
	drift := func() string {
		p, err := cl.Plan(t.Context())
		if err != nil || len(p.Changes) > 0 {
			t.Fatalf("%+v %v", p, err)
		}
		var b strings.Builder
		planText(&b, p)
		return b.String()
	}
	if got := drift(); got != "Nothing changes.\n" {
		t.Error(got)
	}
	if err := errors.Join(
		cl.SetLUNOffline(t.Context(), aluaTarget, 0, true),
		cl.SetTargetOffline(t.Context(), "iqn.2026-11.com.example:changes", true),
		cl.SetLogLevels(t.Context(), &api.LogLevels{Level: "warn", Levels: map[string]string{"conn": "trace"}}),
	); err != nil {
		t.Fatal(err)
	}
	const tail = "  # not as configured, until it is changed back or the daemon is restarted\n    "
	want := "Nothing changes.\n" +
		`= target "iqn.2026-11.com.example:changes"` + tail + "state: online -> offline\n" +
		`= target "` + aluaTarget + `" lun "0"` + tail + "state: online -> offline\n" +
		`= log` + tail + "levels: info -> warn conn=trace\n"
	if got := drift(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestALUAByAPI: targets that are made through the API have it too.
func TestALUAByAPI(t *testing.T) {
	r := newALUARig(t)
	const name = "iqn.2026-11.com.example:made"
	spec := api.TargetSpec{
		Insecure: true, Groups: []string{"lan", "wan"},
		ALUA: &api.ALUASpec{Groups: []api.ALUAGroupSpec{{PortalGroup: "lan"}, {PortalGroup: "wan", State: "standby"}}},
		LUNs: []api.LUNSpec{
			{Number: 0, Backend: api.BackendSpec{Kind: "memory", Size: "1MiB"}},
			{Number: 1, Backend: api.BackendSpec{Kind: "memory", Size: "1MiB"}, ALUA: &api.ALUASpec{
				Explicit: true, Groups: []api.ALUAGroupSpec{{PortalGroup: "lan", State: "offline"}, {PortalGroup: "wan", Preferred: true}},
			}},
		},
	}
	for range 2 { // the second time it is there
		made, err := r.cl.EnsureTarget(t.Context(), name, &spec)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%+v %+v", *made.LUNs[0].ALUA, *made.LUNs[1].ALUA)
		want := "{Explicit:false Groups:[{PortalGroup:lan ID:1 State:active/optimized Preferred:false SetBy:configured}" +
			" {PortalGroup:wan ID:2 State:standby Preferred:false SetBy:configured}]}" +
			" {Explicit:true Groups:[{PortalGroup:lan ID:1 State:offline Preferred:false SetBy:configured}" +
			" {PortalGroup:wan ID:2 State:active/optimized Preferred:true SetBy:configured}]}"
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	spec.ALUA.Groups = spec.ALUA.Groups[:1]
	if _, err := r.cl.EnsureTarget(t.Context(), name+"2", &spec); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), `reached through portal group "wan" as well`) {
		t.Errorf("a group is missing: %v", err)
	}
}

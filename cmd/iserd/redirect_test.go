package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/iserd/iserd/initiator"
)

// redirectConfig is a target with lines, at a portal with arguments.
func redirectConfig(portal, lines string) string {
	return `
portal_group "lan" {
  tag = 1
  portal "127.0.0.1:PORT" {
    ` + portal + `
  }
}
backend "memory" "m" { size = "1MiB" }
target "iqn.2026-11.com.example:a" {
  insecure = true
  lun "0" { backend = backend.memory.m }
  ` + lines + `
}
`
}

// sentTo is where a login at the daemon is redirected to, "" if it goes through.
func (r *rig) sentTo() string {
	r.t.Helper()
	u, err := initiator.ParseURL("iscsi://" + r.addr + "/iqn.2026-11.com.example:a/0")
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := initiator.Connect(r.t.Context(), u, nil)
	if err == nil {
		s.Close()
		return ""
	}
	var e *initiator.LoginError
	if !errors.As(err, &e) {
		r.t.Fatal(err)
	}
	return e.Status.String() + ": " + e.TargetAddress
}

// TestRedirectReload: redirects and advertised addresses come and go with a reload,
// are told by `iserd ls`, and a session goes on all the while.
func TestRedirectReload(t *testing.T) {
	r := newRig(t, redirectConfig("", ""))
	s := r.connect("iqn.2026-11.com.example:a")
	a := &admin{control: r.ctl}
	for _, step := range []struct{ portal, lines, sent, shown string }{
		{"", "redirect { to = \"san2.example.com:3260\" }", "target moved temporarily: san2.example.com:3260", "no CHAP, logins go to san2.example.com:3260"},
		{"", "redirect {\n to = \"[2001:db8::2]:3260\"\n permanent = true\n }", "target moved permanently: [2001:db8::2]:3260", "no CHAP, logins go to [2001:db8::2]:3260"},
		{"redirect { to = \"192.0.2.1:3260\" }", "", "target moved temporarily: 192.0.2.1:3260", ", logins go to 192.0.2.1:3260"},
		{"advertise = \"203.0.113.7:13260\"", "", "", ", told as 203.0.113.7:13260"},
		{"", "", "", "no CHAP"},
	} {
		r.write(redirectConfig(step.portal, step.lines))
		if _, _, err := r.ctl.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.sentTo(); got != step.sent {
			t.Errorf("%+v: login: %q, want %q", step, got, step.sent)
		}
		portals, err := a.Portals(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		targets, err := a.Targets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text := portalState(&portals[0]) + "\n" + targetState(&targets[0])
		if !strings.Contains(text, step.shown) || step.shown == "no CHAP" && (strings.Contains(text, "go to") || strings.Contains(text, "told")) {
			t.Errorf("shown: %s", text)
		}
		if res, err := s.Exec(t.Context(), 0, make([]byte, 6), nil, 0); err != nil || res.Status != 0 {
			t.Errorf("the session: %v %+v", err, res)
		}
	}
}

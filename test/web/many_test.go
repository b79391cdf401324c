package web_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestMany: a page of a large daemon stays small, says what it leaves out, and finds it.
func TestMany(t *testing.T) {
	const targets, sessions = 120, 260
	var hcl strings.Builder
	hcl.WriteString("limits {\n  sessions = 2000\n  shutdown_timeout = \"0s\"\n}\nportal_group \"lan\" {\n  tag = 1\n  portal \"PORTAL\" {}\n}\n")
	for i := range targets {
		fmt.Fprintf(&hcl, "backend \"memory\" \"m%d\" { size = \"1MiB\" }\ntarget \"iqn.2026-11.com.example:t%d\" {\n  insecure = true\n  lun \"0\" { backend = backend.memory.m%d }\n}\n", i, i, i)
	}
	d := serve(t, hcl.String(), false)
	for i := range sessions {
		d.login(fmt.Sprintf("iqn.2026-11.com.example:host-%03d", i), "iqn.2026-11.com.example:t7")
	}
	all, err := d.api.Sessions(t.Context())
	if err != nil || len(all) != sessions {
		t.Fatal(len(all), err)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sessions are a document of %d KiB", sessions, len(text)>>10)

	b := open(t, d)
	b.view("sessions", "Sessions")
	b.waitText(fmt.Sprintf("Showing 200 of %d.", sessions))
	b.wait("document.querySelectorAll('tbody tr').length === 200")
	b.eval("document.querySelector('input[type=search]').focus()")
	b.keys("host-259 t7")
	b.wait("document.querySelectorAll('tbody tr').length === 1")
	b.waitText("host-259")

	b.view("luns", "Targets and LUNs")
	b.waitText(fmt.Sprintf("Showing 100 of %d targets.", targets))
	b.wait("document.querySelectorAll('section.target').length === 100")
	b.eval("document.querySelector('input[type=search]').focus()")
	b.keys("t119")
	b.wait("document.querySelectorAll('section.target').length === 1")

	// What would be long is folded.
	b.view("actors", "Actors")
	b.wait("document.querySelectorAll('tbody tr').length === 1 && document.querySelector('.fold').ariaExpanded === 'false'")
	b.press("button.fold", "▸")
	b.wait("document.querySelectorAll('tbody tr').length > 200")
	b.eval("document.querySelector('input[type=search]').focus()")
	b.keys("session-00ff")
	b.wait("document.querySelectorAll('tbody tr').length === 1")
}

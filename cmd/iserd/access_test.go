package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestServeAccess serves a configuration with mutual CHAP and with initiators
// that see different LUNs, and tries who gets in where.
func TestServeAccess(t *testing.T) {
	dir := t.TempDir()
	user := write(t, filepath.Join(dir, "user"), "secret-of-joe\n")
	own := write(t, filepath.Join(dir, "own"), "secret-of-iserd\n")
	lan, san := freePort(t), freePort(t)
	conf := write(t, filepath.Join(dir, "iserd.hcl"), fmt.Sprintf(`
portal_group "lan" {
  tag = 1
  portal %q {}
}
portal_group "san" {
  tag = 2
  portal %q {}
}
auth "mutual" {
  type = "mutual-chap"
  user "joe" { secret = file(%q) }
  mutual {
    user   = "iserd"
    secret = file(%q)
  }
}
auth "elsewhere" {
  type              = "none"
  initiator_address = ["192.0.2.0/24"]
}
backend "memory" "a" { size = "1MiB" }
backend "memory" "b" { size = "1MiB" }
backend "memory" "c" { size = "1MiB" }
target "iqn.2026-11.com.example:mutual" {
  auth          = "mutual"
  portal_groups = ["lan", "san"]
  lun "0" { backend = backend.memory.a }
}
target "iqn.2026-11.com.example:views" {
  portal_groups = ["san"]
  lun "0" { backend = backend.memory.b }
  initiator "iqn.2026-11.com.example:writer" {}
  initiator "iqn.2026-11.com.example:reader" {
    luns      = { "5" = "0" }
    read_only = ["5"]
  }
}
target "iqn.2026-11.com.example:elsewhere" {
  auth          = "elsewhere"
  portal_groups = ["lan"]
  lun "0" { backend = backend.memory.c }
}
`, lan, san, user, own))
	p := serve(t, portalLine, "--config", conf)
	p.waitFor(san)

	read := []string{"bench", "--count", "20", "--ramp", "0s", "--no-progress"}
	writes := append(slices.Clip(read), "--mode", "randwrite", "--overwrite")
	chap := []string{"--chap-user", "joe", "--chap-secret-file", user}
	mutual := append(slices.Clip(chap), "--target-chap-user", "iserd", "--target-chap-secret-file")
	as := func(name string) []string { return []string{"--initiator-name", "iqn.2026-11.com.example:" + name} }
	tests := []struct {
		name string
		ok   bool
		args []string
		more []string
		url  string
	}{
		{"mutual CHAP", true, read, append(slices.Clip(mutual), own), lan + "/iqn.2026-11.com.example:mutual/0"},
		{"mutual CHAP, other portal", true, read, append(slices.Clip(mutual), own), san + "/iqn.2026-11.com.example:mutual/0"},
		{"the target's secret is another", false, read, append(slices.Clip(mutual), user), lan + "/iqn.2026-11.com.example:mutual/0"},
		{"the target is not asked", false, read, chap, lan + "/iqn.2026-11.com.example:mutual/0"},
		{"writer writes", true, writes, as("writer"), san + "/iqn.2026-11.com.example:views/0"},
		{"reader reads", true, read, as("reader"), san + "/iqn.2026-11.com.example:views/5"},
		{"reader writes", false, writes, as("reader"), san + "/iqn.2026-11.com.example:views/5"},
		{"reader, LUN of the target", false, read, as("reader"), san + "/iqn.2026-11.com.example:views/0"},
		{"writer, LUN of the reader", false, read, as("writer"), san + "/iqn.2026-11.com.example:views/5"},
		{"a stranger", false, read, as("stranger"), san + "/iqn.2026-11.com.example:views/0"},
		{"the wrong portal", false, read, as("writer"), lan + "/iqn.2026-11.com.example:views/0"},
		{"the wrong address", false, read, nil, lan + "/iqn.2026-11.com.example:elsewhere/0"},
		{"no such target", false, read, nil, lan + "/iqn.2026-11.com.example:none/0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append(slices.Clip(tt.args), tt.more...)
			out, code := command(t, append(args, "iscsi://"+tt.url)...)
			want := "0"
			if !tt.ok {
				want = "1" // not 2: the command line is right
			}
			if code != want {
				t.Errorf("exit code %s, want %s:\n%s", code, want, out)
			}
		})
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(p.output(), "secret-of") {
		t.Errorf("a secret is in the log:\n%s", p.output())
	}
}

package config_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/iserd/iserd/config"
)

const base = `
log { level = "info" }
auth "a" {
  type = "chap"
  user "u" { secret = "0123456789abcdef" }
}
portal_group "lan" {
  tag = 1
  portal "127.0.0.1:3260" {}
}
backend "memory" "m" { size = "1GiB" }
backend "memory" "n" { size = "1GiB" }
target "iqn.2026-11.com.example:a" {
  auth = "a"
  lun "0" { backend = backend.memory.m }
}
target "iqn.2026-11.com.example:b" {
  insecure = true
  initiator "iqn.2026-11.com.example:x" {
    luns = { "0" = "0" }
  }
  lun "0" {
    backend = backend.memory.n
    filter "delay" { read = "1ms" }
  }
}
`

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, diags := config.Parse("t.hcl", []byte(text), config.WithHost(testHost()))
	if c == nil {
		t.Fatal(diags.Error())
	}
	return c
}

func TestDiff(t *testing.T) {
	const a, b = `target "iqn.2026-11.com.example:a"`, `target "iqn.2026-11.com.example:b"`
	for _, x := range []struct {
		name, old, new string // replaced in base
		want           []string
	}{
		{"nothing", "", "", nil},
		{"order of blocks", "log { level = \"info\" }", "", nil},
		{"alias", `auth = "a"`, "auth = \"a\"\nalias = \"x\"", []string{`~ ` + a + `  # sessions that are still admitted go on
    alias: "" -> "x"`}},
		{"secret", "0123456789abcdef", "fedcba9876543210", []string{`~ ` + a + `  # sessions that are still admitted go on
    user "u".secret: (secret) -> (another secret)`}},
		{"algorithms", `type = "chap"`, "type = \"chap\"\nalgorithms = [\"SHA-256\"]", []string{`~ ` + a + `  # sessions that are still admitted go on
    auth.algorithms: ["SHA3-256", "SHA-256", "SHA1", "MD5"] -> ["SHA-256"]`}},
		{"portal", "127.0.0.1:3260", "127.0.0.1:3261", []string{
			`- portal_group "lan" portal "127.0.0.1:3260"  # connections go on`,
			`+ portal_group "lan" portal "127.0.0.1:3261"`,
		}},
		{"transport", `portal "127.0.0.1:3260" {}`, `portal "127.0.0.1:3260" { transport = "tcp" }`, []string{
			`- portal_group "lan" portal "127.0.0.1:3260"  # connections go on`,
			`+ portal_group "lan" portal "127.0.0.1:3260"`,
		}},
		{"iser", `portal "127.0.0.1:3260" {}`, "portal \"127.0.0.1:3260\" {\niser { remote_invalidation = false }\n}", []string{
			`- portal_group "lan" portal "127.0.0.1:3260"  # connections go on`,
			`+ portal_group "lan" portal "127.0.0.1:3260"`,
		}},
		{"tag", "tag = 1", "tag = 2", []string{
			`- portal_group "lan" portal "127.0.0.1:3260"  # connections go on`,
			`+ portal_group "lan" portal "127.0.0.1:3260"`,
		}},
		{"advertised address", `3260" {}`, `3260" { advertise = "san:3260" }`, []string{
			`- portal_group "lan" portal "127.0.0.1:3260"  # connections go on`,
			`+ portal_group "lan" portal "127.0.0.1:3260"`,
		}},
		{"target redirected", `auth = "a"`, "auth = \"a\"\nredirect { to = \"san:3260\" }", []string{`~ ` + a + `  # sessions that are still admitted go on
    redirect: (none) -> { … }
    redirect.to: (none) -> "san:3260"
    redirect.permanent: (none) -> false`}},
		{"discovery", "tag = 1", "tag = 1\ndiscovery_auth = \"a\"", []string{`~ portal_group "lan"  # from the next discovery on`}},
		{"target renamed", "example:a", "example:c", []string{
			`+ target "iqn.2026-11.com.example:c"`, `- ` + a + `  # its sessions end`,
		}},
		{"lun grows", `"m" { size = "1GiB"`, `"m" { size = "2GiB"`, []string{`~ ` + a + ` lun "0"  # sessions go on and are told
    backend.size: "1GiB" -> "2GiB"`}},
		{"lun shrinks", `"m" { size = "1GiB"`, `"m" { size = "1MiB"`, []string{`~ ` + a + ` lun "0"  # taken away and added again; other LUNs and sessions go on`}},
		{"filter", `read = "1ms"`, `read = "2ms"`, []string{`~ ` + b + ` lun "0"  # taken away and added again; other LUNs and sessions go on
    filter "delay".read: "1ms" -> "2ms"`}},
		{"lun number", `lun "0" { backend = backend.memory.m }`, `lun "1" { backend = backend.memory.m }`, []string{
			`+ ` + a + ` lun "1"  # sessions go on and are told`,
			`- ` + a + ` lun "0"  # sessions go on and are told`,
		}},
		{"alua", "lun \"0\" { backend = backend.memory.m }", "alua {\ngroup \"lan\" { preferred = true }\n}\nlun \"0\" { backend = backend.memory.m }", []string{
			`~ ` + a + ` lun "0"  # sessions go on and are told
    alua: (none) -> { … }
    alua.explicit: (none) -> false
    alua.group "lan": (none) -> { … }
    alua.group "lan".state: (none) -> "active/optimized"
    alua.group "lan".preferred: (none) -> true
    portal_group "lan".tag: (none) -> 1`,
		}},
		{"initiator", `luns = { "0" = "0" }`, `luns = { "1" = "0" }`, []string{`~ ` + b}},
		{"log level", `level = "info"`, `level = "debug"`, []string{"~ log\n    log.level: \"info\" -> \"debug\""}},
		{"log file", `log { level = "info"`, "log {\noutput = \"file:/tmp/x\"\nlevel = \"info\"\n", []string{"~ log\n    log.output: \"stderr\" -> \"file:/tmp/x\""}},
		{"limits", `log {`, "limits { sessions = 5 }\nlog {", []string{"~ limits\n    limits.sessions: 1024 -> 5"}},
		{"http", `log {`, "http { listen = \"127.0.0.1:9260\" }\nlog {", []string{"~ console\n    http.listen: (none) -> \"127.0.0.1:9260\""}},
		{"restart", `log {`, "limits { buffer_memory = \"2GiB\" }\nnode { name = \"x\" }\nlog {", []string{
			"! settings  # not in force until the daemon is restarted\n    node.name: \"\" -> \"x\"\n    limits.buffer_memory: 1GiB -> 2GiB",
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			if !strings.Contains(base, x.old) {
				t.Fatal("base has no", x.old)
			}
			got := config.Diff(parsed(t, base), parsed(t, strings.Replace(base, x.old, x.new, 1)))
			if len(got) != len(x.want) {
				t.Fatalf("%d changes, want %d:\n%s", len(got), len(x.want), lines(got))
			}
			for i := range got {
				if !strings.HasPrefix(got[i].String(), x.want[i]) {
					t.Errorf("got\n%s\nwant\n%s", got[i].String(), x.want[i])
				}
			}
		})
	}
}

func lines(all []config.Change) string {
	var b strings.Builder
	for i := range all {
		fmt.Fprintln(&b, all[i].String())
	}
	return b.String()
}

func TestDiffShowsNoSecret(t *testing.T) {
	now := strings.Replace(base, "0123456789abcdef", "fedcba9876543210", 1)
	if text := lines(config.Diff(parsed(t, base), parsed(t, now))); strings.Contains(text, "9876") || strings.Contains(text, "0123") {
		t.Error(text)
	}
}

// TestPrint: what is printed means the same, but for secrets.
func TestPrint(t *testing.T) {
	for name, text := range map[string]string{"base": base, "full": full} {
		c := parsed(t, text)
		out := string(config.Print(c))
		if strings.Contains(out, "0123456789abcdef") {
			t.Errorf("a secret is shown:\n%s", out)
		}
		out = strings.ReplaceAll(out, `"(secret)"`, `"0123456789abcdef"`)
		if name == "full" {
			continue // its secrets have to differ; it shows that every kind can be printed
		}
		again := parsed(t, out)
		if d := cmp.Diff(c, again, cmpopts.IgnoreTypes(config.Source{}, config.Secret{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.AddrPort{})); d != "" {
			t.Errorf("%s: %s\n%s", name, d, out)
		}
	}
}

// TestPrintGiven: text is never evaluated.
func TestPrintGiven(t *testing.T) {
	c := &config.Config{
		PortalGroups: []config.PortalGroup{{Name: "lan", Tag: 1, Portals: []config.Portal{{Address: "127.0.0.1:3260"}}}},
		Backends:     []config.Backend{{Kind: config.BackendMemory, Name: "x", Memory: &config.MemoryBackend{Size: 1 << 30}}},
		Targets: []config.Target{{
			Name: "iqn.2026-11.com.example:a", Alias: `${file("/etc/passwd")} "quoted" %{if true}`, Insecure: true,
			LUNs: []config.LUN{{Label: "3", Backend: config.BackendRef{Kind: config.BackendMemory, Name: "x"}}},
		}},
	}
	text := config.PrintGiven(c)
	got := parsed(t, string(text))
	if a := got.Targets[0].Alias; a != c.Targets[0].Alias {
		t.Errorf("alias became %q\n%s", a, text)
	}
	if l := got.Targets[0].LUNs[0]; l.Number != 3 || l.BlockSize != 512 || !l.WriteCache {
		t.Errorf("%+v", l)
	}
}

// TestALUAOf: a LUN's own block takes the place of its target's.
func TestALUAOf(t *testing.T) {
	text := strings.Replace(base, "auth = \"a\"\n  lun \"0\" {", `auth = "a"
  alua {
    group "lan" { state = "standby" }
  }
  lun "1" {
    backend = backend.memory.o
    alua {
      explicit = true
      group "lan" { preferred = true }
    }
  }
  lun "0" {`, 1)
	c := parsed(t, text+"\nbackend \"memory\" \"o\" { size = \"1MiB\" }")
	a := &c.Targets[0]
	own, general := a.ALUAOf(&a.LUNs[0]), a.ALUAOf(&a.LUNs[1])
	if g := own.Group("lan"); !own.Explicit || g.State != config.StateOptimized || !g.Preferred {
		t.Errorf("LUN 1: %+v", own)
	}
	if g := general.Group("lan"); general.Explicit || g.State != config.StateStandby || g.Preferred {
		t.Errorf("LUN 0: %+v", general)
	}
	if b := &c.Targets[1]; b.ALUAOf(&b.LUNs[0]) != nil {
		t.Error("ALUA of another target")
	}
	// Only the LUN without a block of its own follows the target's.
	now := parsed(t, strings.Replace(text, "\"standby\"", "\"unavailable\"", 1)+"\nbackend \"memory\" \"o\" { size = \"1MiB\" }")
	if got := config.Diff(c, now); len(got) != 1 || got[0].Action != config.ChangeALUA || got[0].LUN != 0 {
		t.Errorf("changes:\n%s", lines(got))
	}
}

// TestDiffSecret: another secret of operators is seen and not shown.
func TestDiffSecret(t *testing.T) {
	page := func(secret string) *config.Config {
		return parsed(t, base+"http {\n  listen = \"127.0.0.1:9260\"\n  secret = \""+secret+"\"\n}\n")
	}
	const one, two = "0123456789abcdef0123", "another-0123456789ab"
	if got := config.Diff(page(one), page(one)); len(got) != 0 {
		t.Errorf("the same secret differs: %v", got)
	}
	got := config.Diff(page(one), page(two))
	if len(got) != 1 || got[0].Action != config.ChangeConsole || len(got[0].Details) != 1 {
		t.Fatalf("%+v", got)
	}
	if text := got[0].String(); !strings.Contains(text, "http.secret") || strings.Contains(text, one) || strings.Contains(text, two) {
		t.Error(text)
	}
}

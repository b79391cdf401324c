package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iserd/iserd/config"
)

func TestSecretNeverPrints(t *testing.T) {
	const canary = "canary-0123456"
	s := config.NewSecret(canary)
	holder := struct {
		S config.Secret
		P *config.Secret
		M map[string]config.Secret
	}{s, &s, map[string]config.Secret{"x": s}}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", s, holder)
	}
	j, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	if got := out.String(); strings.Contains(got, canary) || strings.Contains(got, fmt.Sprintf("%x", canary)) {
		t.Errorf("the secret shows:\n%s", got)
	}
	if string(s.Reveal()) != canary || s.Len() != len(canary) || s.IsZero() || !s.Equal(config.NewSecret(canary)) {
		t.Error("the secret is not what it was made of")
	}
	if (config.Secret{}).String() != "" {
		t.Error("no secret prints as one")
	}
}

// TestSecretInDiagnostics looks for a canary in everything that is said about
// configurations that hold it, right or wrong.
func TestSecretInDiagnostics(t *testing.T) {
	const canary = "canary-0123456"
	host := testHost()
	host.env["CANARY"] = canary
	host.files["/etc/iserd/s/canary"] = fakeFile{data: canary + "\n", mode: 0o600}
	good := withAuth("type = \"chap\"\nuser \"u\" { secret = \"" + canary + "\" }")
	tests := []struct{ name, src string }{
		{"right", good},
		{"duplicate user", withAuth("type = \"chap\"\nuser \"u\" { secret = \"" + canary + "\" }\nuser \"u\" { secret = \"" + canary + "\" }")},
		{"long secret", withAuth("type = \"chap\"\nuser \"u\" { secret = \"" + canary + canary + "\" }")},
		{"not closed", "auth \"a\" {\nuser \"u\" {\nsecret = \"" + canary + "\n}\n}\n"},
		{"not closed, one line", "auth \"a\" {\nuser \"u\" { secret = \"" + canary},
		{"two in a line", "auth \"a\" {\nuser \"u\" { secret = \"" + canary + "\", x = 1 }\n}\n"},
		{"no equals sign", "auth \"a\" {\nuser \"u\" { secret \"" + canary + "\" }\n}\n"},
		{"misspelt", withAuth("type = \"chap\"\nuser \"u\" { secrt = \"" + canary + "\" }")},
		{"as others call it", withAuth("type = \"chap\"\nuser \"u\" { password = \"" + canary + "\" }")},
		{"heredoc", withAuth("type = \"chap\"\nuser \"u\" {\nsecret = <<EOT\n" + canary + canary + "\nEOT\n}\nuser \"u\" {\nsecret = <<EOT\n" + canary + canary + "\nEOT\n}")},
		{"in a local", "locals { x = \"" + canary + "\" }\n" + withAuth("type = \"chap\"\nuser \"u\" { secret = local.x }\nmutual { secret = local.x }")},
		{"local in a name", "locals { x = file(\"/etc/iserd/s/canary\") }\n" + withTop("node { name = local.x }")},
		{"in a size", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = file(\"/etc/iserd/s/canary\") }")},
		{"through size()", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = size(file(\"/etc/iserd/s/canary\")) }")},
		{"through format()", withTop("node { name = format(\"%d\", file(\"/etc/iserd/s/canary\")) }")},
		{"as a file", withAuth("type = \"chap\"\nuser \"u\" { secret = file(file(\"/etc/iserd/s/canary\")) }")},
		{"as an index", withAuth("type = \"chap\"\nuser \"u\" { secret = local[file(\"/etc/iserd/s/canary\")] }")},
		{"template", withAuth("type = \"chap\"\nuser \"u\" { secret = \"x${env(\"CANARY\")}${nothing}\" }")},
		{"wrong block", withAuth("type = \"none\"\nuser \"u\" { secret = \"" + canary + "\" }")},
		{"wrong argument next to it", withAuth("type = \"chap\"\nuser \"u\" {\nsecrt = 1\nsecret = \"" + canary + "\"\n}")},
		{"both ways", withAuth("type = \"mutual-chap\"\nuser \"u\" { secret = \"" + canary + "\" }\nmutual {\nuser = \"t\"\nsecret = \"" + canary + "\"\n}")},
		{"default of env", withAuth("type = \"none\"\nuser \"u\" { secret = env(\"NOPE\", \"" + canary + "\") }")},
		{"as a backend", lan + mem + strings.Replace(scratch, "backend.memory.m", "file(\"/etc/iserd/s/canary\")", 1)},
		{"short", withAuth("type = \"chap\"\nuser \"u\" { secret = \"canary-012\" }")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, diags := config.Parse("s.hcl", []byte(tt.src), config.WithHost(host))
			var out bytes.Buffer
			if err := diags.WriteText(&out, 78, true); err != nil {
				t.Fatal(err)
			}
			j, err := json.Marshal(diags)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(j)
			fmt.Fprintf(&out, "\n%s\n%v %+v %#v\n", diags.Error(), diags.Entries(), c, c)
			if j, err = json.Marshal(c); err != nil {
				t.Fatal(err)
			}
			out.Write(j)
			if strings.Contains(out.String(), "canary-0") {
				t.Errorf("the secret shows:\n%s", out.String())
			}
			if (c == nil) != diags.HasErrors() {
				t.Errorf("configuration %v with errors %v", c != nil, diags.HasErrors())
			}
		})
	}
}

// TestSecretFileMode uses the machine itself.
func TestSecretFileMode(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	conf := filepath.Join(dir, "iserd.hcl")
	tests := []struct {
		name             string
		inline           bool
		secretM, configM os.FileMode
		want             string
	}{
		{"private file", false, 0o600, 0o644, ""},
		{"group may read", false, 0o640, 0o644, ""},
		{"all may read", false, 0o644, 0o600, "open to every user"},
		{"all may write", false, 0o602, 0o600, "open to every user"},
		{"in a private configuration", true, 0o600, 0o640, ""},
		{"in a public configuration", true, 0o600, 0o644, "Secret in a file that everybody can read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expr := fmt.Sprintf("file(%q)", secret)
			if tt.inline {
				expr = `"written-in-it"`
			}
			write(t, secret, "kept-in-a-file\n", tt.secretM)
			write(t, conf, withAuth("type = \"chap\"\nuser \"u\" { secret = "+expr+" }"), tt.configM)
			c, diags := config.Load(conf)
			if tt.want == "" && c == nil {
				t.Fatal(diags.Error())
			}
			if tt.want != "" && !strings.Contains(diags.Error(), tt.want) {
				t.Errorf("got %q, want %q", diags.Error(), tt.want)
			}
		})
	}
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // past the umask
		t.Fatal(err)
	}
}

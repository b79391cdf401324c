package config_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/config"
)

// loadFiles loads files of a directory that exist only in the test.
func loadFiles(files map[string]string, paths ...string) (*config.Config, config.Diagnostics) {
	h := testHost()
	h.files["/c"] = fakeFile{mode: fs.ModeDir | 0o755}
	for name, text := range files {
		h.files["/c/"+name] = fakeFile{data: text, mode: 0o640}
	}
	return config.LoadWith([]config.Option{config.WithHost(h)}, paths...)
}

func TestLoadDirectory(t *testing.T) {
	c, diags := loadFiles(map[string]string{
		"20-target.hcl": scratch,
		"10-base.hcl":   lan + "locals { a = \"1GiB\" }\n",
		"15-disk.hcl":   "backend \"memory\" \"m\" { size = local.a }\n",
		"notes.txt":     "not a configuration {",
	}, "/c")
	if c == nil {
		t.Fatal(diags.Error())
	}
	if d := cmp.Diff([]string{"/c/10-base.hcl", "/c/15-disk.hcl", "/c/20-target.hcl"}, c.Files); d != "" {
		t.Error(d)
	}
}

func TestLoadConflicts(t *testing.T) {
	base := map[string]string{"a.hcl": "log { level = \"info\" }\n" + lan + mem + scratch}
	tests := []struct{ name, more, want string }{
		{"log", "\nlog {}", "/c/b.hcl:2:1: Duplicate log block: There is one log block only; it was already written at /c/a.hcl:1:1."},
		{"target", "target \"iqn.2026-11.com.example:t\" {\ninsecure = true\n}", "/c/b.hcl:1:8: Duplicate target: The target \"iqn.2026-11.com.example:t\" was already defined at /c/a.hcl:7:8."},
		{"backend", mem, "/c/b.hcl:1:18: Duplicate backend: The backend \"backend.memory.m\" was already defined at /c/a.hcl:6:18."},
		{"portal", "portal_group \"b\" {\ntag = 2\nportal \"127.0.0.1:3260\" {}\n}", "/c/b.hcl:3:8: Duplicate portal: The portal \"127.0.0.1:3260\" was already defined at /c/a.hcl:4:8."},
		{"argument at top", "x = 1", "/c/b.hcl:1:1: Unsupported argument"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, diags := loadFiles(map[string]string{"a.hcl": base["a.hcl"], "b.hcl": tt.more}, "/c/a.hcl", "/c/b.hcl")
			if !strings.Contains(diags.Error(), tt.want) {
				t.Errorf("got\n%s\nwant\n%s", diags.Error(), tt.want)
			}
		})
	}
}

func TestLoadProblems(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		paths []string
		want  string
	}{
		{"nothing given", nil, nil, "No configuration"},
		{"empty directory", nil, []string{"/c"}, "No configuration"},
		{"no such file", nil, []string{"/c/none.hcl"}, "file does not exist"},
		{"given twice", map[string]string{"a.hcl": lan}, []string{"/c/a.hcl", "/c"}, "given twice"},
		{"a secret directory", nil, []string{"/srv/luns/pipe"}, "Cannot read the configuration"},
		{"deep", map[string]string{"a.hcl": "node { name = " + strings.Repeat("[", 300) + strings.Repeat("]", 300) + " }"}, []string{"/c"}, "/c/a.hcl:1:214: Nested too deeply"},
		{"many operators", map[string]string{"a.hcl": "node { name = " + strings.Repeat("!\n", 3) + strings.Repeat("!", 1e6) + "true }"}, []string{"/c"}, "Nested too deeply"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, diags := loadFiles(tt.files, tt.paths...)
			if c != nil || !strings.Contains(diags.Error(), tt.want) {
				t.Errorf("got %q, want %q", diags.Error(), tt.want)
			}
		})
	}
}

// TestLoadFIFO: a pipe in the place of a file must not make the daemon wait.
func TestLoadFIFO(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe.hcl")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, diags := config.Load(name); !strings.Contains(diags.Error(), "not a regular file") {
		t.Error(diags.Error())
	}
	if _, diags := config.Load(os.DevNull); !strings.Contains(diags.Error(), "not a regular file") {
		t.Error(diags.Error())
	}
}

func TestDiagnosticsText(t *testing.T) {
	src := "target \"iqn.2026-11.com.example:t\" {\n  portal_group = [\"lan\"]\n}\n"
	_, diags := config.Parse("target.hcl", []byte(src), config.WithHost(testHost()))
	var b strings.Builder
	if err := diags.WriteText(&b, 78, false); err != nil {
		t.Fatal(err)
	}
	want := `Error: Unsupported argument

  on target.hcl line 2, in target "iqn.2026-11.com.example:t":
   2:   portal_group = ["lan"]

An argument named "portal_group" is not expected here. Did you mean
"portal_groups"?

`
	if !strings.Contains(b.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	j, err := json.Marshal(diags)
	if err != nil {
		t.Fatal(err)
	}
	const wantJSON = `{"severity":"error","summary":"Unsupported argument","detail":"An argument named \"portal_group\" is not expected here. Did you mean \"portal_groups\"?","file":"target.hcl","line":2,"col":3}`
	if !strings.Contains(string(j), wantJSON) {
		t.Errorf("got\n%s\nwant\n%s", j, wantJSON)
	}
	if j, err = json.Marshal(config.Diagnostics{}); err != nil || string(j) != "[]" {
		t.Errorf("no diagnostics are %s, %v", j, err)
	}
}

// TestDiagnosticsOrder: maps are on the way, and the report is the same each time.
func TestDiagnosticsOrder(t *testing.T) {
	src := "node {\nz = 1\ny = 2\nx = 3\nw = 4\n}\nlog {\nlevel = 1\nformat = 2\noutput = 3\n}\nlocals {\nb = q\na = r\n}\n"
	var first string
	for range 20 {
		_, diags := config.Parse("o.hcl", []byte(src), config.WithHost(testHost()))
		if first == "" {
			first = diags.Error()
		}
		if diags.Error() != first {
			t.Fatalf("first\n%s\nthen\n%s", first, diags.Error())
		}
	}
}

package config_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/iserd/iserd/config"
)

// exampleHost has what the examples speak of.
func exampleHost() *fakeHost {
	h := &fakeHost{files: map[string]fakeFile{
		"/srv/luns": {mode: fs.ModeDir | 0o755},
		"/dev/disk/by-id/nvme-eui.0025388b11b0a5c1": {mode: fs.ModeDevice | 0o660},
		"/dev/disk/by-id/scsi-35000c500a1b2c3d4":    {mode: fs.ModeDevice | 0o660},
	}}
	for _, name := range []string{"web", "db1", "db2", "iserd", "esx", "esx01"} {
		h.files["/etc/iserd/secrets/"+name] = fakeFile{data: "secret-of-" + name + "\n", mode: 0o600}
	}
	return h
}

// check parses text as the daemon would and wants no message at all.
func check(t *testing.T, name string, text []byte) {
	t.Helper()
	c, diags := config.Parse(name, text, config.WithHost(exampleHost()))
	if c == nil || diags.Len() > 0 {
		t.Errorf("%v", diags.Entries())
	}
	if d := cmp.Diff(string(hclwrite.Format(text)), string(text)); d != "" {
		t.Errorf("not formatted as hclfmt does:\n%s", d)
	}
}

func TestExamples(t *testing.T) {
	names, err := filepath.Glob("../examples/*.hcl")
	if err != nil || len(names) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			check(t, name, text)
		})
	}
}

// TestDocumentedConfigurations parses the configurations in the documents.
func TestDocumentedConfigurations(t *testing.T) {
	fence := regexp.MustCompile("(?s)```hcl\n(.*?)```")
	for _, name := range []string{"../README.md", "../docs/config.md"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found := fence.FindAllSubmatch(text, -1)
			if len(found) == 0 {
				t.Fatal("no configuration in the document")
			}
			for _, m := range found {
				check(t, name, m[1])
			}
		})
	}
}

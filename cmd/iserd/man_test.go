package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/iserd/iserd/test/lab"
)

// TestEveryCommandIsDescribed: the pages are as good as the tree.
func TestEveryCommandIsDescribed(t *testing.T) {
	started := false
	root := newRoot(&started)
	root.InitDefaultCompletionCmd()
	checkText(t, root)
}

func endsAsText(s string) bool { return strings.HasSuffix(s, ".") || strings.HasSuffix(s, "\n") }

func checkText(t *testing.T, c *cobra.Command) {
	t.Helper()
	name := c.CommandPath()
	if c.Short == "" || endsAsText(c.Short) || len(c.Short) > 90 {
		t.Errorf("%s: short description %q", name, c.Short)
	}
	if c.Runnable() && c.Long == "" && c.Example == "" {
		t.Errorf("%s has neither a description nor an example", name)
	}
	for line := range strings.SplitSeq(c.Example, "\n") {
		if c.Parent() != nil && c.Parent().Name() != "completion" && line != "" && !strings.Contains(line, "iserd ") && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			t.Errorf("%s: example %q", name, line)
		}
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Usage == "" || endsAsText(f.Usage) {
			t.Errorf("%s --%s: %q", name, f.Name, f.Usage)
		}
	})
	for _, sub := range c.Commands() {
		checkText(t, sub)
	}
}

// TestManPages: every command has a page or a section, and man has nothing to say
// against any page.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	started := false
	root := newRoot(&started)
	if err := writeDocs(root, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range runnable(root, "") {
		words := strings.Fields(name)
		if words[0] == "man" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "man/man8/iserd-"+words[0]+".8"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Contains(b, []byte("\n.B iserd "+roff(name))) || len(words) > 1 && !bytes.Contains(b, []byte("\n.SS "+roff(name))) {
			t.Errorf("%s is not on its page", name)
		}
	}
	lab.NeedTools(t, "man")
	pages, err := filepath.Glob(filepath.Join(dir, "man/man8/*.8"))
	if err != nil || len(pages) < 20 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANPAGER=cat")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || errs.Len() > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(page), err, &errs)
		}
		if !strings.Contains(out.String(), "SYNOPSIS") {
			t.Errorf("%s: nothing comes out:\n%s", filepath.Base(page), &out)
		}
	}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan writes the manual pages from the command tree. Cobra's own generator
// goes by way of Markdown and two more modules; a page needs only these few
// macros.
func newMan() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "man [COMMAND]",
		Short:  "Write the manual pages and completions",
		Hidden: true,
		Long: `Man writes a manual page, iserd(8) or that of a command, as roff: try
"iserd man trace | man -l -". With --dir it writes all of them, and completions
for bash, zsh and fish, to where they are looked for below a prefix such as
/usr/share.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if dir != "" {
				return writeDocs(root, dir)
			}
			if len(args) == 0 {
				_, err := cmd.OutOrStdout().Write(mainPage(root))
				return err
			}
			sub, _, err := root.Find(args)
			if err != nil || !documented(sub) {
				return usageError(fmt.Errorf("there is no page of a command %q", args[0]))
			}
			_, err = cmd.OutOrStdout().Write(commandPage(sub))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write all pages and completions below `DIR`")
	return cmd
}

// documented reports whether a command has a page, or a section of one.
func documented(c *cobra.Command) bool { return c.IsAvailableCommand() && c.Name() != "help" }

// writeDocs writes all pages and completions below a prefix.
func writeDocs(root *cobra.Command, dir string) error {
	root.InitDefaultCompletionCmd()
	files := map[string][]byte{"man/man8/iserd.8": mainPage(root)}
	for _, c := range root.Commands() {
		if documented(c) {
			files["man/man8/"+pageName(c)+".8"] = commandPage(c)
		}
	}
	for name, write := range map[string]func(io.Writer) error{
		"bash-completion/completions/iserd":    func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh/vendor-completions/_iserd":        root.GenZshCompletion,
		"fish/vendor_completions.d/iserd.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		files[name] = b.Bytes()
	}
	for name, b := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func pageName(c *cobra.Command) string { return "iserd-" + c.Name() }

// roff escapes text for the body of a page.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", "...", "µ", `\(mc`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// lower begins a short description in lower case, unless it is a name.
func lower(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func title(b *bytes.Buffer, name, short string) {
	fmt.Fprintf(b, ".TH %s 8 \"\" \"iserd\" \"System Administration\"\n", strings.ToUpper(roff(name)))
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", roff(name), roff(lower(short)))
}

// mainPage is iserd(8).
func mainPage(root *cobra.Command) []byte {
	var b bytes.Buffer
	title(&b, "iserd", root.Short)
	b.WriteString(".SH SYNOPSIS\n.B iserd\n.I COMMAND\n[options]\n")
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(root.Long))
	b.WriteString(".SH COMMANDS\n")
	for _, c := range root.Commands() {
		if documented(c) {
			fmt.Fprintf(&b, ".TP\n.BR %s (8)\n%s\n", roff(pageName(c)), roff(c.Short))
		}
	}
	b.WriteString(".SH COMMON OPTIONS\nCommands that talk to a daemon have these.\n")
	(&link{}).flags(&cobra.Command{}).LocalFlags().VisitAll(func(f *pflag.Flag) { option(&b, f) })
	b.WriteString(".SH SIGNALS\n.TP\n.BR SIGTERM \", \" SIGINT\nend the sessions, write what is cached and exit; a second one exits at once\n" +
		".TP\n.B SIGHUP\nread the configuration again and apply what has changed, all or nothing; sessions of targets that stay as they are go on\n")
	fmt.Fprintf(&b, ".SH ENVIRONMENT\n.TP\n.B %s\nwhere the console is, for commands that talk to a daemon and for a daemon whose configuration has no console block; unix:/PATH\n", consoleEnv)
	fmt.Fprintf(&b, ".SH FILES\n.TP\n.I %s\nthe configuration, described in docs/config.md\n.TP\n.I %s/*.hcl\nmore of it\n"+
		".TP\n.I $XDG_STATE_HOME/iserd/history\nlines of\n.B iserd console\n", roff(defaultConfig), roff(defaultConfigDir))
	return b.Bytes()
}

// isClient reports whether a command talks to a daemon. The options that all of
// these have are told once, in iserd(8).
func isClient(c *cobra.Command) bool { return c.Flags().Lookup("console") != nil }

func common(f *pflag.Flag) bool {
	switch f.Name {
	case "console", "cert", "key", "ca", "output", "timeout":
		return true
	default:
		return false
	}
}

// commandPage is the page of a command, with a section for each that is below it.
func commandPage(c *cobra.Command) []byte {
	var b bytes.Buffer
	title(&b, pageName(c), c.Short)
	b.WriteString(".SH SYNOPSIS\n")
	client := synopsis(&b, c)
	b.WriteString(".SH DESCRIPTION\n")
	body(&b, c, ".SH OPTIONS\n", ".SH EXAMPLES\n")
	if len(c.Commands()) > 0 {
		b.WriteString(".SH COMMANDS\n")
		sections(&b, c)
	}
	b.WriteString(".SH SEE ALSO\n.BR iserd (8)\n")
	if client {
		b.WriteString("has the options of all commands that talk to a daemon, such as\n.B \\-\\-console\nand\n.BR \\-\\-output ,\nand the exit codes.\n")
	}
	return b.Bytes()
}

// synopsis lists how the command and those below it are called.
func synopsis(b *bytes.Buffer, c *cobra.Command) (client bool) {
	if c.Runnable() {
		use := strings.TrimSuffix(c.UseLine(), " [flags]")
		fmt.Fprintf(b, ".nf\n.B %s [options]\n.fi\n", roff(use))
		client = isClient(c)
	}
	for _, sub := range c.Commands() {
		if documented(sub) && synopsis(b, sub) {
			client = true
		}
	}
	return client
}

func sections(b *bytes.Buffer, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if !documented(sub) {
			continue
		}
		fmt.Fprintf(b, ".SS %s\n", roff(strings.TrimSuffix(strings.TrimPrefix(sub.UseLine(), "iserd "), " [flags]")))
		body(b, sub, "", "")
		sections(b, sub)
	}
}

// body describes a command: its text, its options, its examples.
func body(b *bytes.Buffer, c *cobra.Command, options, examples string) {
	if c.Long == "" {
		b.WriteString(paragraphs(c.Short + "."))
	} else {
		b.WriteString(paragraphs(c.Long))
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || common(f) && isClient(c) {
			return
		}
		b.WriteString(options)
		options = ""
		option(b, f)
	})
	if c.Example != "" {
		if examples == "" {
			examples = ".PP\nExamples:\n"
		}
		fmt.Fprintf(b, "%s.PP\n.nf\n%s\n.fi\n", examples, roff(strings.Trim(c.Example, "\n")))
	}
}

func option(b *bytes.Buffer, f *pflag.Flag) {
	arg, usage := pflag.UnquoteUsage(f)
	name := roff("--" + f.Name)
	if f.Shorthand != "" {
		name = roff("-"+f.Shorthand) + ", " + name
	}
	fmt.Fprintf(b, ".TP\n.B %s %s\n%s\n", name, roff(arg), roff(usage))
}

// paragraphs keeps indented lines as they are and fills the others.
func paragraphs(s string) string {
	var b strings.Builder
	for para := range strings.SplitSeq(strings.TrimSpace(s), "\n\n") {
		if strings.HasPrefix(para, " ") || strings.Contains(para, "\n ") {
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", roff(para))
			continue
		}
		fmt.Fprintf(&b, ".PP\n%s\n", roff(para))
	}
	return b.String()
}

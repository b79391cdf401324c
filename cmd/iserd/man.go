package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan writes iserd(8) from the command tree. Cobra's own generator goes by
// way of Markdown and two more modules; a page needs only these few macros.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man",
		Short:  "Write the manual page iserd(8)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return writeMan(cmd.OutOrStdout(), cmd.Root())
		},
	}
}

// roff escapes text for the body of a page.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "…", "...").Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func writeMan(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	b.WriteString(".TH ISERD 8 \"\" \"iserd\" \"System Administration\"\n")
	fmt.Fprintf(&b, ".SH NAME\niserd \\- %s\n", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	b.WriteString(".SH SYNOPSIS\n.B iserd\n.I COMMAND\n[options]\n")
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(root.Long))
	b.WriteString(".SH COMMANDS\n")
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			manCommand(&b, c)
		}
	}
	b.WriteString(".SH SIGNALS\n.TP\n.BR SIGTERM \", \" SIGINT\nend the sessions, write what is cached and exit; a second one exits at once\n" +
		".TP\n.B SIGHUP\nread the configuration again and apply what has changed, all or nothing; sessions of targets that stay as they are go on\n")
	fmt.Fprintf(&b, ".SH ENVIRONMENT\n.TP\n.B %s\nwhere the console is, for commands that talk to a daemon, which take the options of\n.B iserd status\n"+
		"and for a daemon whose configuration has no console block; unix:/PATH\n", consoleEnv)
	fmt.Fprintf(&b, ".SH FILES\n.TP\n.I %s\nthe configuration, described in docs/config.md\n.TP\n.I %s/*.hcl\nmore of it\n",
		roff(defaultConfig), roff(defaultConfigDir))
	_, err := io.WriteString(w, b.String())
	return err
}

// consoleFlags are those of every command that talks to a daemon: they are told
// once, with the first of them.
var consoleFlags = map[string]bool{"console": true, "cert": true, "key": true, "ca": true, "output": true, "timeout": true}

func isClient(c *cobra.Command) bool { return c.Flags().Lookup("console") != nil }

// manCommand writes one command's section.
func manCommand(b *strings.Builder, c *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short
	}
	fmt.Fprintf(b, ".SS %s\n%s", roff(c.UseLine()), paragraphs(text))
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || consoleFlags[f.Name] && c.Name() != "status" && isClient(c) {
			return
		}
		arg, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = `\-` + f.Shorthand + ", "
		}
		fmt.Fprintf(b, ".TP\n.B %s%s %s\n%s\n", short, roff("--"+f.Name), roff(arg), roff(usage))
	})
	if c.Example != "" {
		fmt.Fprintf(b, ".PP\nExamples:\n.PP\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			manCommand(b, sub)
		}
	}
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

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show and reload the configuration of the daemon"}
	c := &link{}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "print", Short: "Print the configuration in force, without secrets", Args: cobra.NoArgs,
		Long: `Print writes what is in force as one file, with defaults and with what was made
through the API; secrets are left out.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			text, err := cl.ConfigText(ctx)
			if err != nil {
				return err
			}
			return c.raw(w, text)
		}),
	}), c.flags(&cobra.Command{
		Use: "diff", Short: "Show what a reload would change, and what is not as configured", Args: cobra.NoArgs,
		Long: `Diff compares the configuration files with what is in force: + is added, - is
removed, ~ changes, ! waits for a restart of the daemon.

Lines that begin with = are not about the files: something was changed while the
daemon runs, by a command or by an initiator, and is not as configured. A reload
leaves it alone, a restart of the daemon ends it.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			p, err := cl.Plan(ctx)
			if err != nil {
				return c.refusedConfig(w, err)
			}
			return c.show(w, p, func(w io.Writer) { planText(w, p) })
		}),
	}), c.flags(&cobra.Command{
		Use: "reload", Short: "Read the files again and apply what has changed, all or nothing", Args: cobra.NoArgs,
		Long: `Reload does what SIGHUP does, and tells what has changed. Sessions of targets that
stay as they are go on. If a file is wrong or a step fails, nothing changes, and
the places in the files are told.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			p, err := cl.Reload(ctx)
			if err != nil {
				return c.refusedConfig(w, err)
			}
			return c.show(w, p, func(w io.Writer) { planText(w, p) })
		}),
	}))
	return cmd
}

// refusedConfig writes the places in the files that err is about.
func (c *link) refusedConfig(w io.Writer, err error) error {
	var e *api.RequestError
	if !errors.As(err, &e) || len(e.Diagnostics) == 0 {
		return err
	}
	p := &api.Plan{Changes: []api.Change{}, Diagnostics: e.Diagnostics}
	if err := c.show(w, p, func(w io.Writer) {
		for _, d := range p.Diagnostics {
			fmt.Fprintf(w, "%s:%d:%d: %s: %s\n", d.File, d.Line, d.Col, d.Summary, d.Detail)
		}
	}); err != nil {
		return err
	}
	return &exitError{exitConfig, errors.New("the configuration is invalid; the old one stays in force")}
}

func planText(w io.Writer, p *api.Plan) {
	for _, d := range p.Diagnostics {
		fmt.Fprintf(w, "%s:%d:%d: %s: %s: %s\n", d.File, d.Line, d.Col, d.Severity, d.Summary, d.Detail)
	}
	if len(p.Changes) == 0 {
		fmt.Fprintln(w, "Nothing changes.")
	}
	for i := range p.Changes {
		fmt.Fprintln(w, p.Changes[i].Text)
	}
	for i := range p.Drift {
		fmt.Fprintln(w, p.Drift[i].Text)
	}
}

func newPlan() *cobra.Command {
	var from string
	c := &link{}
	cmd := c.flags(&cobra.Command{
		Use: "plan FILE…", Short: "Show what applying configuration files would change",
		Long: `Plan compares files with what the daemon has in force, or, with --from, with
other files. Nothing is changed. A directory stands for its *.hcl files.

The daemon does not tell its secrets: whether they differ is seen only with
--from, and by "iserd config diff".`,
		Example: `  iserd plan /etc/iserd/iserd.hcl.new
  iserd plan --from /etc/iserd/iserd.hcl ./iserd.hcl   # without a daemon`,
		Args: cobra.MinimumNArgs(1),
	})
	cmd.Flags().StringVar(&from, "from", "", "compare with this `FILE` or directory instead of the daemon")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		w := cmd.OutOrStdout()
		next, err := loadFiles(w, files...)
		if err != nil {
			return err
		}
		if from != "" {
			old, err := loadFiles(w, from)
			if err != nil {
				return err
			}
			p := planJSON(config.Diff(old, next), config.Diagnostics{})
			return c.show(w, p, func(w io.Writer) { planText(w, p) })
		}
		return c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			text, err := cl.ConfigText(ctx)
			if err != nil {
				return err
			}
			old, diags := config.Parse("the daemon", withPlaceholders(text))
			if old == nil {
				return fmt.Errorf("what the daemon has in force cannot be compared from here: %w", diags)
			}
			p := planJSON(withoutSecrets(config.Diff(old, next)), config.Diagnostics{})
			return c.show(w, p, func(w io.Writer) { planText(w, p) })
		})(cmd, files)
	}
	return cmd
}

func loadFiles(w io.Writer, files ...string) (*config.Config, error) {
	c, diags := config.Load(files...)
	if err := diags.WriteText(w, textWidth, false); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, &exitError{exitConfig, nil}
	}
	return c, nil
}

// withPlaceholders gives every secret that is not shown a value of its own, as
// the loader wants it.
func withPlaceholders(text []byte) []byte {
	var b strings.Builder
	for i, part := range strings.Split(string(text), `"(secret)"`) {
		if i > 0 {
			fmt.Fprintf(&b, "\"not known %08d\"", i)
		}
		b.WriteString(part)
	}
	return []byte(b.String())
}

// withoutSecrets drops what seems to change because secrets are not known.
func withoutSecrets(all []config.Change) []config.Change {
	out := all[:0]
	for _, c := range all {
		had := len(c.Details) > 0
		c.Details = slices.DeleteFunc(c.Details, func(d config.Detail) bool { return d.New == "(another secret)" })
		if !had || len(c.Details) > 0 {
			out = append(out, c)
		}
	}
	return out
}

func newLog() *cobra.Command {
	cmd := &cobra.Command{Use: "log", Short: "Show and change the levels of the log"}
	c := &link{}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "level [LEVEL | NAME=LEVEL | NAME=]…", Short: "Change the levels until the next reload that changes them",
		Example: `  iserd log level                # show
  iserd log level debug
  iserd log level conn=trace     # one part
  iserd log level conn=          # as the others again`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			l, err := cl.LogLevels(ctx)
			if err != nil {
				return err
			}
			for _, a := range args {
				name, level, part := strings.Cut(a, "=")
				switch {
				case !part:
					l.Level = a
				case level == "":
					delete(l.Levels, name)
				default:
					l.Levels[name] = level
				}
			}
			if len(args) > 0 {
				if err := cl.SetLogLevels(ctx, l); err != nil {
					return err
				}
			}
			return c.show(w, l, func(w io.Writer) {
				rows := [][]string{{"all", l.Level}}
				for _, name := range sortedKeys(l.Levels) {
					rows = append(rows, []string{name, l.Levels[name]})
				}
				table(w, rows)
			})
		}),
	}))
	return cmd
}

func newDebug() *cobra.Command {
	cmd := &cobra.Command{Use: "debug", Short: "Look inside the daemon"}
	c := &link{}
	for _, x := range []struct{ use, short, path, long string }{
		{"goroutines", "Print the stacks of all goroutines", "/debug/pprof/goroutine?debug=2", "Goroutines shows what the daemon is doing right now, for a report of one that hangs."},
		{"heap", "Write a heap profile, for go tool pprof", "/debug/pprof/heap", "Heap tells what uses the memory:\n\n  iserd debug heap >heap.pb.gz && go tool pprof -top heap.pb.gz"},
		{"profile", "Write a CPU profile of 10 seconds, for go tool pprof", "/debug/pprof/profile?seconds=10", "Profile tells what uses the processor:\n\n  iserd debug profile >cpu.pb.gz && go tool pprof -top cpu.pb.gz"},
		{"metrics", "Print the metrics in Prometheus' format", "/metrics", "Metrics prints what Prometheus would scrape."},
		{"api", "Print the description of the API, OpenAPI 3.1", "/openapi.json", "Api prints what programs need to know to do what these commands do, over HTTP on the socket of the console."},
	} {
		cmd.AddCommand(c.flags(&cobra.Command{
			Use: x.use, Short: x.short, Long: x.long, Args: cobra.NoArgs,
			RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
				b, err := cl.Raw(ctx, x.path)
				if err != nil {
					return err
				}
				return c.raw(w, b)
			}),
		}))
	}
	cmd.AddCommand(newInject())
	return cmd
}

// raw writes a document of the daemon as it is, or within JSON, in base64 where it
// is no text.
func (c *link) raw(w io.Writer, b []byte) error {
	var v any = map[string][]byte{"base64": b}
	switch {
	case json.Valid(b):
		v = json.RawMessage(b)
	case utf8.Valid(b):
		v = map[string]string{"text": string(b)}
	}
	return c.show(w, v, func(w io.Writer) { _, _ = w.Write(b) }) // the command's output reports its own errors
}

// newInject makes "debug inject".
func newInject() *cobra.Command {
	c := &link{}
	var delay time.Duration
	cmd := c.flags(&cobra.Command{
		Use: "inject PATH panic|stop|delay", Short: "Cause a fault in an actor, to see what supervision does", Args: cobra.ExactArgs(2),
		Long: `Inject causes a fault in an actor, if console { fault_injection = true } allows
it. "iserd actors" names the actors, "iserd events" shows what was done.

  panic  its supervisor restarts or stops it, as after any fault
  stop   it stops; nobody makes it again but connections and sessions, which
         come back when their initiator does: the daemon needs a restart
  delay  it takes no message for a while (--for), so that its mailbox fills`,
		Example: `  iserd debug inject node/lun-iqn.2026-11.com.example:a:0 panic
  iserd debug inject node/sessions delay --for 2s`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			if err := cl.Inject(ctx, args[0], args[1], delay); err != nil {
				return err
			}
			return c.done(w, args[1]+" injected", args[0])
		}),
	})
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return complete(cmd, actorNames, word)
		case 1:
			return []cobra.Completion{"panic", "stop", "delay"}, cobra.ShellCompDirectiveNoFileComp
		default:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
	cmd.Flags().DurationVar(&delay, "for", time.Second, "how long a delay is, at most 30s")
	return cmd
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/console"
)

func newActors() *cobra.Command {
	c := &link{}
	var watch bool
	cmd := c.flags(&cobra.Command{
		Use: "actors [PATH]", Aliases: []string{"actor"}, Short: "Show the tree of actors, or one of them", Args: cobra.MaximumNArgs(1),
		Long: `Actors shows what the daemon consists of: what each actor is doing, how many
messages wait in its mailbox, how often its supervisor has restarted it, and what
it was told last. docs/architecture.md says who is responsible for what.`,
		Example: `  iserd actors
  iserd actors node/sessions
  iserd actors -w            # the whole screen; r restarts, x stops`,
	})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "watch the tree on the whole screen")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if watch {
			return c.watch(cmd, console.Options{Actors: true})
		}
		return c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			if len(args) == 1 {
				a, err := cl.Actor(ctx, args[0])
				if err != nil {
					return err
				}
				return c.show(w, a, func(w io.Writer) { actorText(w, a) })
			}
			all, err := cl.Actors(ctx)
			if err != nil {
				return err
			}
			return c.show(w, all, func(w io.Writer) { table(w, actorRows(all)) })
		})(cmd, args)
	}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "describe PATH", Short: "Show one actor: its state, its mailbox, its faults", Args: cobra.ExactArgs(1),
		Long: `Describe shows what the actor is doing, how many messages wait for it, what it
tells of itself, and its faults with what was done about them.`,
		RunE: cmd.RunE,
	}))
	for _, x := range []struct{ do, short, done, long string }{
		{"restart", "Begin anew with an actor; a session or connection ends", "begins anew", "Restart ends the actor as a fault would: its supervisor makes it again, and the messages that wait for it stay."},
		{"stop", "Stop a session or connection", "stopped", "Stop ends a connection or session. Its initiator comes back unless something keeps it out."},
	} {
		cmd.AddCommand(c.flags(&cobra.Command{
			Use: x.do + " PATH", Short: x.short, Long: x.long, Args: cobra.ExactArgs(1),
			RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
				return c.acted(cl.ActorDo(ctx, args[0], x.do), w, x.done, args[0])
			}),
		}))
	}
	var stack bool
	faults := c.flags(&cobra.Command{
		Use: "faults", Short: "List supervision events: who crashed, on what, and what was done", Args: cobra.NoArgs,
		Long: `Faults lists the latest panics of actors, the oldest first: the message in hand,
what supervision did, and with --stack where it happened. They are bugs: report
them with the stack.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			all, err := cl.Faults(ctx)
			if err != nil {
				return err
			}
			return c.show(w, all, func(w io.Writer) { faultsText(w, all, stack) })
		}),
	})
	faults.Flags().BoolVar(&stack, "stack", false, "show the stacks too")
	cmd.AddCommand(faults)
	return cmd
}

// actorRows lists the actors as a tree in columns.
func actorRows(all []api.Actor) [][]string {
	rows := [][]string{{"ACTOR", "BEHAVIOUR", "MBOX", "RESTARTS", "AGE", "LAST"}}
	for i := range all {
		a := &all[i]
		behaviour := a.Behaviour
		if behaviour == "" || a.State != "running" {
			behaviour = a.State
		}
		rows = append(rows, []string{
			branchOf(all, i) + last(a.Path), behaviour, fmt.Sprint(a.Queued), fmt.Sprint(a.Restarts),
			span(time.Duration(a.Age * float64(time.Second))), messageName(a.LastMessage),
		})
	}
	return rows
}

func last(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// messageName is the type of a message without its package.
func messageName(s string) string { return orDash(s[strings.LastIndexByte(s, '.')+1:]) }

// branchOf draws the lines before an actor of a list that is sorted by path.
func branchOf(all []api.Actor, i int) string {
	parts := strings.Split(all[i].Path, "/")
	var b strings.Builder
	for depth := 1; depth < len(parts); depth++ {
		parent := strings.Join(parts[:depth], "/") + "/"
		self := strings.Join(parts[:depth+1], "/")
		more := false
		for _, o := range all[i+1:] {
			if strings.HasPrefix(o.Path, parent) && o.Path != self && !strings.HasPrefix(o.Path, self+"/") {
				more = true
				break
			}
		}
		switch leaf := depth == len(parts)-1; {
		case leaf && more:
			b.WriteString("├─ ")
		case leaf:
			b.WriteString("└─ ")
		case more:
			b.WriteString("│  ")
		default:
			b.WriteString("   ")
		}
	}
	return b.String()
}

func actorText(w io.Writer, a *api.Actor) {
	rows := [][]string{
		{"actor", a.Path},
		{"kind", a.Kind},
		{"state", a.State},
		{"behaviour", orDash(a.Behaviour)},
		{"mailbox", fmt.Sprintf("%d, at most %d", a.Queued, a.MaxQueued)},
		{"messages", fmt.Sprint(a.Processed)},
		{"last message", orDash(a.LastMessage)},
		{"restarts", fmt.Sprint(a.Restarts)},
		{"failures", fmt.Sprint(a.Failures)},
		{"age", span(time.Duration(a.Age * float64(time.Second)))},
	}
	if a.Silent != "" {
		rows = append(rows, []string{"silent", "it does not answer: " + a.Silent})
	}
	table(w, rows)
	if len(a.Faults) > 0 {
		fmt.Fprintln(w)
		faultsText(w, a.Faults, false)
	}
	if a.Details != nil {
		b, err := json.MarshalIndent(a.Details, "", "  ")
		if err == nil {
			fmt.Fprintf(w, "\n%s\n", b)
		}
	}
}

func faultsText(w io.Writer, all []api.Fault, stack bool) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no faults")
		return
	}
	if !stack {
		rows := [][]string{{"TIME", "ACTOR", "MESSAGE", "PANIC", "ACTION"}}
		for i := range all {
			f := &all[i]
			rows = append(rows, []string{f.Time.Local().Format(time.DateTime), f.Path, messageName(f.Message), firstLine(f.Panic), f.Action})
		}
		table(w, rows)
		return
	}
	for i := range all {
		f := &all[i]
		fmt.Fprintf(w, "%s  %s  on %s: %s; %s\n%s\n", f.Time.Local().Format(time.DateTime), f.Path, f.Message, firstLine(f.Panic), f.Action, f.Stack)
	}
}

func newLogins() *cobra.Command {
	c := &link{}
	var address, initiator string
	cmd := c.flags(&cobra.Command{
		Use: "logins", Aliases: []string{"refused"}, Short: "List refused logins and why", Args: cobra.NoArgs,
		Long: `Logins lists the logins and discoveries that were refused, the latest first, with
the exact reason. The initiator itself is told no more than a status.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			all, err := cl.Refusals(ctx)
			if err != nil {
				return err
			}
			kept := []api.Refusal{}
			for _, r := range all {
				if (address == "" || r.Address == address) && (initiator == "" || r.Initiator == initiator) {
					kept = append(kept, r)
				}
			}
			return c.show(w, kept, func(w io.Writer) { refusalsText(w, kept) })
		}),
	})
	cmd.Flags().StringVar(&address, "from", "", "only those from `ADDRESS`")
	cmd.Flags().StringVar(&initiator, "initiator", "", "only those of `NAME`")
	return cmd
}

func refusalsText(w io.Writer, all []api.Refusal) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no refused logins")
		return
	}
	rows := [][]string{{"LAST", "TIMES", "FROM", "INITIATOR", "TARGET", "STATUS", "REASON"}}
	for i := range all {
		r := &all[i]
		target := r.Target
		if r.Discovery {
			target = "(discovery)"
		}
		rows = append(rows, []string{
			r.Last.Local().Format(time.DateTime), fmt.Sprint(r.Count), r.Address, orDash(r.Initiator),
			orDash(target), r.Status, r.Reason,
		})
	}
	table(w, rows)
}

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/api"
)

func newStatus() *cobra.Command {
	c := &link{}
	return c.flags(&cobra.Command{
		Use: "status", Short: "Show how the daemon is", Args: cobra.NoArgs,
		Long: `Status shows the daemon at a glance: what it serves, to how many, what is in
force, and in the last lines what an administrator should look at.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			s, err := cl.Status(ctx)
			if err != nil {
				return err
			}
			return c.show(w, s, func(w io.Writer) { statusText(w, s, time.Now()) })
		}),
	})
}

func statusText(w io.Writer, s *api.Status, now time.Time) {
	rows := [][]string{
		{"version", s.Version},
		{"node", orDash(s.Node)},
		{"up", ago(s.Started, now)},
		{"portals", fmt.Sprint(s.Portals)},
		{"targets", fmt.Sprintf("%d with %d LUNs", s.Targets, s.LUNs)},
		{"sessions", fmt.Sprint(s.Sessions)},
		{"logins", fmt.Sprintf("%d, refused %d", s.Logins, s.Refused)},
		{"buffers", fmt.Sprintf("%s of %s", bytesText(s.BufferBytes), bytesText(s.BufferLimit))},
		{"faults", fmt.Sprint(s.Faults)},
		{"configuration", s.Config.Hash + "  " + strings.Join(s.Config.Files, " ")},
	}
	if s.Config.LastError != "" {
		rows = append(rows, []string{"not applied", firstLine(s.Config.LastError)})
	}
	for _, x := range s.Warnings {
		rows = append(rows, []string{"warning", x})
	}
	table(w, rows)
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newLs() *cobra.Command {
	c := &link{}
	return c.flags(&cobra.Command{
		Use: "ls", Short: "Show portals, targets, LUNs and sessions as a tree", Args: cobra.NoArgs,
		Long: `Ls shows everything that is served as a tree, with its state on the right:
portals by group, targets with their LUNs, and the initiators that are admitted,
logged in or not.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			v, err := overview(ctx, cl)
			if err != nil {
				return err
			}
			return c.show(w, v, func(w io.Writer) { lsText(w, v, time.Now()) })
		}),
	})
}

// view is all that "ls" shows.
type tree struct {
	Status   *api.Status   `json:"status"`
	Portals  []api.Portal  `json:"portals"`
	Targets  []api.Target  `json:"targets"`
	Sessions []api.Session `json:"sessions"`
}

func overview(ctx context.Context, cl *api.Client) (v *tree, err error) {
	v = &tree{}
	if v.Status, err = cl.Status(ctx); err != nil {
		return nil, err
	}
	if v.Portals, err = cl.Portals(ctx); err != nil {
		return nil, err
	}
	if v.Targets, err = cl.Targets(ctx); err != nil {
		return nil, err
	}
	v.Sessions, err = cl.Sessions(ctx)
	return v, err
}

// leaf is a line of a tree with what is below it.
type leaf struct {
	text, state string
	below       []*leaf
}

func (l *leaf) add(text, state string) *leaf {
	n := &leaf{text: text, state: state}
	l.below = append(l.below, n)
	return n
}

// lsWidth is where the states of a tree end.
const lsWidth = 100

func (l *leaf) write(w io.Writer, first, rest string) {
	head := first + visible(l.text) + " "
	tail := " [" + l.state + "]"
	dots := max(2, lsWidth-len([]rune(head))-len([]rune(tail)))
	if l.state == "" {
		fmt.Fprintln(w, strings.TrimRight(head, " "))
	} else {
		fmt.Fprintln(w, head+strings.Repeat(".", dots)+tail)
	}
	for i, b := range l.below {
		if i == len(l.below)-1 {
			b.write(w, rest+"└─ ", rest+"   ")
		} else {
			b.write(w, rest+"├─ ", rest+"│  ")
		}
	}
}

func lsText(w io.Writer, v *tree, now time.Time) {
	s := v.Status
	root := &leaf{text: "/", state: fmt.Sprintf("%s  up %s  %s  %s", orDash(s.Node), ago(s.Started, now), count(s.Targets, "target"), count(s.Sessions, "session"))}
	portals := root.add("portals", "")
	for _, group := range groupsOf(v.Portals) {
		g := portals.add("", "")
		for i := range v.Portals {
			if p := &v.Portals[i]; p.Group == group {
				g.text = fmt.Sprintf("%s  (tag %d)", p.Group, p.Tag)
				g.add(p.Address, portalState(p))
			}
		}
	}
	targets := root.add("targets", "")
	for i := range v.Targets {
		t := &v.Targets[i]
		branch := targets.add(t.Name, targetState(t))
		if t.Alias != "" {
			branch.text += fmt.Sprintf("  %q", t.Alias)
		}
		for k := range t.LUNs {
			l := &t.LUNs[k]
			branch.add(lunLine(l), lunState(l))
		}
		initiators(branch, t, v.Sessions, now)
	}
	root.write(w, "", "")
}

// portalState says what is served at a portal, and by what.
func portalState(p *api.Portal) string {
	var by []string
	for _, name := range p.Providers {
		switch name {
		case "native":
			by = append(by, "by adapter")
		case "softiwarp":
			by = append(by, "in software")
		default:
			by = append(by, "by "+name)
		}
	}
	s := strings.Join(p.Transports, ", ")
	if len(by) > 0 {
		s += " " + strings.Join(by, " and ")
	}
	if p.Advertised != "" {
		s += ", told as " + p.Advertised
	}
	if p.Redirect != "" {
		s += ", logins go to " + p.Redirect
	}
	return s
}

func groupsOf(portals []api.Portal) (out []string) {
	for _, p := range portals {
		if !slices.Contains(out, p.Group) {
			out = append(out, p.Group)
		}
	}
	return out
}

func targetState(t *api.Target) string {
	s := t.Auth
	if t.Auth == "none" {
		s = "no CHAP"
	}
	if n := len(t.Initiators); n > 0 {
		s += ", " + count(n, "initiator")
	}
	if t.Origin == "api" {
		s += ", made through the API"
	}
	if t.Redirect != "" {
		s += ", logins go to " + t.Redirect
	}
	if t.Offline {
		s += ", OFFLINE"
	}
	return s
}

func lunLine(l *api.LUN) string {
	s := fmt.Sprintf("lun %d  %s  %s  %dB", l.Number, l.Backend, bytesText(l.Size), l.BlockSize)
	if l.Thin {
		s += "  thin"
	}
	if l.ReadOnly {
		s += "  read-only"
	}
	return s
}

func lunState(l *api.LUN) string {
	s := []string{l.State}
	if r := l.Reservations; r != nil {
		s = append(s, "PR: "+count(len(r.Registered), "registrant"))
	}
	if l.ALUA != nil {
		for _, g := range l.ALUA.Groups {
			s = append(s, g.PortalGroup+": "+g.State)
		}
	}
	return strings.Join(s, "  ")
}

func initiators(branch *leaf, t *api.Target, sessions []api.Session, now time.Time) {
	seen := map[string]bool{}
	for i := range sessions {
		s := &sessions[i]
		if s.Target == t.Name {
			seen[s.Initiator] = true
			branch.add("initiator "+s.Initiator, fmt.Sprintf("logged in %s  %s  from %s", ago(s.Since, now), s.Transport, s.Peer))
		}
	}
	for _, name := range t.Initiators {
		if !seen[name] {
			branch.add("initiator "+name, "not logged in")
		}
	}
}

func newSession() *cobra.Command {
	cmd := &cobra.Command{Use: "session", Aliases: []string{"sessions"}, Short: "Show and end sessions"}
	c := &link{}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "ls", Short: "List the sessions", Args: cobra.NoArgs,
		Long: `Ls lists the initiators that are logged in, with what each has read and written.
TSIH is the number that other commands know a session by.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			all, err := cl.Sessions(ctx)
			if err != nil {
				return err
			}
			return c.show(w, all, func(w io.Writer) { sessionsText(w, all, time.Now()) })
		}),
	}))
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "show TSIH", Short: "Show one session", Args: cobra.ExactArgs(1),
		Long: `Show tells who has logged in from where, what was negotiated, and for each LUN
how many commands there were and how long half and 99 % of them took at most.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			n, err := parseNumber("TSIH", args[0])
			if err != nil {
				return err
			}
			s, err := cl.Session(ctx, n)
			if err != nil {
				return err
			}
			return c.show(w, s, func(w io.Writer) { sessionText(w, s, time.Now()) })
		}),
	}))
	var force bool
	logout := c.flags(&cobra.Command{
		Use: "logout TSIH", Short: "Ask an initiator to log out, or end its session", Args: cobra.ExactArgs(1),
		Long: `The initiator is asked to log out and has 10 seconds for it, in which everything
works; then the session is dropped. Many initiators come back at once: to keep
one out, change the access lists or take the target offline.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			n, err := parseNumber("TSIH", args[0])
			if err != nil {
				return err
			}
			what := "asked to log out"
			if force {
				what = "ended"
			}
			return c.acted(cl.Logout(ctx, n, force), w, what, fmt.Sprintf("session %#04x", n))
		}),
	})
	logout.Flags().BoolVar(&force, "force", false, "drop the session without asking")
	cmd.AddCommand(logout)
	return cmd
}

func sessionsText(w io.Writer, all []api.Session, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no sessions")
		return
	}
	rows := [][]string{{"TSIH", "INITIATOR", "TARGET", "FROM", "TRANSPORT", "SINCE", "READ", "WRITTEN"}}
	for i := range all {
		s := &all[i]
		var read, written uint64
		for k := range s.LUNs {
			read += s.LUNs[k].Stats.Read
			written += s.LUNs[k].Stats.Written
		}
		target := s.Target
		if target == "" {
			target = "(discovery)"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%#04x", s.TSIH), s.Initiator, target, s.Peer, s.Transport, ago(s.Since, now),
			bytesText(int64(read)), bytesText(int64(written)),
		})
	}
	table(w, rows)
}

func sessionText(w io.Writer, s *api.Session, now time.Time) {
	table(w, [][]string{
		{"TSIH", fmt.Sprintf("%#04x", s.TSIH)},
		{"ISID", s.ISID},
		{"initiator", s.Initiator},
		{"target", orDash(s.Target)},
		{"CHAP user", orDash(s.User)},
		{"from", s.Peer},
		{"transport", s.Transport},
		{"since", ago(s.Since, now)},
		{"digests", fmt.Sprintf("header %v, data %v", s.HeaderDigest, s.DataDigest)},
		{"actor", s.Actor},
	})
	if len(s.LUNs) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows := [][]string{{"LUN", "OF TARGET", "READS", "WRITES", "READ", "WRITTEN", "P50", "P99"}}
	for i := range s.LUNs {
		l := &s.LUNs[i]
		st := &l.Stats
		rows = append(rows, []string{
			number(l.LUN), number(l.Number), fmt.Sprint(st.Ops["read"]), fmt.Sprint(st.Ops["write"]),
			bytesText(int64(st.Read)), bytesText(int64(st.Written)), quantileText(st, 0.5), quantileText(st, 0.99),
		})
	}
	table(w, rows)
}

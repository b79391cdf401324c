package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/api"
)

// parseNumber reads a 16-bit number, also in hexadecimal with 0x.
func parseNumber(what, s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 0, 16)
	if err != nil {
		return 0, usageError(fmt.Errorf("%s %q is not a number", what, s))
	}
	return uint16(n), nil
}

// parseLUN reads "IQN/N" or "IQN/lun/N".
func parseLUN(s string) (target string, lun uint16, err error) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", 0, usageError(fmt.Errorf("%q: name a LUN as TARGET/NUMBER", s))
	}
	lun, err = parseNumber("LUN", s[i+1:])
	return strings.TrimSuffix(s[:i], "/lun"), lun, err
}

// quantileText is a quantile of the latencies of reads and writes together.
func quantileText(s *api.Stats, q float64) string {
	d := s.Quantile(q)
	if d == 0 {
		return "-"
	}
	return latencyText(d)
}

// latencyText is a latency with three digits or fewer.
func latencyText(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0fµs", float64(d)/1e3)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
}

func newTarget() *cobra.Command {
	cmd := &cobra.Command{Use: "target", Aliases: []string{"targets"}, Short: "Show, make and drain targets"}
	c := &link{}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "ls", Short: "List the targets", Args: cobra.NoArgs,
		Long: `Ls lists the targets with the numbers of their LUNs and sessions, and who may log
in to them.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			all, err := cl.Targets(ctx)
			if err != nil {
				return err
			}
			return c.show(w, all, func(w io.Writer) { targetsText(w, all) })
		}),
	}), c.flags(&cobra.Command{
		Use: "show TARGET", Short: "Show one target", Args: cobra.ExactArgs(1),
		Long: `Show tells who may log in to a target, through which portals, and how its LUNs
are.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			t, err := cl.Target(ctx, args[0])
			if err != nil {
				return err
			}
			return c.show(w, t, func(w io.Writer) { targetText(w, t) })
		}),
	}), newTargetCreate(c))
	for _, x := range []struct {
		use, short, done, long string
		do                     func(context.Context, *api.Client, string) error
	}{
		{"delete", "Remove a target that was made through the API", "removed", "Delete ends the sessions of a target and removes it. Targets of the configuration are removed there.", func(ctx context.Context, cl *api.Client, t string) error { return cl.DeleteTarget(ctx, t) }},
		{"offline", "Refuse logins, and ask initiators to log out", "offline", "Offline is for maintenance: nobody is let in, and those who are in are asked to leave and dropped after 10 seconds. It lasts until the target is brought online or the daemon is restarted.", func(ctx context.Context, cl *api.Client, t string) error { return cl.SetTargetOffline(ctx, t, true) }},
		{"online", "Admit initiators again", "online", "Online ends what offline began.", func(ctx context.Context, cl *api.Client, t string) error { return cl.SetTargetOffline(ctx, t, false) }},
	} {
		cmd.AddCommand(c.flags(&cobra.Command{
			Use: x.use + " TARGET", Short: x.short, Long: x.long, Args: cobra.ExactArgs(1),
			RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
				return c.acted(x.do(ctx, cl, args[0]), w, x.done, args[0])
			}),
		}))
	}
	return cmd
}

// newTargetCreate makes "target create".
func newTargetCreate(c *link) *cobra.Command {
	var spec api.TargetSpec
	var allow []string
	var file string
	cmd := c.flags(&cobra.Command{
		Use: "create TARGET", Short: "Make a target, unless it is there", Args: cobra.ExactArgs(1),
		Long: `Create makes a target without LUNs, or does nothing when it exists as asked for.
It lasts until the daemon is restarted; what is to last longer belongs into the
configuration files.`,
		Example: `  iserd target create iqn.2026-11.com.example:a --allow iqn.1993-08.org.debian:01:x
  iserd lun attach iqn.2026-11.com.example:a/0 --kind memory --size 1GiB`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			if file != "" {
				b, err := os.ReadFile(file)
				if err == nil {
					err = json.Unmarshal(b, &spec)
				}
				if err != nil {
					return usageError(err)
				}
			}
			for _, name := range allow {
				spec.Initiators = append(spec.Initiators, api.InitiatorSpec{Name: name})
			}
			t, err := cl.EnsureTarget(ctx, args[0], &spec)
			if err != nil {
				return err
			}
			return c.show(w, t, func(w io.Writer) { targetText(w, t) })
		}),
	})
	f := cmd.Flags()
	f.StringVar(&spec.Alias, "alias", "", "`TEXT` that initiators may show")
	f.StringVar(&spec.Auth, "auth", "", "`NAME` of an auth block of the configuration")
	f.StringSliceVar(&spec.Groups, "portal-group", nil, "`NAME` of a portal group; may be given more than once")
	f.StringSliceVar(&allow, "allow", nil, "`NAME` of an initiator to admit; may be given more than once")
	f.BoolVar(&spec.Insecure, "insecure", false, "admit everybody")
	f.StringVarP(&file, "file", "f", "", "`FILE` with the whole specification as JSON")
	return cmd
}

func targetsText(w io.Writer, all []api.Target) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no targets")
		return
	}
	rows := [][]string{{"TARGET", "LUNS", "SESSIONS", "STATE"}}
	for i := range all {
		t := &all[i]
		rows = append(rows, []string{t.Name, fmt.Sprint(len(t.LUNs)), fmt.Sprint(t.Sessions), targetState(t)})
	}
	table(w, rows)
}

func targetText(w io.Writer, t *api.Target) {
	table(w, [][]string{
		{"target", t.Name},
		{"alias", orDash(t.Alias)},
		{"state", targetState(t)},
		{"sessions", fmt.Sprint(t.Sessions)},
		{"portal groups", orDash(strings.Join(t.Groups, " "))},
		{"initiators", orDash(strings.Join(t.Initiators, " "))},
	})
	if len(t.LUNs) > 0 {
		fmt.Fprintln(w)
		lunsText(w, []api.Target{*t})
	}
}

// lunsText lists the LUNs of all targets in one table.
func lunsText(w io.Writer, all []api.Target) {
	rows := [][]string{{"LUN", "BACKEND", "SIZE", "STATE", "READS", "WRITES", "P50", "P99"}}
	for i := range all {
		for j := range all[i].LUNs {
			l := &all[i].LUNs[j]
			rows = append(rows, []string{
				all[i].Name + "/" + number(l.Number), l.Backend, bytesText(l.Size), lunState(l),
				fmt.Sprint(l.Stats.Ops["read"]), fmt.Sprint(l.Stats.Ops["write"]), quantileText(&l.Stats, 0.5), quantileText(&l.Stats, 0.99),
			})
		}
	}
	table(w, rows)
}

func newLUN() *cobra.Command {
	cmd := &cobra.Command{
		Use: "lun", Aliases: []string{"luns"}, Short: "Show, attach, resize and drain LUNs",
		Long: "A LUN is named TARGET/NUMBER, such as iqn.2026-11.com.example:a/0.",
	}
	c := &link{}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "ls", Short: "List the LUNs", Args: cobra.NoArgs,
		Long: `Ls lists all LUNs with their size, their state, the commands so far, and how long
half and 99 % of the reads and writes took at most.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			all, err := cl.Targets(ctx)
			if err != nil {
				return err
			}
			return c.show(w, all, func(w io.Writer) { lunsText(w, all) })
		}),
	}), c.flags(&cobra.Command{
		Use: "show TARGET/NUMBER", Short: "Show one LUN", Args: cobra.ExactArgs(1),
		Long: `Show tells all about a LUN: backend, size, identity, state, counters, the errors
that initiators got, and reservations.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			t, n, err := parseLUN(args[0])
			if err != nil {
				return err
			}
			l, err := cl.LUN(ctx, t, n)
			if err != nil {
				return err
			}
			return c.show(w, l, func(w io.Writer) { lunText(w, t, l) })
		}),
	}), newLUNAttach(c))
	var size string
	for _, x := range []struct {
		use, short, done, long string
		do                     func(context.Context, *api.Client, string, uint16) error
	}{
		{"detach", "Take a LUN away that was attached through the API", "detached", "Detach ends the commands to the LUN and closes its backend, whose content stays, but that of memory.", func(ctx context.Context, cl *api.Client, t string, n uint16) error { return cl.DeleteLUN(ctx, t, n) }},
		{"offline", "Close the backend; initiators see NOT READY", "offline", "Offline closes the file or device, so that it can be worked on. Sessions go on; commands end with NOT READY.", func(ctx context.Context, cl *api.Client, t string, n uint16) error {
			return cl.SetLUNOffline(ctx, t, n, true)
		}},
		{"online", "Open the backend again", "online", "Online opens the backend again, also one of a LUN that was given up after too many faults.", func(ctx context.Context, cl *api.Client, t string, n uint16) error {
			return cl.SetLUNOffline(ctx, t, n, false)
		}},
		{"resize", "Grow a LUN, or take over the size that its backend has", "resized", "Resize tells initiators that the LUN has grown: without --size to what its backend is by now, such as a volume that was extended. Sessions go on. The initiator then has to look: on Linux by iscsiadm -m session --rescan.", func(ctx context.Context, cl *api.Client, t string, n uint16) error {
			return cl.ResizeLUN(ctx, t, n, size)
		}},
	} {
		sub := c.flags(&cobra.Command{
			Use: x.use + " TARGET/NUMBER", Short: x.short, Long: x.long, Args: cobra.ExactArgs(1),
			RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
				t, n, err := parseLUN(args[0])
				if err != nil {
					return err
				}
				return c.acted(x.do(ctx, cl, t, n), w, x.done, t+"/"+number(n))
			}),
		})
		if x.use == "resize" {
			sub.Long = `Resize without a size takes over what the file or block device of a LUN has grown
to. The size of a LUN that is configured with one is changed there, followed by
"iserd config reload"; that of a LUN attached through the API with --size. LUNs
do not shrink.

Initiators go on, and are told that the capacity has changed. Linux waits for
its administrator then: iscsiadm -m session --rescan, and resize2fs or
xfs_growfs.`
			sub.Example = `  lvextend -L 2T /dev/vg/db && iserd lun resize iqn.2026-11.com.example:db/0
  iserd lun resize iqn.2026-11.com.example:scratch/0 --size 4GiB`
			sub.Flags().StringVar(&size, "size", "", "`SIZE`, such as 40GiB, of a LUN that was attached through the API")
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

// newLUNAttach makes "lun attach".
func newLUNAttach(c *link) *cobra.Command {
	var spec api.LUNSpec
	cmd := c.flags(&cobra.Command{
		Use: "attach TARGET/NUMBER", Short: "Add a LUN to a target that was made through the API", Args: cobra.ExactArgs(1),
		Example: `  iserd lun attach iqn.2026-11.com.example:a/0 --kind file --path /srv/luns/a.img --size 40GiB --create
  iserd lun attach iqn.2026-11.com.example:a/1 --kind block --path /dev/vg0/a`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			t, n, err := parseLUN(args[0])
			if err != nil {
				return err
			}
			spec.Number = n
			l, err := cl.EnsureLUN(ctx, t, &spec)
			if err != nil {
				return err
			}
			return c.show(w, l, func(w io.Writer) { lunText(w, t, l) })
		}),
	})
	f, b := cmd.Flags(), &spec.Backend
	f.StringVar(&b.Kind, "kind", "file", "`KIND` of backend: file, block, memory or null")
	f.StringVar(&b.Path, "path", "", "`PATH` of the file or block device")
	f.StringVar(&b.Size, "size", "", "`SIZE`, such as 40GiB")
	f.BoolVar(&b.Create, "create", false, "make the file when it does not exist")
	f.BoolVar(&b.DirectIO, "direct-io", false, "bypass the page cache for a file")
	f.BoolVar(&spec.ReadOnly, "read-only", false, "refuse writes")
	f.BoolVar(&spec.Thin, "thin", false, "announce UNMAP")
	f.Int64Var(&spec.BlockSize, "block-size", 0, "logical block length, 512 (the default) or 4096")
	f.StringVar(&spec.Serial, "serial", "", "unit serial number")
	return cmd
}

func lunText(w io.Writer, target string, l *api.LUN) {
	rows := [][]string{
		{"LUN", target + "/" + number(l.Number)},
		{"state", l.State},
		{"backend", l.Backend},
		{"size", fmt.Sprintf("%s (%d bytes)", bytesText(l.Size), l.Size)},
		{"block size", fmt.Sprint(l.BlockSize)},
		{"serial", l.Serial},
		{"identifier", l.NAA},
		{"actor", l.Actor},
		{"read", fmt.Sprintf("%d commands, %s", l.Stats.Ops["read"], bytesText(int64(l.Stats.Read)))},
		{"written", fmt.Sprintf("%d commands, %s", l.Stats.Ops["write"], bytesText(int64(l.Stats.Written)))},
		{"latency", fmt.Sprintf("p50 %s  p99 %s", quantileText(&l.Stats, 0.5), quantileText(&l.Stats, 0.99))},
	}
	for _, key := range sortedKeys(l.Stats.Errors) {
		rows = append(rows, []string{strings.ToLower(key), fmt.Sprint(l.Stats.Errors[key])})
	}
	table(w, rows)
	if l.ALUA != nil {
		fmt.Fprintln(w)
		aluaText(w, []lunALUA{{target, l.Number, *l.ALUA}})
	}
	if l.Reservations != nil {
		fmt.Fprintln(w)
		reservationsText(w, l.Reservations)
	}
}

func reservationsText(w io.Writer, r *api.Reservations) {
	if r == nil {
		fmt.Fprintln(w, "no reservations")
		return
	}
	table(w, [][]string{{"reservation", orDash(r.Type)}, {"generation", fmt.Sprint(r.Generation)}, {"SPC-2", orDash(r.Reserved)}})
	rows := [][]string{{"REGISTERED", "KEY", "HOLDER"}}
	for _, g := range r.Registered {
		rows = append(rows, []string{g.Initiator, g.Key, fmt.Sprint(g.Holder)})
	}
	if len(rows) > 1 {
		table(w, rows)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func newPR() *cobra.Command {
	cmd := &cobra.Command{Use: "pr", Short: "Show and clear reservations"}
	c := &link{}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "show TARGET/NUMBER", Short: "Show the reservations of a LUN", Args: cobra.ExactArgs(1),
		Long: `Show lists who is registered with which key and who holds the persistent
reservation, and whether an initiator has reserved the LUN by RESERVE.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			t, n, err := parseLUN(args[0])
			if err != nil {
				return err
			}
			l, err := cl.LUN(ctx, t, n)
			if err != nil {
				return err
			}
			r := l.Reservations
			if r == nil {
				r = &api.Reservations{Registered: []api.Registrant{}}
			}
			return c.show(w, r, func(w io.Writer) { reservationsText(w, l.Reservations) })
		}),
	}), c.flags(&cobra.Command{
		Use: "clear TARGET/NUMBER", Short: "Remove all persistent reservations of a LUN", Args: cobra.ExactArgs(1),
		Long: `Clear removes the persistent reservation and every registration, whoever holds
them. It lifts fences: make sure that no fenced host is running.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			t, n, err := parseLUN(args[0])
			if err != nil {
				return err
			}
			return c.acted(cl.ClearReservations(ctx, t, n), w, "reservations cleared", t+"/"+number(n))
		}),
	}))
	return cmd
}

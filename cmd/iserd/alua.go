package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/luns/scsi"
)

// targetPorts maps how a LUN is accessed through the portal groups of its
// target. Each of them is a target port, and a target port group of its own;
// without an alua block they are told for ALL_TG_PT only.
func targetPorts(c *config.Config, t *config.Target, l *config.LUN) (scsi.TargetPortGroups, error) {
	a := t.ALUAOf(l)
	ports := scsi.TargetPortGroups{Implicit: a != nil, Explicit: a != nil && a.Explicit}
	for _, name := range t.PortalGroups {
		g := c.PortalGroup(name)
		if g == nil {
			return ports, fmt.Errorf("there is no portal group %q", name)
		}
		x := scsi.TargetPortGroup{ID: uint16(g.Tag), Ports: []uint16{uint16(g.Tag)}}
		if a != nil {
			of := a.Group(name)
			if of == nil {
				return ports, fmt.Errorf("the alua block has no group %q", name)
			}
			var err error
			if x.State, err = scsi.ParseAccessState(of.State); err != nil {
				return ports, err
			}
			x.Preferred = of.Preferred
		}
		ports.Groups = append(ports.Groups, x)
	}
	return ports, nil
}

// targetPorts makes the target ports of all LUNs that stay what next has.
func (t *transition) targetPorts() error {
	for i := range t.next.Targets {
		now := &t.next.Targets[i]
		was := targetOf(t.old, now.Name)
		if was == nil {
			continue
		}
		for j := range now.LUNs {
			if err := t.portsOf(was, now, &now.LUNs[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *transition) portsOf(was, now *config.Target, l *config.LUN) error {
	old := lunOf(was, l.Number)
	if old == nil {
		return nil
	}
	before, err := targetPorts(t.old, was, old)
	if err != nil {
		return err
	}
	after, err := targetPorts(t.next, now, l)
	if err != nil || reflect.DeepEqual(before, after) {
		return err
	}
	tg := t.d.server.Target(now.Name)
	if tg == nil {
		return fmt.Errorf("target %s: %w", now.Name, iserd.ErrNotFound)
	}
	if err := tg.SetTargetPorts(l.Number, after); err != nil {
		return err
	}
	t.undoing(func() error { return tg.SetTargetPorts(l.Number, before) })
	return nil
}

// aluaJSON shows asymmetric access, nil if there is none.
func aluaJSON(c *config.Config, p *scsi.TargetPortGroups) *api.ALUA {
	if !p.Implicit && !p.Explicit {
		return nil
	}
	a := &api.ALUA{Explicit: p.Explicit, Groups: []api.ALUAGroup{}}
	for _, g := range p.Groups {
		a.Groups = append(a.Groups, api.ALUAGroup{
			PortalGroup: groupOfTag(c, g.ID), ID: g.ID, State: g.State.String(), Preferred: g.Preferred, SetBy: g.Cause.String(),
		})
	}
	return a
}

func groupOfTag(c *config.Config, tag uint16) string {
	for i := range c.PortalGroups {
		if c.PortalGroups[i].Tag == int(tag) {
			return c.PortalGroups[i].Name
		}
	}
	return ""
}

// SetALUA implements api.Daemon.
func (a *admin) SetALUA(_ context.Context, target string, lun uint16, group string, change *api.ALUAChange) error {
	if change.State == "" && change.Preferred == nil {
		return api.Problemf(api.ErrInvalid, "say which state the group is to have, or whether it is preferred")
	}
	var state scsi.AccessState
	if change.State != "" {
		var err error
		if state, err = scsi.ParseAccessState(change.State); err != nil {
			return api.Problemf(api.ErrInvalid, "%v", strings.TrimPrefix(err.Error(), "scsi: "))
		}
	}
	// No reload is to come in between: it sets states too.
	a.mu.Lock()
	defer a.mu.Unlock()
	t, l := targetOf(a.running, target), lunOf(targetOf(a.running, target), lun)
	switch {
	case t == nil:
		return api.Problemf(api.ErrNotFound, "there is no target %s", target)
	case l == nil:
		return api.Problemf(api.ErrNotFound, "target %s has no LUN %d", target, lun)
	case t.ALUAOf(l) == nil:
		return api.Problemf(api.ErrConflict, "LUN %d of %s has no asymmetric access: write an alua block into its target or lun block, and reload", lun, target)
	case t.ALUAOf(l).Group(group) == nil:
		return api.Problemf(api.ErrNotFound, "target %s is not reached through a portal group %q: it has %s", target, group, strings.Join(t.PortalGroups, ", "))
	}
	id := uint16(a.running.PortalGroup(group).Tag)
	return a.onTarget(target, func(tg *iserd.Target) error {
		if change.State != "" {
			if err := tg.SetAccessState(lun, id, state); err != nil {
				return err
			}
		}
		if change.Preferred != nil {
			if err := tg.SetPreferred(lun, id, *change.Preferred); err != nil {
				return err
			}
		}
		a.log.Info("asymmetric access changed", "target", target, "lun", lun, "portal_group", group, "state", change.State)
		return nil
	})
}

func newALUA() *cobra.Command {
	cmd := &cobra.Command{
		Use: "alua", Short: "Show and set asymmetric access to LUNs",
		Long: `With asymmetric access (ALUA) a LUN tells initiators which portal groups are the
good ways to it: active/optimized, active/non-optimized, standby, unavailable or
offline. The states of the configuration, in alua blocks, hold when the daemon
starts.`,
	}
	c := &link{}
	cmd.AddCommand(c.flags(&cobra.Command{
		Use: "show [TARGET[/NUMBER]]", Short: "Show the access states", Args: cobra.MaximumNArgs(1),
		Long: `Show lists for each LUN with asymmetric access how each portal group leads to it,
and whether that was configured or set since.`,
		RunE: c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
			all, err := cl.Targets(ctx)
			if err != nil {
				return err
			}
			shown, err := aluaOf(all, args)
			if err != nil {
				return err
			}
			return c.show(w, shown, func(w io.Writer) { aluaText(w, shown) })
		}),
	}), newALUASet(c))
	return cmd
}

func newALUASet(c *link) *cobra.Command {
	var preferred bool
	cmd := c.flags(&cobra.Command{
		Use: "set TARGET/NUMBER PORTAL_GROUP [STATE]", Short: "Set the access state of a portal group", Args: cobra.RangeArgs(2, 3),
		Long: `Set changes how a portal group leads to a LUN, while it is in use. Initiators are
told by the unit attention condition ASYMMETRIC ACCESS STATE CHANGED. It lasts
until the daemon is restarted or the LUN's alua block is changed; "iserd config
diff" shows what is not as configured.`,
		Example: `  iserd alua set iqn.2026-11.com.example:a/0 lan standby
  iserd alua set iqn.2026-11.com.example:a/0 rdma active/optimized --preferred
  iserd alua set iqn.2026-11.com.example:a/0 rdma --preferred=false`,
	})
	cmd.Flags().BoolVar(&preferred, "preferred", false, "whether initiators should use this one when they have the choice")
	cmd.RunE = c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error {
		t, n, err := parseLUN(args[0])
		if err != nil {
			return err
		}
		var change api.ALUAChange
		if len(args) > 2 {
			change.State = args[2]
		}
		if cmd.Flags().Changed("preferred") {
			change.Preferred = &preferred
		}
		return c.acted(cl.SetALUA(ctx, t, n, args[1], &change), w, "access state set", args[0]+" "+args[1])
	})
	return cmd
}

// lunALUA is what "alua show" prints.
type lunALUA struct {
	Target string `json:"target"`
	LUN    uint16 `json:"lun"`
	api.ALUA
}

// aluaOf picks the LUNs with asymmetric access; args may name a target or a LUN,
// which must have it then.
func aluaOf(all []api.Target, args []string) ([]lunALUA, error) {
	out := []lunALUA{}
	for i := range all {
		for j := range all[i].LUNs {
			l := &all[i].LUNs[j]
			if l.ALUA != nil && (len(args) == 0 || args[0] == all[i].Name || args[0] == all[i].Name+"/"+number(l.Number)) {
				out = append(out, lunALUA{all[i].Name, l.Number, *l.ALUA})
			}
		}
	}
	if len(out) == 0 && len(args) > 0 {
		return nil, &exitError{exitNotFound, fmt.Errorf("%s: there is no such target or LUN, or it has no asymmetric access", args[0])}
	}
	return out, nil
}

func aluaText(w io.Writer, all []lunALUA) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No LUN has asymmetric access.")
		return
	}
	rows := [][]string{{"LUN", "PORTAL GROUP", "ID", "STATE", "PREFERRED", "SET BY"}}
	for i := range all {
		for _, g := range all[i].Groups {
			rows = append(rows, []string{
				all[i].Target + "/" + number(all[i].LUN), g.PortalGroup, number(g.ID), g.State, yesNo(g.Preferred), g.SetBy,
			})
		}
	}
	table(w, rows)
}

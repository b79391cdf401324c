package actors

import (
	"fmt"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/luns/scsi"
)

// setTargetPorts hands t to the data port, and sees to it that what initiators
// set by it gets into the log.
func (l *LUN) setTargetPorts(t *scsi.TargetPortGroups) error {
	if t == nil {
		return l.port.SetTargetPortGroups(nil)
	}
	g := *t
	g.Set = func(by *scsi.ITNexus, changes []scsi.AccessChange) error {
		if t.Set != nil {
			if err := t.Set(by, changes); err != nil {
				return err
			}
		}
		l.n.sys.Send(l.ref, accessChanged{initiator: by.InitiatorName, changes: changes})
		return nil
	}
	return l.port.SetTargetPortGroups(&g)
}

// accessChanged is for the log: an initiator has asked for access states.
type accessChanged struct {
	initiator string
	changes   []scsi.AccessChange
}

func (m *accessChanged) log(ctx runtime.Context) {
	for _, x := range m.changes {
		ctx.Log().Info("an initiator set an access state", "initiator", m.initiator, "group", x.Group, "state", x.State.String())
	}
}

// SetTargetPorts replaces how a LUN is accessed through the target ports of its
// target. It takes g.
func (t *Target) SetTargetPorts(number uint16, g *scsi.TargetPortGroups) error {
	l, err := t.lun(number)
	if err != nil {
		return err
	}
	return l.setTargetPorts(g)
}

// SetAccessState gives a target port group of a LUN an access state.
func (t *Target) SetAccessState(number, group uint16, s scsi.AccessState) error {
	l, err := t.lun(number)
	if err != nil {
		return err
	}
	return l.port.SetAccessState(group, s)
}

// SetPreferred says whether a target port group of a LUN is preferred.
func (t *Target) SetPreferred(number, group uint16, preferred bool) error {
	l, err := t.lun(number)
	if err != nil {
		return err
	}
	return l.port.SetPreferred(group, preferred)
}

func (t *Target) lun(number uint16) (*LUN, error) {
	l := (*t.luns.Load())[number]
	if l == nil {
		return nil, fmt.Errorf("LUN %d of target %s: %w", number, t.name, ErrNotFound)
	}
	return l, nil
}

package scsi

import (
	"errors"
	"fmt"
	"slices"
)

// Additional sense codes of asymmetric access, SPC-5 annex F.
const (
	AccessStateTransition  ASC = 0x040A // LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION
	TargetPortStandby      ASC = 0x040B // LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN STANDBY STATE
	TargetPortUnavailable  ASC = 0x040C // LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE
	LogicalUnitOffline     ASC = 0x0412 // LOGICAL UNIT NOT READY, OFFLINE
	SetTargetPortGroupsErr ASC = 0x670A // SET TARGET PORT GROUPS COMMAND FAILED
)

// AccessState is an asymmetric access state, SPC-5 5.18.2 and table 237.
type AccessState uint8

// Asymmetric access states.
const (
	AccessActiveOptimized    AccessState = 0x0
	AccessActiveNonOptimized AccessState = 0x1
	AccessStandby            AccessState = 0x2
	AccessUnavailable        AccessState = 0x3
	// AccessLBADependent is reported as it is, and works as active/optimized:
	// which blocks are near is for the owner to tell by other means.
	AccessLBADependent  AccessState = 0x4
	AccessOffline       AccessState = 0xE
	AccessTransitioning AccessState = 0xF
)

// String returns the standard's name, or the number.
func (s AccessState) String() string {
	switch s {
	case AccessActiveOptimized:
		return "active/optimized"
	case AccessActiveNonOptimized:
		return "active/non-optimized"
	case AccessStandby:
		return "standby"
	case AccessUnavailable:
		return "unavailable"
	case AccessLBADependent:
		return "logical block dependent"
	case AccessOffline:
		return "offline"
	case AccessTransitioning:
		return "transitioning"
	default:
		return fmt.Sprintf("AccessState(%#x)", uint8(s))
	}
}

// ParseAccessState reads what String returns.
func ParseAccessState(name string) (AccessState, error) {
	for s := AccessActiveOptimized; s <= AccessTransitioning; s++ {
		if s.valid() && s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("scsi: %q is no access state: write active/optimized, active/non-optimized, standby, unavailable, offline or transitioning", name)
}

func (s AccessState) valid() bool { return s <= AccessLBADependent || s >= AccessOffline && s <= 0xF }

// settable: SET TARGET PORT GROUPS may ask for it, SPC-5 table 333.
func (s AccessState) settable() bool { return s <= AccessUnavailable }

// denied returns the rights that the state takes.
func (s AccessState) denied() rights {
	switch s {
	case AccessStandby:
		return rightActive
	case AccessUnavailable, AccessOffline:
		return rightActive | rightStandby
	case AccessTransitioning:
		return rightActive | rightStandby | rightUnmoving
	default:
		return 0
	}
}

// asc returns why a command is refused in the state, SPC-5 5.18.2.
func (s AccessState) asc() ASC {
	switch s {
	case AccessStandby:
		return TargetPortStandby
	case AccessUnavailable:
		return TargetPortUnavailable
	case AccessOffline:
		return LogicalUnitOffline
	default:
		return AccessStateTransition
	}
}

// TargetPortGroup is a target port group of a logical unit, SPC-5 5.18.1.
type TargetPortGroup struct {
	ID        uint16   // TARGET PORT GROUP
	Ports     []uint16 // relative target port identifiers, none of them 0
	State     AccessState
	Preferred bool // PREF
	// Cause is who changed State last. SetTargetPortGroups sets it.
	Cause AccessCause
}

// AccessCause is who gave a target port group its access state: the STATUS CODE
// of its descriptor, SPC-5 table 238.
type AccessCause uint8

// The causes.
const (
	AccessAsConfigured AccessCause = 0 // no status
	AccessExplicit     AccessCause = 1 // an initiator, by SET TARGET PORT GROUPS
	AccessImplicit     AccessCause = 2 // the target
)

// String returns one word.
func (c AccessCause) String() string {
	return [...]string{"configured", "initiator", "target", "unknown"}[min(c, 3)]
}

// AccessChange is a new state of a target port group.
type AccessChange struct {
	Group uint16
	State AccessState
}

// TargetPortGroups is how a logical unit is accessed through the target ports
// of its target. It also tells which target ports there are, for ALL_TG_PT of
// persistent reservations.
type TargetPortGroups struct {
	Groups []TargetPortGroup

	// Implicit and Explicit are who changes states, the TPGS field of INQUIRY:
	// the target by itself, and initiators by SET TARGET PORT GROUPS. With
	// neither, the groups are only for ALL_TG_PT.
	Implicit, Explicit bool

	// Set performs what an initiator asks for by SET TARGET PORT GROUPS, before
	// the states change; its error fails the command. It runs on a worker and
	// may block. nil agrees to everything.
	Set func(by *ITNexus, changes []AccessChange) error
}

// portGroups is the state of a Port. It is replaced as a whole.
type portGroups struct{ TargetPortGroups }

const (
	capAccess    caps = 1 << 7 // REPORT TARGET PORT GROUPS
	capSetAccess caps = 1 << 6 // SET TARGET PORT GROUPS
)

func (g *portGroups) caps() (c caps) {
	if g == nil {
		return 0
	}
	if g.Implicit || g.Explicit {
		c |= capAccess
	}
	if g.Explicit {
		c |= capSetAccess
	}
	return c
}

// tpgs returns the TPGS field of standard INQUIRY data, in its place in byte 5.
func (p *Port) tpgs() byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.access == nil {
		return 0
	}
	return ifSet(p.access.Implicit, 0x10) | ifSet(p.access.Explicit, 0x20)
}

// caps returns what the unit and the port of a command support.
func (c *Command) caps() caps {
	return c.unit.caps | caps(c.Nexus.port.accessCaps.Load())
}

// SetTargetPortGroups says how the logical unit is accessed through its target
// ports. It takes t. Nexuses whose group has another state or preference by it
// get ASYMMETRIC ACCESS STATE CHANGED; all get INQUIRY DATA HAS CHANGED if
// Implicit or Explicit do. nil ends it all.
func (p *Port) SetTargetPortGroups(t *TargetPortGroups) error {
	var next *portGroups
	if t != nil {
		if err := t.check(); err != nil {
			return err
		}
		next = &portGroups{*t}
		for i := range next.Groups {
			next.Groups[i].Cause = AccessAsConfigured
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.access
	p.access = next
	p.accessCaps.Store(uint32(next.caps()))
	for n := range p.nexuses {
		if old.stateOf(n.itn) != next.stateOf(n.itn) || old.caps()&capAccess != 0 && old.preferred(n.itn) != next.preferred(n.itn) {
			n.Attention(AttentionAccessStateChanged)
		}
		if old.caps() != next.caps() {
			n.Attention(AttentionInquiryChanged)
		}
	}
	p.refreshGates()
	return nil
}

func (t *TargetPortGroups) check() error {
	groups, ports := map[uint16]bool{}, map[uint16]bool{}
	for _, g := range t.Groups {
		if groups[g.ID] || !g.State.valid() || len(g.Ports) > 255 {
			return fmt.Errorf("scsi: target port group %d: named twice, of unknown state, or with more than 255 ports", g.ID)
		}
		groups[g.ID] = true
		for _, port := range g.Ports {
			if port == 0 || ports[port] {
				return fmt.Errorf("scsi: target port group %d: target port %d is zero or in two groups", g.ID, port)
			}
			ports[port] = true
		}
	}
	if (t.Implicit || t.Explicit) && len(t.Groups) == 0 {
		return errors.New("scsi: asymmetric access without target port groups")
	}
	return nil
}

// SetAccessState changes the access state of a target port group, by decision
// of the target (implicit). All nexuses get ASYMMETRIC ACCESS STATE CHANGED.
// What commands the new state refuses is refused to commands that are decoded
// from now on; others finish.
func (p *Port) SetAccessState(group uint16, s AccessState) error {
	if !s.valid() {
		return fmt.Errorf("scsi: unknown access state %v", s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.access.group(group) == nil {
		return fmt.Errorf("scsi: no target port group %d", group)
	}
	p.changeAccess([]AccessChange{{group, s}}, AccessImplicit, nil)
	return nil
}

// SetPreferred says whether a target port group is the one to use, PREF of its
// descriptor. All nexuses get ASYMMETRIC ACCESS STATE CHANGED: no other unit
// attention condition makes them look.
func (p *Port) SetPreferred(group uint16, preferred bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.access.group(group)
	switch {
	case g == nil:
		return fmt.Errorf("scsi: no target port group %d", group)
	case g.Preferred == preferred:
		return nil
	}
	next := *p.access
	next.Groups = slices.Clone(next.Groups)
	next.group(group).Preferred = preferred
	p.access = &next
	for n := range p.nexuses {
		n.Attention(AttentionAccessStateChanged)
	}
	return nil
}

// changeAccess sets states of groups that exist; the caller holds mu.
func (p *Port) changeAccess(changes []AccessChange, cause AccessCause, by *Nexus) {
	next := *p.access
	next.Groups = slices.Clone(next.Groups)
	changed := false
	for _, x := range changes {
		i := slices.IndexFunc(next.Groups, func(g TargetPortGroup) bool { return g.ID == x.Group })
		if next.Groups[i].State != x.State {
			changed = true
			next.Groups[i].State = x.State
			next.Groups[i].Cause = cause
		}
	}
	if !changed {
		return
	}
	p.access = &next
	p.refreshGates()
	for n := range p.nexuses {
		// SPC-5 5.18.2.8: not for the nexus that asked for the change.
		if n != by {
			n.Attention(AttentionAccessStateChanged)
		}
	}
}

// TargetPortGroups returns a copy of what SetTargetPortGroups was given last,
// with the present states; it has no groups when there are none.
func (p *Port) TargetPortGroups() TargetPortGroups {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.access == nil {
		return TargetPortGroups{}
	}
	t := p.access.TargetPortGroups
	t.Groups = slices.Clone(t.Groups)
	for i := range t.Groups {
		t.Groups[i].Ports = slices.Clone(t.Groups[i].Ports)
	}
	return t
}

// group returns a group, nil if there is none of that number.
func (g *portGroups) group(id uint16) *TargetPortGroup {
	if g == nil {
		return nil
	}
	for i := range g.Groups {
		if g.Groups[i].ID == id {
			return &g.Groups[i]
		}
	}
	return nil
}

// groupOf returns the group of the target port of a nexus, nil if none has it.
func (g *portGroups) groupOf(itn *ITNexus) *TargetPortGroup {
	if g == nil || itn == nil {
		return nil
	}
	for i := range g.Groups {
		if slices.Contains(g.Groups[i].Ports, itn.RelativePort) {
			return &g.Groups[i]
		}
	}
	return nil
}

// stateOf returns the access state for a nexus: active/optimized for a target
// port in no group.
func (g *portGroups) stateOf(itn *ITNexus) AccessState {
	if x := g.groupOf(itn); x != nil {
		return x.State
	}
	return AccessActiveOptimized
}

// preferred reports whether the group of a nexus is a preferred one.
func (g *portGroups) preferred(itn *ITNexus) bool {
	x := g.groupOf(itn)
	return x != nil && x.Preferred
}

// accessDenied returns what the access state refuses to n; the caller holds mu.
func (p *Port) accessDenied(n *Nexus) rights {
	if p.access.caps()&capAccess == 0 {
		return 0
	}
	return p.access.stateOf(n.itn).denied()
}

// targetPortGroup returns the group to name in VPD page 83h; 0 is none.
func (p *Port) targetPortGroup(itn *ITNexus) uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.access.groupOf(itn); g != nil && p.access.caps()&capAccess != 0 {
		return g.ID
	}
	return itn.TargetPortGroup
}

// failAccessState refuses a command for the access state of its target port.
func (c *Command) failAccessState() {
	p := c.Nexus.port
	p.mu.Lock()
	s := p.access.stateOf(c.Nexus.itn)
	p.mu.Unlock()
	c.Fail(NotReady, s.asc())
}

// accessStateRight returns what a command needs of the access state, SPC-5
// 5.18.2.4 to 5.18.2.7. READ CAPACITY in the standby state is beyond the list
// there: it lets an initiator set up a path before that becomes active.
func accessStateRight(o *operation) rights {
	switch o.opcode() {
	case 0x03, 0x12, 0xA0, 0x3B, 0x3C: // REQUEST SENSE, INQUIRY, REPORT LUNS, WRITE and READ BUFFER
		return 0
	case 0xA3:
		if o.action() == 0x0A { // REPORT TARGET PORT GROUPS
			return 0
		}
		return rightStandby
	case 0xA4: // SET TARGET PORT GROUPS and its kin
		return rightUnmoving
	case 0x15, 0x1A, 0x1C, 0x1D, 0x25, 0x4C, 0x4D, 0x55, 0x5A, 0x5E, 0x5F:
		return rightStandby
	case 0x9E:
		if o.action() == 0x10 { // READ CAPACITY(16)
			return rightStandby
		}
	}
	return rightActive
}

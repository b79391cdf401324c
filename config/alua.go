package config

import (
	"slices"
	"strings"
)

// Asymmetric access states, SPC-5 5.18.2, as they are configured.
const (
	StateOptimized    = "active/optimized"
	StateNonOptimized = "active/non-optimized"
	StateStandby      = "standby"
	StateUnavailable  = "unavailable"
	StateOffline      = "offline"
)

// ALUA is asymmetric access: how good a way to the logical unit each portal group
// is. Each is one target port group, whose identifier is the portal group's tag.
type ALUA struct {
	Source
	// Explicit: initiators may change states too, by SET TARGET PORT GROUPS. What
	// they or `iserd alua` have set lasts until the daemon is restarted or the
	// logical unit's arguments here change.
	Explicit bool `hcl:"explicit,optional" default:"false" ref:"SPC-5 5.18.2"`
	// Groups are the portal groups of the target, all of them.
	Groups []ALUAGroup `hcl:"group,block"`
}

// ALUAGroup is how one portal group leads to the logical unit.
type ALUAGroup struct {
	Source
	// PortalGroup is the name of the portal group.
	PortalGroup string `hcl:"portal_group,label"`
	// State is the asymmetric access state. `standby` answers reads and writes
	// with NOT READY, as do `unavailable` and `offline`.
	State string `hcl:"state,optional" default:"active/optimized" oneof:"active/optimized|active/non-optimized|standby|unavailable|offline" ref:"SPC-5 5.18.2"`
	// Preferred: initiators that have the choice should use this one.
	Preferred bool `hcl:"preferred,optional" default:"false" ref:"SPC-5 6.36"`
}

// Group returns the group block of that portal group, or nil.
func (a *ALUA) Group(name string) *ALUAGroup {
	for i := range a.Groups {
		if a.Groups[i].PortalGroup == name {
			return &a.Groups[i]
		}
	}
	return nil
}

// ALUAOf returns the alua block that holds for a logical unit of the target, its
// own or else the target's; nil if there is none.
func (t *Target) ALUAOf(l *LUN) *ALUA {
	if l.ALUA != nil {
		return l.ALUA
	}
	return t.ALUA
}

// alua checks an alua block of t.
func (k *checker) alua(t *Target, a *ALUA) {
	if a == nil || !t.good("portal_groups") {
		return
	}
	names := seen{}
	active := false
	for i := range a.Groups {
		g := &a.Groups[i]
		k.once(names, "group", g.PortalGroup, g.At("portal_group"))
		active = active || !g.good("state") || strings.HasPrefix(g.State, "active/")
		switch {
		case k.PortalGroup(g.PortalGroup) == nil:
			k.errorf(g.At("portal_group"), "Unknown portal group", "There is no block portal_group %q.%s", g.PortalGroup, didYouMean(g.PortalGroup, k.groupNames()))
		case !slices.Contains(t.PortalGroups, g.PortalGroup):
			k.errorf(g.At("portal_group"), "Portal group of another target", "The target is not reached through portal group %q: its portal_groups are %s.", g.PortalGroup, quoteList(t.PortalGroups))
		}
	}
	for _, name := range t.PortalGroups {
		if k.PortalGroup(name) != nil && a.Group(name) == nil {
			k.errorf(a.Header(), "Missing group", "The target is reached through portal group %q as well: say in which state, such as group %q { state = %q }.", name, name, StateNonOptimized)
			active = true // reported already
		}
	}
	if !active && len(a.Groups) > 0 {
		k.warnf(a.Header(), "No active group", "No initiator can read or write through any of these groups, until `iserd alua set` activates one.")
	}
}

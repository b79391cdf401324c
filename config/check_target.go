package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
)

func (k *checker) targets() {
	if len(k.Targets) == 0 {
		k.diags = append(k.diags, &hcl.Diagnostic{
			Severity: hcl.DiagWarning, Summary: "No target", Detail: "The configuration has no target block: there is nothing to serve.",
		})
	}
	if len(k.Targets) > 0 && len(k.PortalGroups) == 0 {
		k.errorf(k.Targets[0].Header(), "No portal group", "There is no address to listen on: add a portal_group block with a portal.")
	}
	names := seen{}
	users := map[BackendRef]*LUN{}
	for i := range k.Targets {
		t := &k.Targets[i]
		if err := checkISCSIName(t.Name); err != nil {
			k.errorf(t.At("name"), "Invalid target name", "%q: %v.", t.Name, err)
		}
		k.once(names, "target", t.Name, t.At("name"))
		k.targetGroups(t)
		k.targetRedirect(t)
		k.session(&t.Session)
		k.alua(t, t.ALUA)
		for j := range t.LUNs {
			k.lun(&t.LUNs[j], users)
			k.alua(t, t.LUNs[j].ALUA)
		}
		k.lunNumbers(t)
		k.initiators(t)
		k.access(t)
	}
}

// targetGroups checks the target's portal groups, and fills in the only one.
func (k *checker) targetGroups(t *Target) {
	all := k.groupNames()
	if !t.Has("portal_groups") {
		switch len(all) {
		case 0:
		case 1:
			t.PortalGroups = all
		default:
			k.errorf(t.Header(), "Missing portal_groups", "There is more than one portal group: say through which the target is reached, such as portal_groups = %s.", quoteList(all))
		}
		return
	}
	if len(t.PortalGroups) == 0 && t.good("portal_groups") {
		k.errorf(t.At("portal_groups"), "Empty list", "The target could not be reached: portal_groups needs at least one name.")
	}
	for _, g := range t.PortalGroups {
		if k.PortalGroup(g) == nil {
			k.errorf(t.At("portal_groups"), "Unknown portal group", "There is no block portal_group %q.%s", g, didYouMean(g, all))
		}
	}
}

func (k *checker) session(s *Session) {
	if s.good("first_burst_length", "max_burst_length") && s.FirstBurstLength > s.MaxBurstLength {
		at := s.At("first_burst_length")
		if !s.Has("first_burst_length") {
			at = s.At("max_burst_length")
		}
		k.errorf(at, "First burst above maximum burst", "first_burst_length (%s) must not exceed max_burst_length (%s), RFC 7143 §13.14.",
			FormatSize(s.FirstBurstLength), FormatSize(s.MaxBurstLength))
	}
}

// lun checks one logical unit; users are the backends taken so far.
func (k *checker) lun(l *LUN, users map[BackendRef]*LUN) {
	n, p := parseLUN(l.Label)
	if p != nil {
		k.errorf(l.At("number"), p.summary, "%s", p.detail)
		l.setBad("number")
	}
	l.Number = n
	for i := range l.Filters {
		k.filter(&l.Filters[i])
	}
	b := k.Backend(l.Backend)
	if b == nil {
		return // reported where the reference is
	}
	if l.good("thin_threshold", "thin") && l.ThinThreshold > 0 && (!l.Thin || b.Kind != BackendFile) {
		k.errorf(l.At("thin_threshold"), "Threshold of what is not thin", "Only a LUN with thin = true on a backend of kind \"file\" has a store that can run out: its file system.")
	}
	if first, taken := users[l.Backend]; taken {
		k.errorf(l.At("backend"), "Backend used twice", "%s is already behind the LUN at %s; two LUNs on one store would not know of each other's writes.",
			l.Backend, place(first.Header()))
	} else {
		users[l.Backend] = l
	}
	if size, ok := k.sizeOf(b); ok && l.good("block_size") && size%minBlock == 0 && size%l.BlockSize != 0 {
		k.errorf(l.At("block_size"), "Block size does not divide the size", "%s has %s, which is not a multiple of the block size %d.", l.Backend, FormatSize(size), l.BlockSize)
	}
}

// filter checks the arguments of a filter against each other.
func (k *checker) filter(f *Filter) {
	if f.Fault == nil {
		return
	}
	if f.Fault.good("rate") && f.Fault.Rate == 0 {
		k.errorf(f.Fault.At("rate"), "Value out of range", "With rate = 0 nothing would fail; leave the filter out.")
	}
	if f.Fault.good("offset", "length") && f.Fault.Offset > 0 && f.Fault.Length == 0 {
		k.errorf(f.Fault.At("offset"), "Offset without length", "A range has an offset and a length.")
	}
}

// lunNumbers checks the numbers of a target's LUNs.
func (k *checker) lunNumbers(t *Target) {
	if len(t.LUNs) == 0 {
		k.warnf(t.Header(), "No LUN", "The target has no LUN: initiators will find nothing behind it.")
		return
	}
	numbers := seen{}
	zero := false
	for i := range t.LUNs {
		if l := &t.LUNs[i]; l.good("number") {
			k.once(numbers, "LUN", l.Label, l.At("number"))
			zero = zero || l.Number == 0
		}
	}
	if !zero && len(numbers) > 0 {
		k.warnf(t.Header(), "No LUN 0", "Some initiators look for the other LUNs only when there is a LUN 0.")
	}
}

func (k *checker) initiators(t *Target) {
	names := seen{}
	auth := k.Auth(t.Auth)
	for i := range t.Initiators {
		n := &t.Initiators[i]
		if err := checkISCSIName(n.Name); err != nil {
			k.errorf(n.At("name"), "Invalid initiator name", "%q: %v.", n.Name, err)
		}
		k.once(names, "initiator", n.Name, n.At("name"))
		if auth != nil && !auth.admits(n.Name) {
			k.errorf(n.At("name"), "Initiator cannot log in", "The initiator is not in initiator_name of auth %q.", auth.Name)
		}
		if n.good("luns") {
			k.lunMap(t, n)
		}
	}
}

// lunMap checks which LUNs an initiator sees.
func (k *checker) lunMap(t *Target, n *Initiator) {
	own := map[uint16]bool{}
	for i := range t.LUNs {
		own[t.LUNs[i].Number] = true
	}
	visible := own
	if n.Has("luns") {
		visible = map[uint16]bool{}
		if len(n.LUNs) == 0 {
			k.errorf(n.At("luns"), "Initiator sees nothing", "The map is empty: the initiator would see no LUN. Leave luns out to show it all of them.")
		}
		back := map[uint16]uint16{}
		for _, number := range sortedLUNs(n.LUNs) {
			visible[number] = true
			to := n.LUNs[number]
			if !own[to] {
				k.errorf(n.At("luns"), "Unknown LUN", "The target has no LUN %d, which the initiator is to see as LUN %d.", to, number)
			}
			if other, dup := back[to]; dup {
				k.errorf(n.At("luns"), "LUN seen twice", "The initiator would see the target's LUN %d as LUN %d and as LUN %d.", to, other, number)
			}
			back[to] = number
		}
	}
	if !n.good("read_only") {
		return
	}
	for _, number := range n.ReadOnly {
		if !visible[number] {
			k.errorf(n.At("read_only"), "Unknown LUN", "The initiator does not see a LUN %d.", number)
		}
	}
}

func sortedLUNs(m map[uint16]uint16) []uint16 {
	var keys []uint16
	for n := range m {
		keys = append(keys, n)
	}
	slices.Sort(keys)
	return keys
}

// access refuses a target that admits everybody, unless it says so.
func (k *checker) access(t *Target) {
	if !t.good("auth", "insecure") {
		return
	}
	closed := len(t.Initiators) > 0
	if t.Auth != "" {
		a := k.authName("auth", t.Auth, t.At("auth"))
		if a == nil || !a.good("type", "initiator_name", "initiator_address") {
			return
		}
		closed = closed || a.restricts()
	}
	switch {
	case !closed && !t.Insecure:
		k.errorf(t.Header(), "Target open to everybody",
			"Every initiator that reaches the target could log in and write. Give it an auth block with CHAP, a list of initiators or addresses, or, if that is what you want, insecure = true.")
	case closed && t.Insecure:
		k.warnf(t.At("insecure"), "insecure has no effect", "The target has access control, which stays in force.")
	}
}

package scsi

// prChange is one PERSISTENT RESERVE OUT on its way from the old state to the
// next. Its methods change next, and return false after they have finished the
// command with an error: next is dropped then.
type prChange struct {
	*prOut
	c         *Command
	self      nexusID
	old, next *reservations

	notices []prNotice
	aborted []nexusID // whose commands PREEMPT AND ABORT aborts
	fences  bool      // somebody may have fewer rights than before
}

// prNotice is a unit attention condition to establish.
type prNotice struct {
	id        nexusID
	attention Attention
}

// conflict refuses the command with RESERVATION CONFLICT.
func (t *prChange) conflict() bool { return !t.c.conflict() }

// invalid refuses it with INVALID FIELD IN PARAMETER LIST.
func (t *prChange) invalid(offset, bit int) bool {
	return t.c.failField(inParameterList, offset, bit)
}

// tell gives a unit attention to id, unless it is where the command came from.
func (t *prChange) tell(id nexusID, a Attention) {
	if id != t.self {
		t.notices = append(t.notices, prNotice{id, a})
	}
}

// tellRegistrants gives one to all other nexuses that are registered in s.
func (t *prChange) tellRegistrants(s *reservations, a Attention) {
	for _, r := range s.regs {
		t.tell(r.id, a)
	}
}

// apply performs the service action on next.
func (t *prChange) apply() bool {
	if t.action != proReserve && t.action != proRelease {
		t.next.generation++ // SPC-5 6.16.2: not by RESERVE and RELEASE
	}
	switch t.action {
	case proRegister, proRegisterIgnore:
		return t.register()
	case proReplaceLost:
		return t.replaceLost()
	}
	// SPC-5 5.14.1 and 6.17.3: everything else is for registered nexuses that
	// know their key.
	if key := t.old.key(t.self); key == 0 || key != t.key {
		return t.conflict()
	}
	switch t.action {
	case proReserve:
		return t.reserve()
	case proRelease:
		return t.release()
	case proClear:
		return t.clear()
	case proRegisterMove:
		return t.move()
	default:
		return t.preempt()
	}
}

// checkScope wants a logical unit scope and a known type.
func (t *prChange) checkScope() bool {
	switch {
	case t.scope != 0:
		return t.c.failField(inCDB, 2, 7)
	case !t.typ.valid():
		return t.c.failField(inCDB, 2, 3)
	default:
		return true
	}
}

// --- REGISTER, REGISTER AND IGNORE EXISTING KEY: SPC-5 tables 76 and 77

func (t *prChange) register() bool {
	strict := t.action == proRegister
	own := t.old.key(t.self)
	switch {
	case strict && t.key != own: // zero for a nexus that is not registered
		return t.conflict()
	case !strict && t.specIPT:
		return t.invalid(flagsByte, 3)
	case t.specIPT && own != 0:
		return t.c.failField(inCDB, 1, 4)
	}
	targets, ok := t.targets()
	if !ok || !t.setPersistence() {
		return false
	}
	for _, id := range targets {
		key := t.old.key(id)
		switch {
		case t.actionKey == 0:
			if key == own || !strict {
				t.unregister(id)
			}
			continue
		case strict && id != t.self && key != 0 && key != own && key != t.actionKey:
			// The registration of another nexus, with another key.
			return t.conflict()
		case !t.next.register(id, t.actionKey):
			t.c.Fail(IllegalRequest, InsufficientRegistrationResources)
			return false
		}
	}
	return true
}

// setPersistence takes over the APTPL bit.
func (t *prChange) setPersistence() bool {
	t.next.aptpl = t.aptpl || t.next.lost
	if t.aptpl && !t.c.Nexus.port.hasStore() {
		return t.invalid(flagsByte, 0)
	}
	return true
}

// targets returns the nexuses that a registration is for, its own first: by
// ALL_TG_PT on every target port, by SPEC_I_PT of other initiator ports.
func (t *prChange) targets() (ids []nexusID, ok bool) {
	p := t.c.Nexus.port
	ports := []uint16{t.self.port}
	if t.allTgPt {
		if ports = p.allTargetPorts(t.self.port); ports == nil {
			return nil, t.invalid(flagsByte, 2)
		}
	}
	for _, port := range ports {
		ids = append(ids, nexusID{t.self.name, t.self.isid, port})
	}
	if !t.specIPT || t.actionKey == 0 {
		return ids, true
	}
	for _, x := range t.ids {
		if !x.anyPort && x.name == t.self.name && x.isid == t.self.isid {
			// SPC-5 6.17.3: not the initiator port that sends the command.
			return nil, t.invalid(proSpecIPTLen, -1)
		}
		found := p.initiatorPorts(x)
		if len(found) == 0 {
			return nil, t.invalid(proSpecIPTLen, -1)
		}
		for _, id := range found {
			for _, port := range ports {
				ids = append(ids, nexusID{id.name, id.isid, port})
			}
		}
	}
	return ids, true
}

func (t *prChange) unregister(id nexusID) {
	if t.next.unregister(id).registrantsOnly() {
		// SPC-5 5.14.11.2.2: the remaining registrants of a reservation for
		// registrants only learn that it is gone.
		t.tellRegistrants(t.next, AttentionReservationsReleased)
	}
}

// --- RESERVE, RELEASE, CLEAR

// reserve is SPC-5 5.14.9. A holder may repeat what it holds.
func (t *prChange) reserve() bool {
	s := t.next
	if s.lost || s.typ != noReservation && (!s.holds(t.self) || s.typ != t.typ || t.scope != 0) {
		return t.conflict()
	}
	if !t.checkScope() {
		return false
	}
	if s.typ == noReservation {
		t.take()
	}
	return true
}

// take establishes the reservation that the CDB describes.
func (t *prChange) take() {
	t.next.typ, t.next.holder = t.typ, t.self
	if t.typ.allRegistrants() {
		t.next.holder = nexusID{}
	}
	t.fences = true
}

// release is SPC-5 5.14.11.2.1: nothing happens to a reservation that is not
// the nexus's own; its own has to be named right.
func (t *prChange) release() bool {
	s := t.next
	if !s.holds(t.self) {
		return true
	}
	if t.scope != 0 || t.typ != s.typ {
		t.c.Fail(IllegalRequest, InvalidReleaseOfReservation)
		return false
	}
	if typ := s.release(); typ.registrantsOnly() || typ.allRegistrants() {
		t.tellRegistrants(s, AttentionReservationsReleased)
	}
	return true
}

// clear is SPC-5 5.14.11.2.6. It also ends the fence of a lost reservation:
// whoever clears has registered, which any nexus may that is let in at all.
func (t *prChange) clear() bool {
	s := t.next
	t.tellRegistrants(s, AttentionReservationsPreempted)
	s.release()
	s.regs, s.lost = nil, false
	return true
}

// --- PREEMPT, PREEMPT AND ABORT: SPC-5 5.14.11.2.4 and 5.14.11.2.5

func (t *prChange) preempt() bool {
	s := t.next
	all := s.typ.allRegistrants()
	switch {
	case all && t.actionKey == 0:
		return t.preemptReservation(func(registrant) bool { return true })
	case t.actionKey == 0:
		return t.invalid(8, -1)
	case !all && s.typ != noReservation && s.key(s.holder) == t.actionKey:
		return t.preemptReservation(func(r registrant) bool { return r.key == t.actionKey })
	}
	// Only registrations are removed: SCOPE and TYPE are ignored, and the
	// nexus's own goes with the others if it has that key.
	gone := t.remove(func(r registrant) bool { return r.key == t.actionKey })
	if len(gone) == 0 {
		return t.conflict()
	}
	t.fences = true
	return true
}

// preemptReservation removes the registrations that match, but for the
// nexus's own, and replaces the reservation.
func (t *prChange) preemptReservation(match func(registrant) bool) bool {
	if !t.checkScope() {
		return false
	}
	before := t.next.typ
	t.remove(func(r registrant) bool { return r.id != t.self && match(r) })
	t.take()
	if t.typ != before {
		t.tellRegistrants(t.next, AttentionReservationsReleased)
	}
	return true
}

// remove removes registrations, and returns whose.
func (t *prChange) remove(match func(registrant) bool) (gone []nexusID) {
	for _, r := range t.old.regs {
		if match(r) {
			gone = append(gone, r.id)
			t.next.unregister(r.id)
			t.tell(r.id, AttentionRegistrationsPreempted)
		}
	}
	if t.action != proPreemptAbort {
		return gone
	}
	for _, id := range gone {
		if id != t.self { // the command itself is not aborted
			t.aborted = append(t.aborted, id)
		}
	}
	return gone
}

// --- REGISTER AND MOVE, REPLACE LOST RESERVATION

// move is SPC-5 5.14.8.
func (t *prChange) move() bool {
	s, p := t.next, t.c.Nexus.port
	if !s.holds(t.self) || s.typ.allRegistrants() {
		return t.conflict()
	}
	switch {
	case t.actionKey == 0:
		return t.invalid(8, -1)
	case !p.knowsTargetPort(t.port):
		return t.invalid(18, -1)
	case len(t.ids) != 1 || t.ids[0].anyPort:
		return t.invalid(proMoveLen, -1)
	}
	to := nexusID{t.ids[0].name, t.ids[0].isid, t.port}
	if to == t.self {
		return t.invalid(proMoveLen, -1)
	}
	if t.aptpl && !p.hasStore() {
		return t.invalid(moveFlagsByte, 0)
	}
	s.aptpl = t.aptpl
	if !s.register(to, t.actionKey) {
		t.c.Fail(IllegalRequest, InsufficientRegistrationResources)
		return false
	}
	s.holder = to
	if t.unreg {
		s.unregister(t.self)
	}
	t.fences = true
	return true
}

// replaceLost is SPC-5 5.14.11.3: the way out when the stored reservations are
// lost. The nexus is registered and holds a new reservation.
func (t *prChange) replaceLost() bool {
	s := t.next
	switch {
	case !s.lost:
		return t.c.failField(inCDB, 1, 4)
	case t.key != 0:
		return t.invalid(0, -1)
	case t.actionKey == 0:
		return t.invalid(8, -1)
	case !t.checkScope():
		return false
	}
	t.tellRegistrants(s, AttentionReservationsPreempted)
	s.regs, s.lost = nil, false
	s.register(t.self, t.actionKey)
	t.take()
	return true
}

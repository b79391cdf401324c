package scsi

import "encoding/binary"

// Service actions of PERSISTENT RESERVE OUT, SPC-5 table 183.
const (
	proRegister       = 0x00
	proReserve        = 0x01
	proRelease        = 0x02
	proClear          = 0x03
	proPreempt        = 0x04
	proPreemptAbort   = 0x05
	proRegisterIgnore = 0x06
	proRegisterMove   = 0x07
	proReplaceLost    = 0x08
)

// Parameter lists of PERSISTENT RESERVE OUT: the basic one, SPC-5 6.17.3, and
// where the TransportIDs begin with SPEC_I_PT; that of REGISTER AND MOVE, 6.17.4.
const (
	proBasicLen   = 24
	proSpecIPTLen = 28
	proMoveLen    = 24
	flagsByte     = 20
	moveFlagsByte = 17
	specIPTBit    = 0x08
	allTgPtBit    = 0x04
	aptplBit      = 0x01
	unregBit      = 0x02
)

func prOutOperations() []operation {
	row := func(name string, action, scopeType byte) operation {
		return operation{
			name: "PERSISTENT RESERVE OUT, " + name, flags: opService | opUrgent,
			usage:  []byte{0x5F, action, scopeType, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0},
			decode: decodePROut, run: runPROut,
		}
	}
	return []operation{
		row("REGISTER", proRegister, 0),
		row("RESERVE", proReserve, 0xFF),
		row("RELEASE", proRelease, 0xFF),
		row("CLEAR", proClear, 0),
		row("PREEMPT", proPreempt, 0xFF),
		row("PREEMPT AND ABORT", proPreemptAbort, 0xFF),
		row("REGISTER AND IGNORE EXISTING KEY", proRegisterIgnore, 0),
		row("REGISTER AND MOVE", proRegisterMove, 0),
		row("REPLACE LOST RESERVATION", proReplaceLost, 0xFF),
	}
}

// prOut is the decoded parameter list and CDB of a PERSISTENT RESERVE OUT.
type prOut struct {
	action    byte
	scope     byte
	typ       ReservationType
	key       uint64 // RESERVATION KEY
	actionKey uint64 // SERVICE ACTION RESERVATION KEY
	specIPT   bool
	allTgPt   bool
	aptpl     bool
	unreg     bool   // REGISTER AND MOVE
	port      uint16 // REGISTER AND MOVE: RELATIVE TARGET PORT IDENTIFIER
	ids       []transportID
}

// decodePROut bounds the parameter list before anything is received for it.
func decodePROut(c *Command) bool {
	n := binary.BigEndian.Uint32(c.CDB[5:])
	c.OutLen = int(n)
	switch {
	case n < proBasicLen:
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	case n > maxReservationList:
		return c.failField(inCDB, 5, -1)
	default:
		return true
	}
}

// parsePROut decodes the parameter list; ok is false if the command has failed.
func (c *Command) parsePROut() (r *prOut, ok bool) {
	p := c.Out[:min(len(c.Out), c.OutLen)]
	r = &prOut{action: c.CDB[1] & 0x1F, scope: c.CDB[2] >> 4, typ: ReservationType(c.CDB[2] & 0x0F)}
	if len(p) < c.OutLen {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return nil, false
	}
	r.key, r.actionKey = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	head := proBasicLen
	switch r.action {
	case proRegisterMove:
		r.unreg, r.aptpl = p[moveFlagsByte]&unregBit != 0, p[moveFlagsByte]&aptplBit != 0
		r.port = binary.BigEndian.Uint16(p[18:])
		return r, c.parseTransportIDs(r, p, 20, proMoveLen)
	case proRegister, proRegisterIgnore:
		// SPC-5 6.17.3: of these the bits are valid, for all others ignored.
		f := p[flagsByte]
		r.specIPT, r.allTgPt, r.aptpl = f&specIPTBit != 0, f&allTgPtBit != 0, f&aptplBit != 0
		if r.specIPT && r.action == proRegister {
			return r, c.parseTransportIDs(r, p, proBasicLen, proSpecIPTLen)
		}
	}
	// SPC-5 6.17.1: without SPEC_I_PT the list is 24 bytes long.
	if len(p) != head {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return nil, false
	}
	return r, true
}

// parseTransportIDs decodes the TransportIDs that begin at head; their length
// is in the four bytes at lengthAt.
func (c *Command) parseTransportIDs(r *prOut, p []byte, lengthAt, head int) bool {
	if len(p) < head || int64(binary.BigEndian.Uint32(p[lengthAt:])) != int64(len(p)-head) {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	}
	for at := head; at < len(p); {
		t, n, ok := parseTransportID(p[at:])
		if n == 0 {
			c.Fail(IllegalRequest, ParameterListLengthError)
			return false
		}
		if !ok {
			return c.failField(inParameterList, at, -1)
		}
		r.ids = append(r.ids, t)
		at += n
	}
	return true
}

// runPROut performs a PERSISTENT RESERVE OUT on a worker: it may write to the
// store, and wait for commands of those that lose their rights.
func runPROut(c *Command, m mode) bool {
	if m == inline {
		return false
	}
	r, ok := c.parsePROut()
	if !ok || c.reservedByRESERVE() {
		return true
	}
	fenced, lost, ok := c.changeReservations(r)
	if !ok {
		return true
	}
	// Nothing of a nexus that has lost its rights, or its registration by
	// PREEMPT AND ABORT, touches the medium after GOOD. The new state is in
	// effect already, so an abort of this command here does not undo it.
	if r.action == proPreemptAbort && !c.abortTasks(lost) {
		return true
	}
	if fenced {
		c.barrier()
	}
	return true
}

// abortTasks has the commands of preempted nexuses aborted by the task manager,
// and waits for it. An abort of this command ends the wait: two nexuses that
// preempt each other would wait for each other for ever.
func (c *Command) abortTasks(lost []*Nexus) bool {
	abort := c.Nexus.port.AbortTasks
	if abort == nil || len(lost) == 0 {
		return true
	}
	done := make(chan struct{}, 1)
	c.tasks.Store(&done)
	defer c.tasks.Store(nil)
	abort(lost, func() { tell(done) })
	if c.Aborted.Load() {
		tell(done) // Abort may have come before it could see the wait
	}
	select {
	case <-done:
	case <-c.unit.ctx.Done():
		c.Status = Busy
		return false
	}
	if c.Aborted.Load() {
		c.Status = TaskAborted
		return false
	}
	return true
}

// tell ends the wait on a channel with room for one.
func tell(done chan struct{}) {
	select {
	case done <- struct{}{}:
	default: // told already
	}
}

// changeReservations applies r to the state of the port, durably if APTPL is in
// effect. fenced reports whether somebody may have lost rights; lost are the
// nexuses that PREEMPT AND ABORT preempted. ok is false if the command has
// finished with another status than GOOD, and nothing has changed.
func (c *Command) changeReservations(r *prOut) (fenced bool, lost []*Nexus, ok bool) {
	p := c.Nexus.port
	p.prMu.Lock()
	defer p.prMu.Unlock()
	t := &prChange{prOut: r, c: c, self: c.Nexus.id, old: p.pr.Load()}
	t.next = t.old.clone()
	if !t.apply() {
		return false, nil, false
	}
	if err := p.saveReservations(t.old, t.next); err != nil {
		c.Fail(HardwareError, InternalTargetFailure)
		if report := c.unit.cfg.Report; report != nil {
			report(&Error{Op: c.op.name, Key: HardwareError, ASC: InternalTargetFailure, Err: err})
		}
		return false, nil, false
	}
	return t.fences, p.setReservations(t), true
}

// setReservations puts the new state into effect: first the state and the
// gates, then what is told about it. The caller holds prMu.
func (p *Port) setReservations(t *prChange) (lost []*Nexus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pr.Store(t.next)
	p.refreshGates()
	for n := range p.nexuses {
		for _, id := range t.aborted {
			if n.id == id {
				n.gate.Add(uint32(gateCount))
				lost = append(lost, n)
			}
		}
		for _, x := range t.notices {
			if n.id == x.id {
				n.Attention(x.attention)
			}
		}
	}
	return lost
}

package scsi

// rights are what a command needs of its I_T nexus, one bit each; and in the
// gate of a Nexus, what is refused to it. The bits above are the gate's count
// of PREEMPT AND ABORT: a command whose count is not the current one has been
// aborted.
type rights uint32

const (
	rightRead       rights = 1 << iota // persistent reservations: accessRead
	rightWrite                         // accessWrite
	rightManage                        // accessManage
	rightUnreserved                    // SPC-2 reservations: conflicts with one of another nexus
	rightActive                        // ALUA: wants active/optimized or active/non-optimized
	rightStandby                       // ALUA: works in the standby state as well
	rightUnmoving                      // ALUA: works unless the state is in transition
	rightMedium                        // refused while SANITIZE or FORMAT UNIT has the medium

	reservationRights = rightRead | rightWrite | rightManage | rightUnreserved
	accessRights      = rightActive | rightStandby | rightUnmoving

	// gateDetached: the nexus has ended, and nobody keeps its gate current.
	gateDetached rights = 1 << 15

	gateRights rights = 1<<16 - 1
	gateCount  rights = 1 << 16
)

// rightsOf derives the rights that an operation needs from its class and code.
func rightsOf(o *operation) rights {
	r := accessStateRight(o)
	switch o.class {
	case accessRead:
		r |= rightRead
	case accessWrite:
		r |= rightWrite
	case accessManage:
		r |= rightManage
	case accessAlways:
	}
	if !worksReserved(o) {
		r |= rightUnreserved
	}
	if worksOnMedium(o) {
		r |= rightMedium
	}
	return r
}

// worksReserved reports whether a command is performed although another I_T
// nexus holds an SPC-2 reservation: SPC-2 table 10, SBC table 3, and the
// reporting commands that came later. RESERVE, RELEASE and the PERSISTENT
// RESERVE commands look for themselves.
func worksReserved(o *operation) bool {
	switch o.opcode() {
	case 0x03, 0x12, 0xA0, 0x25, 0x4D, 0xA3, 0x16, 0x17, 0x56, 0x57, 0x5E, 0x5F:
		return true
	case 0x9E:
		return o.action() == 0x10 // READ CAPACITY(16)
	default:
		return false
	}
}

// exempt reports whether a CDB passes every reservation although its operation
// code does not, SBC-4 table 13: START STOP UNIT that only starts, and PREVENT
// ALLOW MEDIUM REMOVAL that allows.
func exempt(cdb []byte) bool {
	switch cdb[0] {
	case 0x1B:
		return cdb[4]&0xF1 == startBit
	case 0x1E:
		return cdb[4]&0x03 == 0
	default:
		return false
	}
}

// conflict finishes the command with RESERVATION CONFLICT. It returns true, for
// handlers.
func (c *Command) conflict() bool {
	c.Status = ReservationConflict
	c.Sense, c.In = nil, nil
	return true
}

// reservationConflict checks the reservations for a command whose gate says that
// something may be refused, and finishes it with RESERVATION CONFLICT if so.
func (c *Command) reservationConflict() bool {
	if c.Nexus.current(c.gate)&c.op.rights&reservationRights == 0 || exempt(c.CDB) {
		return false
	}
	return c.conflict()
}

// current returns the rights refused to a nexus whose gate is g.
func (n *Nexus) current(g rights) rights {
	if g&gateDetached == 0 {
		return g
	}
	n.port.mu.Lock()
	defer n.port.mu.Unlock()
	return g&^gateRights | gateDetached | n.port.deniedTo(n)
}

// recheck looks at the gate again after the range lock has been taken: what was
// allowed when the command was decoded may have been fenced since, or aborted
// by PREEMPT AND ABORT. Whoever closes a gate passes every stripe of the range
// lock after that, so behind its GOOD no fenced command touches the medium. It
// returns as lock does.
func (c *Command) recheck(m mode) bool {
	now := rights(c.Nexus.gate.Load())
	aborted := (now^c.gate)&^gateRights != 0
	denied := c.Nexus.current(now) & c.op.rights
	refused := denied&(reservationRights|rightMedium) != 0
	if !aborted && !refused {
		c.gate = now
		return true
	}
	c.unlock()
	switch {
	case m == inline: // a worker finds the same, and finishes the command
	case aborted:
		c.Status = TaskAborted
		c.Cleared = now&gateDetached == 0 && !c.unit.taskAborted.Load()
	case denied&rightMedium != 0:
		c.failMedium()
	default:
		c.Status = ReservationConflict
	}
	return false
}

// barrier waits until every range lock held at the moment has been released. If
// the command is aborted or the unit revoked meanwhile, it sets a status for that. It takes one stripe at a time: a call that hangs in the backend
// holds up the caller, and else only requests for its own stripes.
func (c *Command) barrier() {
	l := &c.unit.locks
	for i := range numStripes {
		s := span{i, 1, exclusive}
		ok := l.lock(s, c.announce)
		c.waiter.Store(nil)
		if !ok {
			c.Status = Busy
			if c.Aborted.Load() {
				c.Status = TaskAborted
			}
			return
		}
		l.unlock(s)
	}
}

// refreshGates computes the rights of every nexus anew. The caller holds mu.
func (p *Port) refreshGates() {
	for n := range p.nexuses {
		p.refreshGate(n)
	}
}

// refreshGate computes the rights of one nexus; the caller holds mu.
func (p *Port) refreshGate(n *Nexus) {
	old := rights(n.gate.Load())
	n.gate.Store(uint32(old&^gateRights | p.deniedTo(n)))
}

// deniedTo returns the rights that n does not have; the caller holds mu.
func (p *Port) deniedTo(n *Nexus) rights {
	denied := p.pr.Load().denied(n.id) | p.accessDenied(n)
	if p.reserved != nil && p.reserved != n.itn {
		denied |= rightUnreserved
	}
	if p.medium.Load() != nil {
		denied |= rightMedium
	}
	return denied
}

// shut ends the commands of a detached nexus that have not touched the medium,
// SAM-6 6.3.4; the caller holds mu.
func (n *Nexus) shut() {
	g := rights(n.gate.Load())
	if g&gateDetached == 0 {
		n.gate.Store(uint32(g + gateCount | gateDetached))
	}
}

// lockReservations takes prMu; inline it fails rather than wait for a change
// that is on its way to the disk.
func (p *Port) lockReservations(m mode) bool {
	if m == inline {
		return p.prMu.TryLock()
	}
	p.prMu.Lock()
	return true
}

// --- RESERVE and RELEASE, SPC-2 7.21 to 7.24, with the exceptions of SPC-5
// 5.14.3 (CRH one).

func reserveOperations() []operation {
	return []operation{
		{
			name: "RESERVE(6)", flags: opUrgent,
			usage:  []byte{0x16, 0x11, 0, 0, 0, 0},
			decode: decodeReserve, run: runReserve,
		}, {
			name: "RELEASE(6)", flags: opUrgent,
			usage:  []byte{0x17, 0x11, 0, 0, 0, 0},
			decode: decodeReserve, run: runRelease,
		}, {
			name: "RESERVE(10)", flags: opUrgent,
			usage:  []byte{0x56, 0x13, 0, 0, 0, 0, 0, 0, 0, 0},
			decode: decodeReserve, run: runReserve,
		}, {
			name: "RELEASE(10)", flags: opUrgent,
			usage:  []byte{0x57, 0x13, 0, 0, 0, 0, 0, 0, 0, 0},
			decode: decodeReserve, run: runRelease,
		},
	}
}

// decodeReserve refuses third-party and extent reservations, and the long form
// of third-party identifiers: all obsolete.
func decodeReserve(c *Command) bool {
	b := c.CDB[1]
	switch {
	case b&0x10 != 0: // 3RDPTY
		return c.failField(inCDB, 1, 4)
	case b&0x02 != 0 && len(c.op.usage) == 10: // LONGID
		return c.failField(inCDB, 1, 1)
	case b&0x01 != 0: // EXTENT
		return c.failField(inCDB, 1, 0)
	default:
		return true
	}
}

// persistentAnswer answers RESERVE and RELEASE while any I_T nexus is
// registered, and reports whether it did. The persistent reservation stays as
// it is: the holder, and a registered nexus under the types of registrants,
// get GOOD (SPC-5 5.14.3); all others RESERVATION CONFLICT (SPC-2 5.5.1).
func (c *Command) persistentAnswer() bool {
	s, id := c.Nexus.port.pr.Load(), c.Nexus.id
	if len(s.regs) == 0 && !s.lost {
		return false
	}
	registered := s.find(id) >= 0
	if s.holds(id) || registered && s.typ.registrantsOnly() {
		return true
	}
	return c.conflict()
}

func runReserve(c *Command, m mode) bool {
	if m == inline {
		return false // it may have to wait for commands under way
	}
	if c.reserve() {
		c.barrier()
	}
	return true
}

// reserve takes the SPC-2 reservation; false if the command is finished.
func (c *Command) reserve() bool {
	p, itn := c.Nexus.port, c.Nexus.itn
	p.prMu.Lock()
	defer p.prMu.Unlock()
	if c.persistentAnswer() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, attached := p.nexuses[c.Nexus]
	if p.reserved != nil && p.reserved != itn || !attached || itn == nil {
		return !c.conflict()
	}
	p.reserved = itn
	p.refreshGates()
	return true
}

// runRelease releases the reservation of the nexus. Without one it does
// nothing, SPC-2 7.16.
func runRelease(c *Command, m mode) bool {
	p := c.Nexus.port
	if !p.lockReservations(m) {
		return false
	}
	defer p.prMu.Unlock()
	if !c.persistentAnswer() && c.Nexus.itn != nil {
		p.unreserve(c.Nexus.itn)
	}
	return true
}

// unreserve ends the SPC-2 reservation of a session; nil that of any.
func (p *Port) unreserve(itn *ITNexus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unreserveLocked(itn)
}

func (p *Port) unreserveLocked(itn *ITNexus) {
	if p.reserved == nil || itn != nil && p.reserved != itn {
		return
	}
	p.reserved = nil
	p.refreshGates()
}

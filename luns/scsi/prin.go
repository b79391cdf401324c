package scsi

import "encoding/binary"

// Service actions of PERSISTENT RESERVE IN, SPC-5 table 176.
const (
	priReadKeys           = 0x00
	priReadReservation    = 0x01
	priReportCapabilities = 0x02
	priReadFullStatus     = 0x03
)

func prInOperations() []operation {
	row := func(name string, action byte, run func(*Command, mode) bool) operation {
		return operation{
			name: "PERSISTENT RESERVE IN, " + name, flags: opService,
			usage:  []byte{0x5E, action, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0},
			decode: decodePRIn, run: run,
		}
	}
	return []operation{
		row("READ KEYS", priReadKeys, runReadKeys),
		row("READ RESERVATION", priReadReservation, runReadReservation),
		row("REPORT CAPABILITIES", priReportCapabilities, runReportCapabilities),
		row("READ FULL STATUS", priReadFullStatus, runReadFullStatus),
	}
}

func decodePRIn(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint16(c.CDB[7:])))
	return true
}

// reservedByRESERVE ends PERSISTENT RESERVE commands while any nexus, the
// asking one included, holds an SPC-2 reservation, SPC-2 5.5.1.
func (c *Command) reservedByRESERVE() bool {
	p := c.Nexus.port
	p.mu.Lock()
	reserved := p.reserved != nil
	p.mu.Unlock()
	return reserved && c.conflict()
}

// appendHeader appends PRGENERATION and an ADDITIONAL LENGTH that finishPRIn
// fills in.
func (s *reservations) appendHeader(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, s.generation)
	return zeros(b, 4)
}

func (c *Command) finishPRIn(b []byte) bool {
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-8))
	c.reply(b)
	return true
}

// runReadKeys is SPC-5 6.16.2.
func runReadKeys(c *Command, _ mode) bool {
	if c.reservedByRESERVE() {
		return true
	}
	s := c.Nexus.port.pr.Load()
	b := s.appendHeader(c.build())
	for _, r := range s.regs {
		b = binary.BigEndian.AppendUint64(b, r.key)
	}
	return c.finishPRIn(b)
}

// lostReservation tells that the stored reservation is not known, SPC-5
// 5.14.5.4: HARDWARE ERROR, PERSISTENT RESERVATION INFORMATION LOST.
func (c *Command) lostReservation(s *reservations) bool {
	if s.lost {
		c.Fail(HardwareError, PersistentReservationLost)
	}
	return s.lost
}

// runReadReservation is SPC-5 6.16.3. A reservation of all registrants has the
// key zero.
func runReadReservation(c *Command, _ mode) bool {
	s := c.Nexus.port.pr.Load()
	if c.reservedByRESERVE() || c.lostReservation(s) {
		return true
	}
	b := s.appendHeader(c.build())
	if s.typ != noReservation {
		var key uint64
		if !s.typ.allRegistrants() {
			key = s.key(s.holder)
		}
		b = binary.BigEndian.AppendUint64(b, key)
		b = append(b, 0, 0, 0, 0, 0, byte(s.typ), 0, 0)
	}
	return c.finishPRIn(b)
}

// Bits of REPORT CAPABILITIES, SPC-5 6.16.4.
const (
	rlrC  = 0x80 // REPLACE LOST RESERVATION
	crh   = 0x10 // RESERVE and RELEASE by the rules of SPC-5 5.14.3
	sipC  = 0x08 // SPEC_I_PT
	atpC  = 0x04 // ALL_TG_PT
	ptplC = 0x01 // APTPL
	tmv   = 0x80 // PERSISTENT RESERVATION TYPE MASK is valid
	ptplA = 0x01 // APTPL is in effect

	// allowTestUnitReady, ALLOW COMMANDS 001b: TEST UNIT READY passes Write
	// Exclusive and Exclusive Access; of other commands nothing is said.
	allowTestUnitReady = 0x10
)

func runReportCapabilities(c *Command, _ mode) bool {
	if c.reservedByRESERVE() {
		return true
	}
	p := c.Nexus.port
	p.mu.Lock()
	stored, ports := p.store != nil, p.access != nil
	p.mu.Unlock()
	can := crh | sipC | ifSet(ports, atpC) | ifSet(stored, ptplC|rlrC)
	b := append(c.build(), 0, 8, can, tmv|allowTestUnitReady|ifSet(p.pr.Load().aptpl, ptplA))
	b = binary.BigEndian.AppendUint16(b, reservationTypeMask)
	c.reply(append(b, 0, 0))
	return true
}

// runReadFullStatus is SPC-5 6.16.5: one descriptor for each registered I_T
// nexus, so ALL_TG_PT is zero in all of them.
func runReadFullStatus(c *Command, _ mode) bool {
	s := c.Nexus.port.pr.Load()
	if c.reservedByRESERVE() || c.lostReservation(s) {
		return true
	}
	b := s.appendHeader(c.build())
	for _, r := range s.regs {
		b = binary.BigEndian.AppendUint64(b, r.key)
		var holder, typ byte
		if s.holds(r.id) {
			holder, typ = 0x01, byte(s.typ) // R_HOLDER
		}
		b = append(b, 0, 0, 0, 0, holder, typ, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, r.id.port)
		at := len(b)
		b = appendTransportID(zeros(b, 4), r.id)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return c.finishPRIn(b)
}

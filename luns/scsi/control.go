package scsi

import (
	"encoding/binary"
)

// --- REQUEST SENSE

func decodeRequestSense(c *Command) bool {
	c.setAlloc(uint64(c.CDB[4]))
	return true
}

// runRequestSense returns a pending unit attention condition as parameter data
// and clears it, SPC-5 6.39; else the progress of SANITIZE or FORMAT UNIT. There
// is no deferred error.
func runRequestSense(c *Command, _ mode) bool {
	var s senseInfo
	if a, ok := c.Nexus.takeAttention(); ok {
		s.key, s.asc = UnitAttention, a.ASC()
	} else if j := c.Nexus.port.medium.Load(); j != nil {
		s = j.sense()
	} else if c.unit.ejected.Load() {
		s.key, s.asc = NotReady, MediumNotPresent
	}
	c.reply(s.append(c.build(), c.CDB[1]&0x01 != 0))
	return true
}

// --- SEND DIAGNOSTIC

// decodeSendDiagnostic accepts the default self-test and nothing else, SPC-5
// 6.42.
func decodeSendDiagnostic(c *Command) bool {
	c.OutLen = int(binary.BigEndian.Uint16(c.CDB[3:]))
	switch {
	case c.CDB[1]&0xE0 != 0: // SELF-TEST CODE
		return c.failField(inCDB, 1, 7)
	case c.OutLen != 0: // no diagnostic pages
		return c.failField(inCDB, 3, -1)
	default:
		return true
	}
}

// --- START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL

// Bits of byte 4 of START STOP UNIT, SBC-4 5.31.
const (
	startBit   = 0x01
	loejBit    = 0x02
	powerBits  = 0xF0 // POWER CONDITION
	noFlushBit = 0x04
)

func decodeStartStop(c *Command) bool {
	b := c.CDB[4]
	if b&powerBits == 0 && b&loejBit != 0 && !c.unit.cfg.Removable {
		return c.failField(inCDB, 4, 1)
	}
	return true
}

// runStartStop flushes on a stop, and ejects or loads a removable medium. The
// stopped power condition is not entered: a logical unit that others use as
// well does not go away because one initiator shuts down. For the same reason a
// power condition is accepted and changes nothing; START and LOEJ are ignored
// with it.
func runStartStop(c *Command, m mode) bool {
	u, b := c.unit, c.CDB[4]
	switch {
	case b&powerBits != 0:
	case b&startBit == 0:
		return c.stop(m)
	case b&loejBit != 0 && u.ejected.Load():
		if c.Nexus.port.removalPrevented() { // the tray is locked, also empty
			c.Fail(IllegalRequest, MediumRemovalPrevented)
			return true
		}
		if u.ejected.Swap(false) {
			c.Nexus.port.Attention(AttentionMediumChanged, c.Nexus)
		}
	}
	return true
}

func (c *Command) stop(m mode) bool {
	u, b := c.unit, c.CDB[4]
	if b&loejBit != 0 && c.Nexus.port.removalPrevented() {
		c.Fail(IllegalRequest, MediumRemovalPrevented)
		return true
	}
	if b&noFlushBit == 0 && u.volatile {
		if m == inline {
			return false
		}
		if !c.flush() {
			return true
		}
	}
	if b&loejBit != 0 {
		u.ejected.Store(true)
	}
	return true
}

func decodePreventAllow(c *Command) bool {
	if c.CDB[4]&0x02 != 0 { // obsolete values 10b and 11b
		return c.failField(inCDB, 4, 1)
	}
	return true
}

func runPreventAllow(c *Command, _ mode) bool {
	c.Nexus.prevent.Store(c.CDB[4]&0x01 != 0)
	return true
}

// --- REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS

func decodeRSTMF(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint32(c.CDB[6:])))
	return true
}

// runRSTMF is SPC-5 6.37: the basic data, or with REPD the extended data with
// all timeouts unspecified.
func runRSTMF(c *Command, _ mode) bool {
	b := binary.BigEndian.AppendUint16(c.build(), uint16(c.unit.cfg.TMF|c.Nexus.TMF))
	if c.CDB[2]&0x80 != 0 {
		b = append(b, 0, 12)
		c.reply(zeros(b, 12))
		return true
	}
	c.reply(append(b, 0, 0))
	return true
}

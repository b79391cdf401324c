package scsi

import (
	"encoding/binary"
)

// Bits of the REPORT SUPPORTED OPERATION CODES CDB and data, SPC-5 6.35.
const (
	rctdBit       = 0x80 // return command timeouts descriptors
	ctdpBit       = 0x80 // one_command: a timeouts descriptor follows
	supportedStd  = 0x03 // as the standard says
	notSupported  = 0x01
	servActv      = 0x01 // all_commands: SERVICE ACTION is valid
	ctdpInAll     = 0x02 // all_commands: a timeouts descriptor follows
	timeoutsBytes = 12
)

func decodeRSOC(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint32(c.CDB[6:])))
	if c.CDB[2]&0x07 > 3 { // REPORTING OPTIONS
		return c.failField(inCDB, 2, 2)
	}
	return true
}

func runRSOC(c *Command, _ mode) bool {
	option := c.CDB[2] & 0x07
	if option == 0 {
		c.reply(c.appendAllCommands(c.build()))
		return true
	}
	op, ok := c.requestedOperation(option)
	if !ok {
		return true
	}
	c.reply(c.appendOneCommand(c.build(), op))
	return true
}

// eachOperation calls f for every command the unit supports, by operation code
// and service action.
func (c *Command) eachOperation(f func(*operation)) {
	can := c.caps()
	visit := func(o *operation) {
		if o != nil && o.needs&^can == 0 {
			f(o)
		}
	}
	for _, g := range c.unit.table {
		if g == nil {
			continue
		}
		visit(g.single)
		for _, o := range g.actions {
			visit(o)
		}
	}
}

func (c *Command) appendAllCommands(b []byte) []byte {
	rctd := c.CDB[2]&rctdBit != 0
	start := len(b)
	b = zeros(b, 4)
	c.eachOperation(func(o *operation) {
		var flags byte
		var action uint16
		if o.is(opService) {
			flags, action = servActv, uint16(o.action())
		}
		if rctd {
			flags |= ctdpInAll
		}
		b = append(b, o.opcode(), 0, byte(action>>8), byte(action), 0, flags)
		b = binary.BigEndian.AppendUint16(b, uint16(len(o.usage)))
		if rctd {
			b = appendTimeouts(b)
		}
	})
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// requestedOperation looks up what the CDB asks about; nil is a command that
// is not supported. ok is false if the question does not fit the operation
// code: it has failed the command, SPC-5 table 243.
func (c *Command) requestedOperation(option byte) (o *operation, ok bool) {
	action := binary.BigEndian.Uint16(c.CDB[4:])
	g := c.unit.table[c.CDB[3]]
	switch {
	case g == nil:
		return nil, true
	case option == 1 && g.single == nil:
		return nil, c.failField(inCDB, 2, 2)
	case option == 2 && g.single != nil:
		return nil, c.failField(inCDB, 2, 2)
	case g.single != nil && (option == 1 || action == 0):
		o = g.single
	case g.single == nil && int(action) < len(g.actions):
		o = g.actions[action]
	}
	if o != nil && o.needs&^c.caps() != 0 {
		return nil, true
	}
	return o, true
}

func (c *Command) appendOneCommand(b []byte, o *operation) []byte {
	if o == nil {
		return append(b, 0, notSupported, 0, 0)
	}
	support := byte(supportedStd)
	rctd := c.CDB[2]&rctdBit != 0
	if rctd {
		support |= ctdpBit
	}
	b = append(b, 0, support)
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.usage)))
	b = append(b, o.usage...)
	if rctd {
		b = appendTimeouts(b)
	}
	return b
}

// appendTimeouts appends a command timeouts descriptor that gives no values,
// SPC-5 6.35.4.
func appendTimeouts(b []byte) []byte {
	b = append(b, 0, timeoutsBytes-2)
	return zeros(b, timeoutsBytes-2)
}

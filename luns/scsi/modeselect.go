package scsi

import (
	"encoding/binary"
	"math"
)

func decodeModeSelect6(c *Command) bool {
	c.OutLen = int(c.CDB[4])
	return c.checkModeSelect()
}

func decodeModeSelect10(c *Command) bool {
	c.OutLen = int(binary.BigEndian.Uint16(c.CDB[7:]))
	return c.checkModeSelect()
}

// checkModeSelect wants PF one and SP zero: no vendor format, nothing saved.
func (c *Command) checkModeSelect() bool {
	switch {
	case c.CDB[1]&0x10 == 0:
		return c.failField(inCDB, 1, 4)
	case c.CDB[1]&0x01 != 0:
		return c.failField(inCDB, 1, 0)
	default:
		return true
	}
}

// runModeSelect is SPC-5 6.12: all of the list is checked before any page is
// applied. If something changed, the other nexuses are told.
func runModeSelect(c *Command, _ mode) bool {
	if c.OutLen == 0 {
		return true // SPC-5 6.12: no error
	}
	list := c.Out[:min(len(c.Out), c.OutLen)]
	at, ok := c.checkModeHeader(list)
	if !ok {
		return true
	}
	first := at
	for at < len(list) {
		n, ok := c.checkPage(list, at)
		if !ok {
			return true
		}
		at += n
	}
	changed := false
	for at = first; at < len(list); {
		p, n := c.unit.findPage(list[at:])
		page := list[at : at+n]
		if p.apply != nil && string(page[1:]) != string(p.current(c.unit)[1:]) {
			p.apply(c.unit, page)
			changed = true
		}
		at += n
	}
	if changed {
		c.Nexus.port.Attention(AttentionModeParametersChanged, c.Nexus)
	}
	return true
}

// checkModeHeader checks the mode parameter header and the block descriptor,
// which may only repeat what is. It returns where the pages begin.
func (c *Command) checkModeHeader(list []byte) (pages int, ok bool) {
	header, descLen, long := 4, 0, false
	if len(c.op.usage) == 10 {
		header = 8
	}
	if len(list) < header {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return 0, false
	}
	if header == 4 {
		descLen = int(list[3])
	} else {
		long = list[4]&0x01 != 0
		descLen = int(binary.BigEndian.Uint16(list[6:]))
	}
	size := 8
	if long {
		size = 16
	}
	if descLen == 0 {
		return header, true
	}
	if descLen != size {
		return 0, c.failField(inParameterList, header-1, -1)
	}
	if len(list) < header+size {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return 0, false
	}
	return header + size, c.checkBlockDescriptor(list[header:header+size], header)
}

// checkBlockDescriptor refuses to change the block length or the capacity. A
// number of blocks of zero, and of all ones, keeps the capacity, SBC-4 6.5.2.
func (c *Command) checkBlockDescriptor(d []byte, at int) bool {
	capacity := c.unit.capacity.Load()
	var blocks, most uint64
	var length uint32
	lengthAt := at + 5
	if len(d) == 16 {
		blocks, most = binary.BigEndian.Uint64(d), math.MaxUint64
		length, lengthAt = binary.BigEndian.Uint32(d[12:]), at+12
	} else {
		blocks, most = uint64(binary.BigEndian.Uint32(d)), math.MaxUint32
		length = binary.BigEndian.Uint32(d[4:]) & 0xFFFFFF
	}
	switch {
	case blocks != 0 && blocks != most && blocks != capacity:
		return c.failField(inParameterList, at, -1)
	case length != uint32(c.unit.blockSize):
		return c.failField(inParameterList, lengthAt, -1)
	default:
		return true
	}
}

// findPage returns the table's page for the one at the head of b, nil if there
// is none or b is too short, and its length.
func (u *Unit) findPage(b []byte) (*modePage, int) {
	if len(b) < 2 {
		return nil, 0
	}
	code, subpage, n := b[0]&0x3F, byte(0), 2+int(b[1])
	if b[0]&0x40 != 0 { // SPF
		if len(b) < 4 {
			return nil, 0
		}
		subpage, n = b[1], 4+int(binary.BigEndian.Uint16(b[2:]))
	}
	for i := range modePages {
		if p := &modePages[i]; p.code == code && p.subpage == subpage && p.needs&^u.caps == 0 {
			return p, n
		}
	}
	return nil, n
}

// checkPage checks the page at list[at:]: known, of the right length, and
// equal to the current values but for changeable bits.
func (c *Command) checkPage(list []byte, at int) (n int, ok bool) {
	p, n := c.unit.findPage(list[at:])
	if n == 0 || n > len(list)-at {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return 0, false
	}
	if p == nil {
		return 0, c.failField(inParameterList, at, 5)
	}
	current, mask := p.current(c.unit), p.changeable(c.unit)
	if n != len(current) {
		return 0, c.failField(inParameterList, at+1, -1)
	}
	// Byte 0 has PS, which is reserved here, besides what findPage looked at.
	for i := 2; i < n; i++ {
		if (list[at+i]^current[i])&^mask[i] != 0 {
			return 0, c.failField(inParameterList, at+i, -1)
		}
	}
	return n, true
}

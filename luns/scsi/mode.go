package scsi

import (
	"encoding/binary"
	"math"
)

// Page controls of MODE SENSE, SPC-5 6.14.1.
const (
	pcCurrent    = 0
	pcChangeable = 1
	pcDefault    = 2
	pcSaved      = 3
)

// allPages and allSubpages are the page codes that select all.
const (
	allPages    = 0x3F
	allSubpages = 0xFF
)

// modePage is one mode page in the three forms that differ: whole pages, from
// the PAGE CODE byte on.
type modePage struct {
	code, subpage byte
	needs         caps
	current       func(u *Unit) []byte
	defaults      func(u *Unit) []byte
	changeable    func(u *Unit) []byte // a one for each bit MODE SELECT may change
	apply         func(u *Unit, p []byte)
}

// Bits of the mode pages.
const (
	wceBit    = 0x04 // Caching, byte 2
	dSenseBit = 0x04 // Control, byte 2
	swpBit    = 0x08 // Control, byte 4
	tasBit    = 0x40 // Control, byte 5
)

// modePages are the pages in ascending order of code and subpage.
var modePages = [...]modePage{
	{
		// Read-Write Error Recovery, SBC-4 6.5.10: nothing is reallocated,
		// retried or corrected here. Tools such as sg_format ask for it.
		code:       0x01,
		current:    errorRecoveryPage,
		defaults:   errorRecoveryPage,
		changeable: errorRecoveryPage,
	}, {
		// Caching, SBC-4 6.5.6.
		code:       0x08,
		current:    func(u *Unit) []byte { return cachingPage(ifSet(u.writeCache.Load(), wceBit)) },
		defaults:   func(u *Unit) []byte { return cachingPage(ifSet(u.defaultWriteCache(), wceBit)) },
		changeable: func(u *Unit) []byte { return cachingPage(ifSet(u.volatile, wceBit)) },
		apply:      func(u *Unit, p []byte) { u.writeCache.Store(p[2]&wceBit != 0) },
	}, {
		// Control, SPC-5 7.5.10.
		code: 0x0A,
		current: func(u *Unit) []byte {
			return controlPage(ifSet(u.descriptorSense.Load(), dSenseBit)|gltsd, unrestricted,
				ifSet(u.softProtect.Load(), swpBit), ifSet(u.taskAborted.Load(), tasBit))
		},
		defaults:   func(*Unit) []byte { return controlPage(gltsd, unrestricted, 0, 0) },
		changeable: func(*Unit) []byte { return controlPage(dSenseBit, 0, swpBit, tasBit) },
		apply: func(u *Unit, p []byte) {
			u.descriptorSense.Store(p[2]&dSenseBit != 0)
			u.softProtect.Store(p[4]&swpBit != 0)
			u.taskAborted.Store(p[5]&tasBit != 0)
		},
	}, {
		// Control Extension, SPC-5 7.5.11.
		code: 0x0A, subpage: 0x01,
		current:    func(*Unit) []byte { return controlExtension(tcmos | scsip) },
		defaults:   func(*Unit) []byte { return controlExtension(tcmos | scsip) },
		changeable: func(*Unit) []byte { return controlExtension(0) },
	}, {
		// Informational Exceptions Control, SBC-4 6.5.8: disabled.
		code:       0x1C,
		current:    func(*Unit) []byte { return []byte{0x1C, 0x0A, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0} },
		defaults:   func(*Unit) []byte { return []byte{0x1C, 0x0A, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0} },
		changeable: func(*Unit) []byte { return []byte{0x1C, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} },
	}, {
		code: 0x1C, subpage: 0x02, needs: capThreshold,
		current:    provisioningPage,
		defaults:   provisioningPage,
		changeable: func(*Unit) []byte { return append([]byte{0x1C | 0x40, 0x02, 0, 0x14}, make([]byte, 20)...) },
	},
}

const (
	gltsd        = 0x02 // Control, byte 2: no implicit saving of log parameters
	unrestricted = 0x10 // Control, byte 3: QUEUE ALGORITHM MODIFIER 1, reordering allowed
)

func ifSet(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func errorRecoveryPage(*Unit) []byte { return []byte{0x01, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} }

func cachingPage(b2 byte) []byte {
	p := make([]byte, 20)
	p[0], p[1], p[2] = 0x08, 0x12, b2
	return p
}

func controlPage(b2, b3, b4, b5 byte) []byte {
	return []byte{0x0A, 0x0A, b2, b3, b4, b5, 0, 0, 0, 0, 0, 0}
}

// Bits of byte 4 of Control Extension: the timestamp follows the host's clock,
// and an initiator may set it.
const (
	tcmos = 0x04
	scsip = 0x02
)

func controlExtension(b4 byte) []byte {
	p := make([]byte, 32)
	p[0], p[1], p[3], p[4] = 0x0A|0x40, 0x01, 0x1C, b4
	return p
}

// defaultWriteCache is WCE after a reset.
func (u *Unit) defaultWriteCache() bool { return u.cfg.WriteCache && u.volatile }

// resetModes sets the mode parameters to their defaults.
func (u *Unit) resetModes() {
	u.writeCache.Store(u.defaultWriteCache())
	u.descriptorSense.Store(false)
	u.softProtect.Store(false)
	u.taskAborted.Store(false)
}

// --- MODE SENSE

func decodeModeSense6(c *Command) bool {
	c.setAlloc(uint64(c.CDB[4]))
	return c.checkModePage()
}

func decodeModeSense10(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint16(c.CDB[7:])))
	return c.checkModePage()
}

// checkModePage checks the page control and that at least one page is selected.
func (c *Command) checkModePage() bool {
	if c.CDB[2]>>6 == pcSaved {
		c.Fail(IllegalRequest, SavingParamsNotSupported)
		return false
	}
	page, subpage := c.CDB[2]&0x3F, c.CDB[3]
	if page == allPages {
		if subpage != 0 && subpage != allSubpages {
			return c.failField(inCDB, 3, -1)
		}
		return true
	}
	known := false
	for i := range modePages {
		if p := &modePages[i]; p.code == page {
			known = true
			if p.selected(c.unit, page, subpage) {
				return true
			}
		}
	}
	if known {
		return c.failField(inCDB, 3, -1)
	}
	return c.failField(inCDB, 2, 5)
}

// selected reports whether page and subpage code of a CDB select p, and u has it.
func (p *modePage) selected(u *Unit, page, subpage byte) bool {
	return p.needs&^u.caps == 0 && (page == allPages || page == p.code) && (subpage == allSubpages || subpage == p.subpage)
}

// runModeSense is SPC-5 6.14 and 6.15.
func runModeSense(c *Command, _ mode) bool {
	u, short := c.unit, len(c.op.usage) == 6
	device := byte(0x10) // DPOFUA
	if u.readOnly || c.Nexus.ReadOnly || u.softProtect.Load() {
		device |= 0x80 // WP
	}
	long := !short && c.CDB[1]&0x10 != 0 // LLBAA
	var desc []byte
	if c.CDB[1]&0x08 == 0 { // DBD
		desc = u.blockDescriptor(long)
	}
	b := c.build()
	if short {
		b = append(b, 0, 0, device, byte(len(desc)))
	} else {
		b = append(b, 0, 0, 0, device, ifSet(long && desc != nil, 0x01), 0, 0, byte(len(desc)))
	}
	b = append(b, desc...)
	for i := range modePages {
		p := &modePages[i]
		if !p.selected(u, c.CDB[2]&0x3F, c.CDB[3]) {
			continue
		}
		form := p.current
		switch c.CDB[2] >> 6 {
		case pcChangeable:
			form = p.changeable
		case pcDefault:
			form = p.defaults
		}
		b = append(b, form(u)...)
	}
	if short {
		b[0] = byte(len(b) - 1)
	} else {
		binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	}
	c.reply(b)
	return true
}

// blockDescriptor returns the short LBA or long LBA mode parameter block
// descriptor, SBC-4 6.5.2.
func (u *Unit) blockDescriptor(long bool) []byte {
	blocks := u.capacity.Load()
	if long {
		b := binary.BigEndian.AppendUint64(nil, blocks)
		b = binary.BigEndian.AppendUint32(b, 0)
		return binary.BigEndian.AppendUint32(b, uint32(u.blockSize))
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(min(blocks, math.MaxUint32)))
	return binary.BigEndian.AppendUint32(b, uint32(u.blockSize))
}

package scsi

import (
	"encoding/binary"

	"github.com/iserd/iserd/luns"
)

// AtomicWriter is a capability of backends whose writes are all or nothing even
// if power fails in the middle.
type AtomicWriter interface {
	// AtomicWriteSize returns up to how many bytes one WriteAt stores all or
	// nothing, at any block boundary. It never changes.
	AtomicWriteSize() int64
}

// maxAtomicBlocks is the most that WRITE ATOMIC (16) can say.
const maxAtomicBlocks = 0xFFFF

// atomicLimit returns the MAXIMUM ATOMIC TRANSFER LENGTH in blocks, SBC-4 6.6.4;
// 0 if atomic writes cannot be promised. Against other commands the range lock
// makes every write atomic; what is promised here is that a loss of power does
// not tear it. Of memory nothing is left to be torn.
func (u *Unit) atomicLimit() uint64 {
	limit := uint64(0)
	if a, ok := luns.As[AtomicWriter](u.backend); ok {
		limit = uint64(max(a.AtomicWriteSize(), 0)) >> u.blockShift
	} else if u.mapper != nil && !u.volatile {
		limit = maxAtomicBlocks
	}
	return min(limit, maxAtomicBlocks, u.maxBlocks)
}

func atomicOperations() []operation {
	return []operation{{
		name: "WRITE ATOMIC(16)", flags: opMedium | opWrite, class: accessWrite, needs: capAtomic,
		usage:  []byte{0x9C, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
		decode: decodeWriteAtomic, run: runWriteAtomic,
	}}
}

// decodeWriteAtomic is SBC-4 5.45. There is no alignment, no granularity and no
// atomic boundary.
func decodeWriteAtomic(c *Command) bool {
	c.lba = binary.BigEndian.Uint64(c.CDB[2:])
	c.blocks = uint64(binary.BigEndian.Uint16(c.CDB[12:]))
	c.OutLen = int(c.blocks << c.unit.blockShift)
	switch {
	case !c.decodeByte1():
		return false
	case c.CDB[10]|c.CDB[11] != 0: // ATOMIC BOUNDARY
		return c.failField(inCDB, 10, -1)
	case c.blocks > c.unit.atomicBlocks:
		return c.failField(inCDB, 12, -1)
	default:
		return c.checkRange()
	}
}

// runWriteAtomic stores all of the data-out or nothing: what has not arrived in
// full is not written, and no part is stored ahead of the rest.
func runWriteAtomic(c *Command, m mode) bool {
	switch {
	case len(c.Out) < c.OutLen:
		return c.missingData()
	case m == inline && c.unit.mapper == nil:
		return false
	default:
		return runWrite(c, m)
	}
}

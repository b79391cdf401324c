package scsi

import (
	"bytes"
)

// Bits of byte 1 of WRITE SAME, SBC-4 5.48.
const (
	anchorBit = 0x10
	unmapBit  = 0x08
	pbdataBit = 0x04 // obsolete
	lbdataBit = 0x02 // obsolete
	ndobBit   = 0x01 // WRITE SAME(16) only
)

func decodeWriteSame10(c *Command) bool {
	c.address10()
	c.OutLen = int(c.unit.blockSize)
	return c.decodeWriteSame()
}

func decodeWriteSame16(c *Command) bool {
	c.address16()
	c.OutLen = int(c.unit.blockSize)
	if c.CDB[1]&ndobBit != 0 {
		c.flags |= flagNoDataOut
		c.OutLen = 0
	}
	return c.decodeWriteSame()
}

func (c *Command) decodeWriteSame() bool {
	b := c.CDB[1]
	switch {
	case !c.checkProtect():
		return false
	case b&anchorBit != 0: // ANC_SUP is zero
		return c.failField(inCDB, 1, 4)
	case b&unmapBit != 0 && c.unit.unmap == nil: // LBPWS and LBPWS10 are zero
		return c.failField(inCDB, 1, 3)
	case b&(pbdataBit|lbdataBit) != 0:
		return c.failField(inCDB, 1, 2)
	case c.blocks == 0, c.blocks > c.unit.maxWriteSame(): // WSNZ is one
		return c.failField(inCDB, c.lengthField(), -1)
	}
	if b&unmapBit != 0 {
		c.flags |= flagUnmap
	}
	return c.checkRange()
}

// runWriteSame writes one block, or zeros, all over the range, chunk by chunk:
// SBC-4 does not ask for the command to be atomic.
func runWriteSame(c *Command, m mode) bool {
	u := c.unit
	if int(c.Announced) > c.OutLen { // more than one block
		c.failField(inCDB, c.lengthField(), -1)
		return true
	}
	var block []byte // nil for zeros
	if c.flags&flagNoDataOut == 0 {
		if len(c.Out) < c.OutLen {
			return c.missingData()
		}
		block = c.Out[:u.blockSize]
		if allZero(block) {
			block = nil
		}
	}
	off, n := c.bytes()
	if m == inline && (u.mapper == nil || n > inlineBytes || c.flags&flagUnmap != 0) {
		return false
	}
	pattern := u.chunk()
	defer u.chunks.Put(pattern)
	fill((*pattern)[:min(n, chunkBytes)], block)
	for n > 0 {
		part := min(n, chunkBytes-off%chunkBytes)
		if !c.lock(m, off, part, exclusive) {
			return m == blocking
		}
		err := c.writeSamePart((*pattern)[:part], off, block == nil)
		c.unlock()
		if err != nil {
			c.failBackend(err, writing)
			return true
		}
		off += part
		n -= part
	}
	return true
}

// writeSamePart writes p at off; with zero set, p is all zeros, and the backend
// may do better.
func (c *Command) writeSamePart(p []byte, off int64, zero bool) error {
	u := c.unit
	f := u.writeFlags(c.flags)
	mayUnmap := c.flags&flagUnmap != 0
	if zero && u.zero != nil && (mayUnmap || u.mapper == nil) {
		return u.zero.WriteZeroes(u.ctx, off, int64(len(p)), mayUnmap, f)
	}
	// SBC-4 4.7.3.4.4: with UNMAP set a block whose data is not what an
	// unmapped block reads as is written.
	return u.write(p, off, f)
}

func allZero(p []byte) bool {
	var zero [64]byte
	for len(p) > len(zero) {
		if !bytes.Equal(p[:len(zero)], zero[:]) {
			return false
		}
		p = p[len(zero):]
	}
	return bytes.Equal(p, zero[:len(p)])
}

// fill repeats block over p; nil is zeros.
func fill(p, block []byte) {
	if block == nil {
		clear(p)
		return
	}
	for n := copy(p, block); n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

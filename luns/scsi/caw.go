package scsi

import (
	"encoding/binary"
)

// decodeCompareAndWrite is SBC-4 5.3: the data-out is the compare data and
// then the write data.
func decodeCompareAndWrite(c *Command) bool {
	c.lba = binary.BigEndian.Uint64(c.CDB[2:])
	c.blocks = uint64(c.CDB[13])
	c.OutLen = 2 * int(c.blocks<<c.unit.blockShift)
	if !c.decodeByte1() {
		return false
	}
	if c.blocks > c.unit.maxCompare() {
		return c.failField(inCDB, 13, -1)
	}
	return c.checkRange()
}

// runCompareAndWrite is atomic by the exclusive lock of the range.
func runCompareAndWrite(c *Command, m mode) bool {
	u := c.unit
	if int(c.Announced) > c.OutLen {
		c.failField(inCDB, 13, -1)
		return true
	}
	if c.blocks == 0 {
		return true
	}
	if len(c.Out) < c.OutLen {
		return c.missingData()
	}
	if m == inline && u.mapper == nil {
		return false
	}
	off, n := c.bytes()
	if !c.lock(m, off, n, exclusive) {
		return m == blocking
	}
	defer c.unlock()
	miscompare, err := u.compare(off, c.Out[:n])
	switch {
	case err != nil:
		c.failBackend(err, reading)
		return true
	case miscompare >= 0:
		// SBC-4 5.3: INFORMATION is the offset in the data-out buffer of the
		// first byte that is not equal.
		c.FailInfo(Miscompare, MiscompareDuringVerify, uint64(miscompare))
		return true
	}
	if err := u.write(c.Out[n:2*n], off, u.writeFlags(c.flags)); err != nil {
		c.failBackend(err, writing)
	}
	return true
}

// missingData fails a command that cannot do with a part of its data-out. It
// returns true, for handlers.
func (c *Command) missingData() bool {
	c.Fail(IllegalRequest, InvalidFieldInCDB)
	return true
}

// decodeORWrite16 is SBC-4 5.9.
func decodeORWrite16(c *Command) bool {
	c.address16()
	return c.decodeWrite()
}

// runORWrite replaces each block by itself OR the data-out, atomically by the
// lock of the whole range.
func runORWrite(c *Command, m mode) bool {
	u := c.unit
	if c.blocks == 0 {
		return true
	}
	if len(c.Out) < c.OutLen {
		return c.missingData()
	}
	off, n := c.bytes()
	if m == inline && (u.mapper == nil || n > inlineBytes) {
		return false
	}
	if !c.lock(m, off, n, exclusive) {
		return m == blocking
	}
	defer c.unlock()
	buf := u.chunk()
	defer u.chunks.Put(buf)
	for done := int64(0); done < n; {
		p := (*buf)[:min(n-done, chunkBytes)]
		if err := u.read(p, off+done); err != nil {
			c.failBackend(err, reading)
			return true
		}
		for i, x := range c.Out[done : done+int64(len(p))] {
			p[i] |= x
		}
		if err := u.write(p, off+done, u.writeFlags(c.flags)); err != nil {
			c.failBackend(err, writing)
			return true
		}
		done += int64(len(p))
	}
	return true
}

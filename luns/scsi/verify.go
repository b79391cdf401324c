package scsi

import (
	"bytes"
)

// chunk returns a buffer of chunkBytes for the use of one handler. Its content
// is that of earlier commands, so it never goes to an initiator.
func (u *Unit) chunk() *[]byte { return u.chunks.Get().(*[]byte) }

// read fills p from memory or by a call that may block.
func (u *Unit) read(p []byte, off int64) error {
	if u.mapper == nil {
		return u.backend.ReadAt(u.ctx, p, off)
	}
	mem, err := u.mapped(off, int64(len(p)))
	if err != nil {
		return err
	}
	copy(p, mem)
	return nil
}

// compare returns the offset of the first byte of want that differs from the
// medium at off, or -1.
func (u *Unit) compare(off int64, want []byte) (int64, error) {
	if u.mapper != nil {
		mem, err := u.mapped(off, int64(len(want)))
		if err != nil {
			return -1, err
		}
		return firstDifference(mem, want), nil
	}
	buf := u.chunk()
	defer u.chunks.Put(buf)
	for done := 0; done < len(want); {
		p := (*buf)[:min(len(want)-done, chunkBytes)]
		if err := u.backend.ReadAt(u.ctx, p, off+int64(done)); err != nil {
			return -1, err
		}
		if d := firstDifference(p, want[done:done+len(p)]); d >= 0 {
			return int64(done) + d, nil
		}
		done += len(p)
	}
	return -1, nil
}

// firstDifference returns the first index at which a and b, of equal length,
// differ, or -1.
func firstDifference(a, b []byte) int64 {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return -1
}

// decodeByteCheck evaluates BYTCHK and the protection field of VERIFY, SBC-4
// 5.37, and sets OutLen.
func (c *Command) decodeByteCheck() bool {
	bs := int(c.unit.blockSize)
	switch c.CDB[1] >> 1 & 0x03 {
	case 0:
	case 1:
		c.flags |= flagCompare
		c.OutLen = int(c.blocks) * bs
	case 3:
		c.flags |= flagCompareOne
		if c.blocks != 0 {
			c.OutLen = bs
		}
	default: // reserved
		return c.failField(inCDB, 1, 2)
	}
	return c.checkProtect() && c.checkTransfer()
}

func decodeVerify10(c *Command) bool { c.address10(); return c.decodeByteCheck() }
func decodeVerify12(c *Command) bool { c.address12(); return c.decodeByteCheck() }
func decodeVerify16(c *Command) bool { c.address16(); return c.decodeByteCheck() }

func runVerify(c *Command, m mode) bool {
	if c.blocks == 0 {
		return true
	}
	if len(c.Out) < c.OutLen {
		return c.missingData()
	}
	off, n := c.bytes()
	if m == inline && (c.unit.mapper == nil || n > inlineBytes) {
		return false
	}
	if !c.lock(m, off, n, shared) {
		return m == blocking
	}
	defer c.unlock()
	c.verify(off, n)
	return true
}

// verify reads n bytes at off and compares them as the flags say. The range is
// locked. A failure finishes the command.
func (c *Command) verify(off, n int64) {
	u := c.unit
	different, err := int64(-1), error(nil)
	switch {
	case c.flags&flagCompare != 0:
		different, err = u.compare(off, c.Out[:n])
	case c.flags&flagCompareOne != 0:
		for done := int64(0); done < n && different < 0 && err == nil; done += u.blockSize {
			different, err = u.compare(off+done, c.Out[:u.blockSize])
		}
	case u.mapper == nil:
		err = u.readThrough(off, n)
	}
	switch {
	case err != nil:
		c.failBackend(err, reading)
	case different >= 0:
		c.Fail(Miscompare, MiscompareDuringVerify)
	}
}

// readThrough reads a range only to see that it can be read.
func (u *Unit) readThrough(off, n int64) error {
	buf := u.chunk()
	defer u.chunks.Put(buf)
	for n > 0 {
		p := (*buf)[:min(n, chunkBytes)]
		if err := u.backend.ReadAt(u.ctx, p, off); err != nil {
			return err
		}
		off += int64(len(p))
		n -= int64(len(p))
	}
	return nil
}

// --- WRITE AND VERIFY

// decodeWriteVerify is SBC-4 5.44: BYTCHK 00b verifies, 01b compares.
func (c *Command) decodeWriteVerify() bool {
	c.OutLen = int(c.blocks << c.unit.blockShift)
	switch c.CDB[1] >> 1 & 0x03 {
	case 0:
	case 1:
		c.flags |= flagCompare
	default:
		return c.failField(inCDB, 1, 2)
	}
	// The data is to be verified on the medium.
	c.flags |= flagFUA
	return c.checkProtect() && c.checkTransfer()
}

func decodeWriteVerify10(c *Command) bool { c.address10(); return c.decodeWriteVerify() }
func decodeWriteVerify12(c *Command) bool { c.address12(); return c.decodeWriteVerify() }
func decodeWriteVerify16(c *Command) bool { c.address16(); return c.decodeWriteVerify() }

func runWriteVerify(c *Command, m mode) bool {
	u := c.unit
	p := c.data() // as WRITE: the whole blocks that arrived
	if len(p) == 0 {
		return true
	}
	off, n := int64(c.lba<<u.blockShift), int64(len(p))
	if m == inline && (u.mapper == nil || n > inlineBytes) {
		return false
	}
	if !c.lock(m, off, n, exclusive) {
		return m == blocking
	}
	defer c.unlock()
	if err := u.write(p, off, u.writeFlags(c.flags)); err != nil {
		c.failBackend(err, writing)
		return true
	}
	u.wrote(c.Nexus.port, len(p))
	c.verify(off, n)
	return true
}

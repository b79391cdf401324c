package scsi

import (
	"encoding/binary"
	"fmt"

	"github.com/iserd/iserd/luns"
)

// errShort is the failure of a mapped backend that is smaller than the unit:
// it was closed or shrunk without the unit being revoked.
var errShort = fmt.Errorf("scsi: memory of the backend is gone: %w", luns.ErrOffline)

// errNoBuffer is a mistake of the command's owner.
var errNoBuffer = fmt.Errorf("scsi: the owner of the command gave no buffer of NeedBuf bytes")

// The places of LBA and length in the CDB shapes of SBC-4.

func (c *Command) address6() {
	b := c.CDB
	c.lba = uint64(b[1]&0x1F)<<16 | uint64(b[2])<<8 | uint64(b[3])
	c.blocks = uint64(b[4])
	if c.blocks == 0 {
		c.blocks = 256 // SBC-4 5.11
	}
}

func (c *Command) address10() {
	c.lba = uint64(binary.BigEndian.Uint32(c.CDB[2:]))
	c.blocks = uint64(binary.BigEndian.Uint16(c.CDB[7:]))
}

func (c *Command) address12() {
	c.lba = uint64(binary.BigEndian.Uint32(c.CDB[2:]))
	c.blocks = uint64(binary.BigEndian.Uint32(c.CDB[6:]))
}

func (c *Command) address16() {
	c.lba = binary.BigEndian.Uint64(c.CDB[2:])
	c.blocks = uint64(binary.BigEndian.Uint32(c.CDB[10:]))
}

// lengthField is where the TRANSFER LENGTH of a CDB begins, for field pointers.
func (c *Command) lengthField() int {
	switch len(c.op.usage) {
	case 6:
		return 4
	case 10:
		return 7
	case 12:
		return 6
	default:
		return 10
	}
}

// bytes returns the byte range that lba and blocks address. It cannot
// overflow once checkRange has passed.
func (c *Command) bytes() (off, n int64) {
	return int64(c.lba << c.unit.blockShift), int64(c.blocks << c.unit.blockShift)
}

// checkRange fails a command that goes beyond the last block, SBC-4 4.5: also
// one of no blocks may start at the end at most.
func (c *Command) checkRange() bool {
	capacity := c.unit.capacity.Load()
	if c.lba > capacity || c.blocks > capacity-c.lba {
		c.Fail(IllegalRequest, LBAOutOfRange)
		return false
	}
	return true
}

// checkTransfer fails a transfer of more than MAXIMUM TRANSFER LENGTH, SBC-4
// 6.6.4, and then one out of range.
func (c *Command) checkTransfer() bool {
	if c.blocks > c.unit.maxBlocks {
		return c.failField(inCDB, c.lengthField(), -1)
	}
	return c.checkRange()
}

// decodeByte1 evaluates the protection field and FUA, which the 6-byte commands
// do not have.
func (c *Command) decodeByte1() bool {
	if len(c.op.usage) == 6 {
		return true
	}
	c.flags |= fuaOf(c.CDB[1])
	return c.checkProtect()
}

// checkProtect fails RDPROTECT, WRPROTECT and so on: protection information is
// not supported, so the field is to be zero, SBC-4 5.11 (table 62).
func (c *Command) checkProtect() bool {
	if c.CDB[1]&0xE0 != 0 {
		return c.failField(inCDB, 1, 7)
	}
	return true
}

// --- READ

func (c *Command) decodeRead() bool {
	n := int(c.blocks << c.unit.blockShift)
	c.InLen = n
	if !c.decodeByte1() {
		return false
	}
	if !c.checkTransfer() {
		return false
	}
	if c.unit.mapper == nil {
		c.NeedBuf = n
	}
	return true
}

// fuaOf returns flagFUA if bit 3 of byte 1 is set. DPO, bit 4, is a hint that
// is accepted and has no effect.
func fuaOf(b byte) cdbFlags {
	if b&0x08 != 0 {
		return flagFUA
	}
	return 0
}

func decodeRead6(c *Command) bool  { c.address6(); return c.decodeRead() }
func decodeRead10(c *Command) bool { c.address10(); return c.decodeRead() }
func decodeRead12(c *Command) bool { c.address12(); return c.decodeRead() }
func decodeRead16(c *Command) bool { c.address16(); return c.decodeRead() }

// runRead returns memory of a mapped unit with the range locked, or fills Buf.
func runRead(c *Command, m mode) bool {
	u := c.unit
	if c.blocks == 0 {
		return true
	}
	// SBC-4 4.15: with FUA, what the volatile cache has and the medium has
	// not is written first.
	if c.flags&flagFUA != 0 && u.volatile && u.writeCache.Load() {
		if m == inline {
			return false
		}
		if !c.flush() {
			return true
		}
	}
	if u.mapper != nil {
		return c.readMapped(m)
	}
	if m == inline && u.trier == nil {
		return false
	}
	off, n := c.bytes()
	if int64(len(c.Buf)) < n {
		c.failBackend(errNoBuffer, reading)
		return true
	}
	if !c.lock(m, off, n, shared) {
		return m == blocking
	}
	buf := c.Buf[:n:n]
	done, err := true, error(nil)
	if m == inline {
		done, err = u.trier.TryReadAt(buf, off)
	} else {
		err = u.backend.ReadAt(u.ctx, buf, off)
	}
	c.unlock()
	switch {
	case !done:
		return false
	case err != nil:
		c.failBackend(err, reading)
	default:
		c.In = buf
	}
	return true
}

func (c *Command) readMapped(m mode) bool {
	off, n := c.bytes()
	if !c.lock(m, off, n, shared) {
		return m == blocking
	}
	p, err := c.unit.mapped(off, n)
	if err != nil {
		c.failBackend(err, reading)
		return true
	}
	c.In = p
	return true
}

// mapped returns a range of a mapped backend.
func (u *Unit) mapped(off, n int64) ([]byte, error) {
	mem := u.mapper.Memory()
	if off+n > int64(len(mem)) {
		return nil, errShort
	}
	return mem[off : off+n : off+n], nil
}

// --- WRITE

func (c *Command) decodeWrite() bool {
	c.OutLen = int(c.blocks << c.unit.blockShift)
	if !c.decodeByte1() {
		return false
	}
	return c.checkTransfer()
}

func decodeWrite6(c *Command) bool  { c.address6(); return c.decodeWrite() }
func decodeWrite10(c *Command) bool { c.address10(); return c.decodeWrite() }
func decodeWrite12(c *Command) bool { c.address12(); return c.decodeWrite() }
func decodeWrite16(c *Command) bool { c.address16(); return c.decodeWrite() }

// data returns the data-out of a WRITE: what the CDB asks for, or the whole
// blocks of what has arrived.
func (c *Command) data() []byte {
	p := c.Out[:min(len(c.Out), c.OutLen)]
	return p[:len(p)&^int(c.unit.blockSize-1)]
}

func runWrite(c *Command, m mode) bool {
	u := c.unit
	p := c.data()
	if len(p) == 0 {
		return true
	}
	if m == inline && u.mapper == nil && u.trier == nil {
		return false
	}
	off := int64(c.lba << u.blockShift)
	if !c.lock(m, off, int64(len(p)), exclusive) {
		return m == blocking
	}
	done, err := true, error(nil)
	switch {
	case c.landed: // the data is there
	case m == inline && u.mapper == nil:
		done, err = u.trier.TryWriteAt(p, off, u.writeFlags(c.flags))
	default:
		err = u.write(p, off, u.writeFlags(c.flags))
	}
	if !done {
		// A part may have been stored: the lock stays until the worker has
		// stored all of it.
		return false
	}
	c.unlock()
	if err != nil {
		c.failBackend(err, writing)
		return true
	}
	u.wrote(c.Nexus.port, len(p))
	return true
}

// write stores p, in memory or by a call that may block.
func (u *Unit) write(p []byte, off int64, f luns.Flags) error {
	if u.mapper == nil {
		return u.backend.WriteAt(u.ctx, p, off, f)
	}
	mem, err := u.mapped(off, int64(len(p)))
	if err != nil {
		return err
	}
	copy(mem, p)
	return nil
}

// --- SYNCHRONIZE CACHE, PRE-FETCH

// toTheEnd makes a length of zero blocks mean all from the LBA on.
func (c *Command) toTheEnd() bool {
	if !c.checkRange() {
		return false
	}
	if c.blocks == 0 {
		c.blocks = c.unit.capacity.Load() - c.lba
	}
	return true
}

func decodeSync10(c *Command) bool { c.address10(); return c.toTheEnd() }
func decodeSync16(c *Command) bool { c.address16(); return c.toTheEnd() }

// runSync writes the whole cache back, which is more than the range asked for,
// SBC-4 5.33. With IMMED the status may come early; here it never does.
func runSync(c *Command, m mode) bool {
	if c.unit.mapper != nil && !c.unit.volatile {
		return true // nothing could become more durable
	}
	if m == inline {
		return false
	}
	c.flush()
	return true
}

// flush makes completed writes durable; false if it failed, and the command
// with it. A failed flush may have lost writes that were answered GOOD, so it
// is reported as a write error.
func (c *Command) flush() bool {
	if err := c.unit.backend.Flush(c.unit.ctx); err != nil {
		c.failBackend(err, writing)
		return false
	}
	return true
}

func decodePrefetch10(c *Command) bool { c.address10(); return c.toTheEnd() }
func decodePrefetch16(c *Command) bool { c.address16(); return c.toTheEnd() }

// runPrefetch answers CONDITION MET where all blocks are in memory by nature,
// and else GOOD, which says that not all of them fit, SBC-4 5.10.
func runPrefetch(c *Command, _ mode) bool {
	if c.unit.mapper != nil {
		c.Status = ConditionMet
	}
	return true
}

package scsi

import (
	"encoding/binary"
	"math"

	"github.com/iserd/iserd/luns"
)

// Sizes of the UNMAP parameter list, SBC-4 5.35.2.
const (
	unmapHeaderLen = 8
	unmapDescLen   = 16
)

func decodeUnmap(c *Command) bool {
	c.OutLen = int(binary.BigEndian.Uint16(c.CDB[7:]))
	if c.CDB[1]&0x01 != 0 { // ANCHOR; ANC_SUP is zero
		return c.failField(inCDB, 1, 0)
	}
	return true
}

// runUnmap checks the whole parameter list before the first block is unmapped.
func runUnmap(c *Command, m mode) bool {
	if c.OutLen == 0 {
		return true // SBC-4 5.35.1: no error
	}
	descs, ok := c.unmapDescriptors()
	if !ok || len(descs) == 0 {
		return true
	}
	if m == inline {
		return false
	}
	for ; len(descs) > 0; descs = descs[unmapDescLen:] {
		if !c.unmapRange(descs) {
			return true
		}
	}
	if c.unit.writeFlags(c.flags)&luns.FUA != 0 {
		c.flush()
	}
	return true
}

// unmapDescriptors returns the block descriptors after checking all of them;
// ok is false if the command has failed.
func (c *Command) unmapDescriptors() (descs []byte, ok bool) {
	p := c.Out[:min(len(c.Out), c.OutLen)]
	if len(p) < unmapHeaderLen {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(p[2:]))
	if n > len(p)-unmapHeaderLen {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return nil, false
	}
	// SBC-4 5.35.2: an incomplete last descriptor is ignored.
	n -= n % unmapDescLen
	if n/unmapDescLen > maxUnmapDescs {
		return nil, c.failField(inParameterList, 2, -1)
	}
	descs = p[unmapHeaderLen : unmapHeaderLen+n]
	total := uint64(0)
	capacity := c.unit.capacity.Load()
	for i := 0; i < n; i += unmapDescLen {
		lba, blocks := unmapDescriptor(descs[i:])
		if lba > capacity || blocks > capacity-lba {
			c.Fail(IllegalRequest, LBAOutOfRange)
			return nil, false
		}
		total += blocks
		if total > c.unit.maxUnmap() {
			return nil, c.failField(inParameterList, unmapHeaderLen+i+8, -1)
		}
	}
	return descs, true
}

func unmapDescriptor(b []byte) (lba, blocks uint64) {
	return binary.BigEndian.Uint64(b), uint64(binary.BigEndian.Uint32(b[8:]))
}

// unmapRange unmaps the range of the first descriptor; false if the command
// has finished.
func (c *Command) unmapRange(desc []byte) bool {
	u := c.unit
	lba, blocks := unmapDescriptor(desc)
	off, n := int64(lba<<u.blockShift), int64(blocks<<u.blockShift)
	for n > 0 {
		part := min(n, unmapChunkBytes)
		if !c.lock(blocking, off, part, exclusive) {
			return false
		}
		err := u.unmap.Unmap(u.ctx, off, part)
		c.unlock()
		if err != nil {
			c.failBackend(err, writing)
			return false
		}
		off += part
		n -= part
	}
	return true
}

// --- GET LBA STATUS

// maxStatusDescs bounds the answer of one GET LBA STATUS.
const maxStatusDescs = 256

func decodeGetLBAStatus(c *Command) bool {
	c.lba = binary.BigEndian.Uint64(c.CDB[2:])
	c.setAlloc(uint64(binary.BigEndian.Uint32(c.CDB[10:])))
	if c.lba >= c.unit.capacity.Load() {
		c.Fail(IllegalRequest, LBAOutOfRange)
		return false
	}
	return true
}

// runGetLBAStatus is SBC-4 5.6.
func runGetLBAStatus(c *Command, m mode) bool {
	if m == inline {
		return false
	}
	u := c.unit
	room := max(1, min((c.alloc-8)/16, maxStatusDescs))
	b := zeros(c.build(), 8)
	add := func(lba, blocks uint64, state luns.ExtentState) bool {
		for blocks > 0 && len(b) < 8+16*room {
			n := min(blocks, math.MaxUint32)
			b = binary.BigEndian.AppendUint64(b, lba)
			b = binary.BigEndian.AppendUint32(b, uint32(n))
			b = append(b, byte(state), 0, 0, 0)
			lba, blocks = lba+n, blocks-n
		}
		return blocks == 0
	}
	if err := u.eachState(c.lba, add); err != nil {
		c.failBackend(err, reading)
		return true
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4)) // PARAMETER DATA LENGTH
	c.reply(b)
	return true
}

// eachState calls f with the provisioning state of the blocks from lba on, in
// runs that alternate, until the end or until f returns false. A block that is
// deallocated in part counts as mapped.
func (u *Unit) eachState(lba uint64, f func(lba, blocks uint64, s luns.ExtentState) bool) error {
	end := u.capacity.Load()
	off := int64(lba << u.blockShift)
	start := lba // what is before has been reported
	for x, err := range u.extents.Extents(u.ctx, off, int64(end<<u.blockShift)-off) {
		if err != nil {
			return err
		}
		if x.State != luns.Deallocated {
			continue // what is not found deallocated is mapped
		}
		from := max(start, uint64(x.Off+u.blockSize-1)>>u.blockShift)
		to := min(end, uint64(x.Off+x.Len)>>u.blockShift)
		if to <= from {
			continue
		}
		if from > start && !f(start, from-start, luns.Mapped) {
			return nil
		}
		if !f(from, to-from, luns.Deallocated) {
			return nil
		}
		start = to
	}
	if start < end {
		f(start, end-start, luns.Mapped)
	}
	return nil
}

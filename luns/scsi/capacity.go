package scsi

import (
	"encoding/binary"
	"math"
)

func decodeReadCapacity10(c *Command) bool {
	c.alloc, c.InLen = 8, 8 // no ALLOCATION LENGTH field
	return true
}

// runReadCapacity10 is SBC-4 5.19.
func runReadCapacity10(c *Command, _ mode) bool {
	last := c.unit.capacity.Load() - 1
	b := binary.BigEndian.AppendUint32(c.build(), uint32(min(last, math.MaxUint32)))
	b = binary.BigEndian.AppendUint32(b, uint32(c.unit.blockSize))
	c.reply(b)
	return true
}

// decodeAlloc32At10 is for CDBs whose only field is an ALLOCATION LENGTH in
// bytes 10 to 13.
func decodeAlloc32At10(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint32(c.CDB[10:])))
	return true
}

// setAlloc takes over the ALLOCATION LENGTH field.
func (c *Command) setAlloc(n uint64) {
	c.alloc = int(n)
	c.InLen = c.alloc
}

// runReadCapacity16 is SBC-4 5.20: PROT_EN zero, the lowest aligned LBA is 0.
func runReadCapacity16(c *Command, _ mode) bool {
	u := c.unit
	b := binary.BigEndian.AppendUint64(c.build(), u.capacity.Load()-1)
	b = binary.BigEndian.AppendUint32(b, uint32(u.blockSize))
	b = append(b, 0, u.physExp)
	var provisioning byte
	if u.unmap != nil {
		provisioning = 0x80 // LBPME
		if u.info.UnmapZeroes {
			provisioning |= 0x40 // LBPRZ
		}
	}
	b = append(b, provisioning, 0)
	c.reply(zeros(b, 16))
	return true
}

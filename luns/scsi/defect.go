package scsi

import "encoding/binary"

// defectOperations report that there are no defects: what lies under a backend
// remaps its own.
func defectOperations() []operation {
	return []operation{
		{
			name: "READ DEFECT DATA(10)", flags: opMedium, class: accessRead,
			usage:  []byte{0x37, 0, 0x1F, 0, 0, 0, 0, 0xFF, 0xFF, 0},
			decode: decodeReadDefects10, run: runReadDefects,
		}, {
			name: "READ DEFECT DATA(12)", flags: opMedium, class: accessRead,
			usage:  []byte{0xB7, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeReadDefects12, run: runReadDefects,
		},
	}
}

func decodeReadDefects10(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint16(c.CDB[7:])))
	return true
}

func decodeReadDefects12(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint32(c.CDB[6:])))
	if binary.BigEndian.Uint32(c.CDB[2:]) != 0 { // ADDRESS DESCRIPTOR INDEX: none
		return c.failField(inCDB, 2, -1)
	}
	return true
}

// runReadDefects is SBC-4 5.16 and 5.17: lists that are valid, of the format
// asked for, and empty.
func runReadDefects(c *Command, _ mode) bool {
	if len(c.op.usage) == 10 {
		c.reply(append(c.build(), 0, c.CDB[2]&0x1F, 0, 0))
		return true
	}
	c.reply(append(c.build(), 0, c.CDB[1]&0x1F, 0, 0, 0, 0, 0, 0))
	return true
}

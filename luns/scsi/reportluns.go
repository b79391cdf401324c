package scsi

import (
	"encoding/binary"
)

// reportLUNsWLUN is the REPORT LUNS well known logical unit, SAM-6 4.7.7.5.
const reportLUNsWLUN uint64 = 0xC101 << 48

// EncodeLUN returns the 8-byte LUN of logical unit number n (0..16383): the
// peripheral device addressing method up to 255, above that flat space
// addressing, SAM-6 4.7.7.
func EncodeLUN(n uint16) uint64 {
	if n < 256 {
		return uint64(n) << 48
	}
	return uint64(0x4000|n&0x3FFF) << 48
}

// DecodeLUN returns the logical unit number of an 8-byte LUN in one of the
// single level methods: peripheral device addressing with bus 0, flat space
// addressing, or logical unit addressing is not one of them. ok is false for
// all others, among them well known logical units.
func DecodeLUN(lun uint64) (n uint16, ok bool) {
	if lun<<16 != 0 {
		return 0, false
	}
	top := uint16(lun >> 48)
	switch top >> 14 {
	case 0: // peripheral device addressing; BUS IDENTIFIER has to be zero
		return top & 0xFF, top>>8 == 0
	case 1: // flat space addressing
		return top & 0x3FFF, true
	default:
		return 0, false
	}
}

func decodeReportLUNs(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint32(c.CDB[6:])))
	switch c.CDB[2] {
	case 0x00, 0x01, 0x02, 0x10, 0x11, 0x12:
		return true
	default:
		return c.failField(inCDB, 2, -1)
	}
}

// runReportLUNs is SPC-5 6.33. It clears REPORTED LUNS DATA HAS CHANGED on
// this nexus: the initiator is looking.
func runReportLUNs(c *Command, _ mode) bool {
	c.Nexus.clearAttention(AttentionReportedLUNsChanged)
	luns := []uint16{0}
	if f := c.Nexus.Inventory; f != nil {
		luns = f()
	}
	c.reply(appendLUNs(c.build(), c.CDB[2], luns))
	return true
}

// appendLUNs appends REPORT LUNS data. There are no administrative and no
// subsidiary logical units (SELECT REPORT 10h and 12h), so 11h selects what
// 00h does.
func appendLUNs(b []byte, selectReport byte, luns []uint16) []byte {
	start := len(b)
	b = zeros(b, 8)
	if selectReport == 0x01 || selectReport == 0x02 {
		b = binary.BigEndian.AppendUint64(b, reportLUNsWLUN)
	}
	if selectReport == 0x00 || selectReport == 0x02 || selectReport == 0x11 {
		for _, n := range luns {
			b = binary.BigEndian.AppendUint64(b, EncodeLUN(n))
		}
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-8))
	return b
}

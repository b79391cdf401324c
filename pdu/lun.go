package pdu

import "fmt"

// LUN is a logical unit number as it is on the wire: eight bytes, the first
// one in the most significant place, RFC 7143 §11.2.1.7 and SAM-5 4.7.
type LUN uint64

// LUNReportLUNs is the REPORT LUNS well known logical unit, SAM-5 4.7.7.5.
const LUNReportLUNs LUN = 0xc101 << 48

// maxFlat is the largest number that flat space addressing can hold.
const maxFlat = 1<<14 - 1

// Address methods, the two top bits of a LUN, SAM-5 4.7.7.
const (
	methodPeripheral = 0 // peripheral device addressing, SAM-5 4.7.7.2
	methodFlat       = 1 // flat space addressing, SAM-5 4.7.7.3
)

// LUNOf returns the single level LUN for the number n: peripheral device
// addressing below 256 and flat space addressing up to 16383. For larger n,
// which those can't hold, it returns the extended flat space form
// (SAM-5 4.7.7.5), which Flat doesn't take for a number.
func LUNOf(n uint16) LUN {
	switch {
	case n < 256:
		return LUN(n) << 48
	case n <= maxFlat:
		return methodFlat<<62 | LUN(n)<<48
	}
	return 0xd2<<56 | LUN(n)<<32
}

// Flat returns the number of a single level LUN in peripheral device addressing
// with bus identifier zero (0..255) or flat space addressing (0..16383). ok is
// false for all other forms, well known logical units among them.
func (l LUN) Flat() (n uint16, ok bool) {
	if l&(1<<48-1) != 0 {
		return 0, false // a second level, which this target never reports
	}
	n = uint16(l >> 48)
	switch l >> 62 {
	case methodPeripheral:
		return n, n < 256 // else a bus identifier
	case methodFlat:
		return n & maxFlat, true
	default:
		return 0, false
	}
}

// String returns the number where Flat has one, else the eight bytes in hex.
func (l LUN) String() string {
	if n, ok := l.Flat(); ok {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%#016x", uint64(l))
}

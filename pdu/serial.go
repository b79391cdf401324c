package pdu

// CmdSN, StatSN, DataSN and R2TSN are compared with the serial number
// arithmetic of RFC 1982 with SERIAL_BITS 32, RFC 7143 §4.2.2.1.

// SNLess reports whether a comes before b. Two numbers that are exactly 2^31
// apart are not ordered (RFC 1982 §3.2); SNLess is false both ways for them.
func SNLess(a, b uint32) bool {
	d := b - a
	return d != 0 && d < 1<<31
}

// SNLessEq reports whether a equals b or comes before it.
func SNLessEq(a, b uint32) bool { return b-a < 1<<31 }

// SNDiff returns how far a is ahead of b: positive when a comes after b,
// negative when it comes before. It is -2^31 for numbers that are not ordered.
func SNDiff(a, b uint32) int32 { return int32(a - b) }

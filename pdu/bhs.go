package pdu

import (
	"encoding/binary"
	"fmt"
)

// The generic Basic Header Segment, RFC 7143 §11.2.1. Numbers on the left are
// byte offsets; bit 0 is the most significant bit of a byte.
//
//	Byte/     0       |       1       |       2       |       3       |
//	    |0 1 2 3 4 5 6 7|0 1 2 3 4 5 6 7|0 1 2 3 4 5 6 7|0 1 2 3 4 5 6 7|
//	   0|.|I| Opcode    |F|  Opcode-specific fields                     |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Opcode-specific fields                                 |
//	  12|                                                               |
//	  16| Initiator Task Tag                                            |
//	  20| Opcode-specific fields                                        |
//	  ..|                                                               |
//	  44|                                                               |

// BHSLen is the size of a Basic Header Segment in bytes, RFC 7143 §11.2.1.
const BHSLen = 48

// MaxDataSegmentLength is the largest value of the 24-bit DataSegmentLength
// field in bytes, RFC 7143 §11.2.1.6.
const MaxDataSegmentLength = 1<<24 - 1

// MaxTotalAHSLength is the most that the Additional Header Segments of one PDU
// can take in bytes: 255 four-byte words, RFC 7143 §11.2.1.5.
const MaxTotalAHSLength = 255 * 4

// ReservedTag is the value of the Initiator Task Tag, Target Transfer Tag and
// Referenced Task Tag fields that names no task, RFC 7143 §11.2.1.8.
const ReservedTag uint32 = 0xffffffff

// Offsets of fields that several opcodes share, in bytes.
const (
	offTotalAHSLength    = 4
	offDataSegmentLength = 5
	offLUN               = 8
	offInitiatorTaskTag  = 16
	offTargetTransferTag = 20
	offCmdSN             = 24 // initiator to target
	offStatSN            = 24 // target to initiator
	offExpStatSN         = 28 // initiator to target
	offExpCmdSN          = 28 // target to initiator
	offMaxCmdSN          = 32 // target to initiator
)

const (
	opcodeMask    = 0x3f
	immediateFlag = 0x40 // byte 0, I bit
	finalFlag     = 0x80 // byte 1, F bit; also the bit that is always 1 elsewhere
)

// BHS is a view of a Basic Header Segment, RFC 7143 §11.2.1. All fields are in
// network byte order. Getters read a field whether or not the opcode has it at
// that place: look at Opcode first.
type BHS [BHSLen]byte

// Opcode returns the Opcode field, RFC 7143 §11.2.1.2.
func (h *BHS) Opcode() Opcode { return Opcode(h[0] & opcodeMask) }

// SetOpcode sets the Opcode field and keeps the I bit.
func (h *BHS) SetOpcode(op Opcode) { h[0] = h[0]&^opcodeMask | byte(op)&opcodeMask }

// Immediate reports the I bit, RFC 7143 §11.2.1.1.
func (h *BHS) Immediate() bool { return h[0]&immediateFlag != 0 }

// SetImmediate sets the I bit.
func (h *BHS) SetImmediate(v bool) { h.setFlag(0, immediateFlag, v) }

// Final reports the F bit, RFC 7143 §11.2.1.3. The same bit is T in Login PDUs.
func (h *BHS) Final() bool { return h[1]&finalFlag != 0 }

// SetFinal sets the F bit.
func (h *BHS) SetFinal(v bool) { h.setFlag(1, finalFlag, v) }

// TotalAHSLength returns the length of all Additional Header Segments with
// their padding in bytes (four times the field), RFC 7143 §11.2.1.5.
func (h *BHS) TotalAHSLength() int { return int(h[offTotalAHSLength]) * 4 }

// SetTotalAHSLength sets the length of all Additional Header Segments. n is in
// bytes, a multiple of 4 and at most MaxTotalAHSLength; only the low eight bits
// of n/4 are kept.
func (h *BHS) SetTotalAHSLength(n int) { h[offTotalAHSLength] = byte(n / 4) }

// DataSegmentLength returns the length of the data segment without padding in
// bytes, 0..MaxDataSegmentLength, RFC 7143 §11.2.1.6.
func (h *BHS) DataSegmentLength() int {
	return int(h[offDataSegmentLength])<<16 | int(h[offDataSegmentLength+1])<<8 | int(h[offDataSegmentLength+2])
}

// SetDataSegmentLength sets the length of the data segment without padding. n
// is in bytes and at most MaxDataSegmentLength; only its low 24 bits are kept.
func (h *BHS) SetDataSegmentLength(n int) {
	h[offDataSegmentLength] = byte(n >> 16)
	h[offDataSegmentLength+1] = byte(n >> 8)
	h[offDataSegmentLength+2] = byte(n)
}

// LUN returns the LUN field, RFC 7143 §11.2.1.7.
func (h *BHS) LUN() LUN { return LUN(binary.BigEndian.Uint64(h[offLUN:])) }

// SetLUN sets the LUN field.
func (h *BHS) SetLUN(l LUN) { binary.BigEndian.PutUint64(h[offLUN:], uint64(l)) }

// InitiatorTaskTag returns the Initiator Task Tag field, RFC 7143 §11.2.1.8.
func (h *BHS) InitiatorTaskTag() uint32 { return h.get32(offInitiatorTaskTag) }

// SetInitiatorTaskTag sets the Initiator Task Tag field.
func (h *BHS) SetInitiatorTaskTag(v uint32) { h.put32(offInitiatorTaskTag, v) }

// TargetTransferTag returns the Target Transfer Tag field of Data-Out, Data-In,
// R2T, Text, NOP and SNACK PDUs, RFC 7143 §11.7.4.
func (h *BHS) TargetTransferTag() uint32 { return h.get32(offTargetTransferTag) }

// SetTargetTransferTag sets the Target Transfer Tag field.
func (h *BHS) SetTargetTransferTag(v uint32) { h.put32(offTargetTransferTag, v) }

// CmdSN returns the CmdSN field of a request, RFC 7143 §4.2.2.1.
func (h *BHS) CmdSN() uint32 { return h.get32(offCmdSN) }

// SetCmdSN sets the CmdSN field of a request.
func (h *BHS) SetCmdSN(v uint32) { h.put32(offCmdSN, v) }

// ExpStatSN returns the ExpStatSN field of a PDU from the initiator,
// RFC 7143 §4.2.2.2.
func (h *BHS) ExpStatSN() uint32 { return h.get32(offExpStatSN) }

// SetExpStatSN sets the ExpStatSN field of a PDU from the initiator.
func (h *BHS) SetExpStatSN(v uint32) { h.put32(offExpStatSN, v) }

// StatSN returns the StatSN field of a PDU from the target, RFC 7143 §4.2.2.2.
func (h *BHS) StatSN() uint32 { return h.get32(offStatSN) }

// SetStatSN sets the StatSN field of a PDU from the target.
func (h *BHS) SetStatSN(v uint32) { h.put32(offStatSN, v) }

// ExpCmdSN returns the ExpCmdSN field of a PDU from the target,
// RFC 7143 §4.2.2.1.
func (h *BHS) ExpCmdSN() uint32 { return h.get32(offExpCmdSN) }

// SetExpCmdSN sets the ExpCmdSN field of a PDU from the target.
func (h *BHS) SetExpCmdSN(v uint32) { h.put32(offExpCmdSN, v) }

// MaxCmdSN returns the MaxCmdSN field of a PDU from the target,
// RFC 7143 §4.2.2.1.
func (h *BHS) MaxCmdSN() uint32 { return h.get32(offMaxCmdSN) }

// SetMaxCmdSN sets the MaxCmdSN field of a PDU from the target.
func (h *BHS) SetMaxCmdSN(v uint32) { h.put32(offMaxCmdSN, v) }

// Length returns the number of bytes that the whole PDU takes on the wire:
// header segments, data segment, padding and digests, RFC 7143 §11.2.
// headerDigest and dataDigest say which digests this connection negotiated; a
// PDU without a data segment carries no data digest (§11.2.3).
func (h *BHS) Length(headerDigest, dataDigest bool) int {
	n := BHSLen + h.TotalAHSLength()
	if headerDigest {
		n += DigestLen
	}
	d := h.DataSegmentLength()
	if d == 0 {
		return n
	}
	n += d + Pad(d)
	if dataDigest {
		n += DigestLen
	}
	return n
}

// String returns one line for a trace: the opcode and the fields that every
// PDU has.
func (h *BHS) String() string {
	return fmt.Sprintf("%s I=%t F=%t ITT=%#08x AHS=%d data=%d", h.Opcode(), h.Immediate(), h.Final(),
		h.InitiatorTaskTag(), h.TotalAHSLength(), h.DataSegmentLength())
}

// Pad returns how many padding bytes, 0..3, follow a segment of n bytes:
// segments end on a four-byte boundary, RFC 7143 §11.1. Padding bytes are sent
// as zero.
func Pad(n int) int { return -n & 3 }

func (h *BHS) get16(off int) uint16    { return binary.BigEndian.Uint16(h[off:]) }
func (h *BHS) get32(off int) uint32    { return binary.BigEndian.Uint32(h[off:]) }
func (h *BHS) put16(off int, v uint16) { binary.BigEndian.PutUint16(h[off:], v) }
func (h *BHS) put32(off int, v uint32) { binary.BigEndian.PutUint32(h[off:], v) }

func (h *BHS) setFlag(off int, mask byte, v bool) {
	h[off] &^= mask
	h[off] |= flag(mask, v)
}

// start clears h and sets byte 0 and byte 1.
func (h *BHS) start(op Opcode, flags byte) {
	*h = BHS{}
	h[0] = byte(op)
	h[1] = flags
}

// putStatus sets the three numbers that every PDU from the target carries.
func (h *BHS) putStatus(statSN, expCmdSN, maxCmdSN uint32) {
	h.put32(offStatSN, statSN)
	h.put32(offExpCmdSN, expCmdSN)
	h.put32(offMaxCmdSN, maxCmdSN)
}

// expect returns nil when the header has the opcode op.
func (h *BHS) expect(op Opcode) error {
	if got := h.Opcode(); got != op {
		return wrongOpcode(got, op)
	}
	return nil
}

// flag returns mask when v is set, else 0.
func flag(mask byte, v bool) byte {
	if v {
		return mask
	}
	return 0
}

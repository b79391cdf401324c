package softiwarp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// fault is a reason to terminate: layer, error type and error code as in the
// first 16 bits of a Terminate message, RFC 5040 section 4.8 (registry: RFC
// 6580).
type fault uint16

// Faults that this end finds or reports.
const (
	faultCatastrophic  fault = 0x0000 // RDMAP, local
	faultSTag          fault = 0x0100 // RDMAP, remote protection
	faultBounds        fault = 0x0101
	faultAccess        fault = 0x0102
	faultSTagStream    fault = 0x0103
	faultTOWrap        fault = 0x0104
	faultInvalidate    fault = 0x0109
	faultRDMAPVersion  fault = 0x0205 // RDMAP, remote operation
	faultOpcode        fault = 0x0206
	faultTaggedSTag    fault = 0x1100 // DDP, tagged buffer
	faultTaggedBounds  fault = 0x1101
	faultTaggedStream  fault = 0x1102
	faultTaggedWrap    fault = 0x1103
	faultTaggedVersion fault = 0x1104
	faultQN            fault = 0x1201 // DDP, untagged buffer
	faultNoBuffer      fault = 0x1202
	faultMSN           fault = 0x1203
	faultMO            fault = 0x1204
	faultTooLong       fault = 0x1205
	faultVersion       fault = 0x1206
	faultLost          fault = 0x2001 // MPA: connection lost; never sent
	faultCRC           fault = 0x2002
	faultFPDU          fault = 0x2003 // markers and ULPDU length do not agree
	faultMPAFrame      fault = 0x2004
	faultIRD           fault = 0x2006 // RFC 6581 section 8
	faultRTR           fault = 0x2007

	// noFault is not a fault; as one its code is reserved.
	noFault fault = 0xffff
)

var faultNames = map[fault]string{
	faultCatastrophic: "local catastrophic error", faultSTag: "invalid STag",
	faultBounds: "base or bounds violation", faultAccess: "access rights violation",
	faultSTagStream: "STag is not of the stream", faultTOWrap: "tagged offset wraps",
	faultInvalidate: "STag cannot be invalidated", faultRDMAPVersion: "invalid RDMAP version",
	faultOpcode: "unexpected opcode", faultTaggedSTag: "invalid STag of a tagged segment",
	faultTaggedBounds: "bounds violation of a tagged segment", faultTaggedStream: "STag is not of the DDP stream",
	faultTaggedWrap: "tagged offset of a segment wraps", faultTaggedVersion: "invalid DDP version",
	faultQN: "invalid queue number", faultNoBuffer: "no buffer for the message", faultMSN: "invalid MSN",
	faultMO: "invalid message offset", faultTooLong: "message too long for its buffer",
	faultVersion: "invalid DDP version", faultLost: "connection lost", faultCRC: "wrong CRC",
	faultFPDU: "invalid ULPDU length", faultMPAFrame: "invalid MPA frame",
	faultIRD: "insufficient IRD", faultRTR: "no common RTR",
}

// Error says what was wrong.
func (f fault) Error() string {
	if s := faultNames[f]; s != "" {
		return "softiwarp: " + s
	}
	return fmt.Sprintf("softiwarp: terminated: layer %d, error type %d, code %#02x", f>>12, f>>8&0xf, uint8(f))
}

func (f fault) layer() uint8 { return uint8(f >> 12) }

// Terminate message, RFC 5040 section 4.8:
//
//	+-------+-------+---------------+-+-+-+-------------------------+
//	| Layer | EType | Error Code    |M|D|R|        reserved         |
//	+-------+-------+---------------+-+-+-+-------------------------+
//	| DDP Segment Length (M)        | DDP header (D): 14 or 18 bytes
//	+-------------------------------+
//	| RDMAP header (R): the Read Request, 28 bytes
const (
	termControlLen = 4
	termM          = 0x80
	termD          = 0x40
	termR          = 0x20

	maxTerminateLen = termControlLen + fpduLenLen + untaggedLen + readReqLen
)

// terminate is a Terminate message.
type terminate struct {
	fault  fault
	segLen uint16 // ULPDU length of the segment at fault, with header
	header []byte // DDP header of it; nil when there is none
	read   []byte // Read Request in it; nil when there is none
}

var errTerminate = errors.New("softiwarp: malformed Terminate")

// encode writes the message to b, which has maxTerminateLen, and returns its
// length.
func (t *terminate) encode(b []byte) int {
	binary.BigEndian.PutUint16(b, uint16(t.fault))
	b[2], b[3] = 0, 0
	n := termControlLen
	if t.header == nil {
		return n
	}
	b[2] = termM | termD
	binary.BigEndian.PutUint16(b[n:], t.segLen)
	n += fpduLenLen
	n += copy(b[n:], t.header)
	if t.read == nil {
		return n
	}
	b[2] |= termR
	return n + copy(b[n:], t.read)
}

// decode decodes b. The headers are b's.
func (t *terminate) decode(b []byte) error {
	if len(b) < termControlLen {
		return errTerminate
	}
	d := terminate{fault: fault(binary.BigEndian.Uint16(b))}
	flags := b[2]
	b = b[termControlLen:]
	if flags&termM != 0 {
		if len(b) < fpduLenLen {
			return errTerminate
		}
		d.segLen = binary.BigEndian.Uint16(b)
		b = b[fpduLenLen:]
	}
	if flags&termD != 0 {
		if len(b) == 0 || len(b) < headerLen(b[0]) {
			return errTerminate
		}
		d.header = b[:headerLen(b[0])]
		b = b[len(d.header):]
	}
	if flags&termR != 0 {
		if len(b) < readReqLen {
			return errTerminate
		}
		d.read = b[:readReqLen]
	}
	*t = d
	return nil
}

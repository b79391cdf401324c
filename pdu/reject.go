package pdu

import "fmt"

// Reject, RFC 7143 §11.17
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x3f      |1| Reserved    | Reason        | Reserved      |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| Reserved                                                      |
//	  16| 0xffffffff                                                    |
//	  20| Reserved                                                      |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| DataSN/R2TSN or Reserved                                      |
//	  40| Reserved                                                      |

// RejectReason is the reason of a Reject, RFC 7143 §11.17.1. Values 0x01 and
// 0x0b are not to be sent any more.
type RejectReason uint8

// Reject reasons, RFC 7143 §11.17.1.
const (
	RejectDataDigestError        RejectReason = 0x02 // Data (payload) digest error
	RejectSNACK                  RejectReason = 0x03 // SNACK Reject
	RejectProtocolError          RejectReason = 0x04 // Protocol Error
	RejectCommandNotSupported    RejectReason = 0x05 // Command not supported
	RejectImmediateCommandReject RejectReason = 0x06 // Immediate Command Reject: too many immediate commands
	RejectTaskInProgress         RejectReason = 0x07 // Task in progress
	RejectInvalidDataACK         RejectReason = 0x08 // Invalid data ack
	RejectInvalidPDUField        RejectReason = 0x09 // Invalid PDU field
	RejectLongOperation          RejectReason = 0x0a // Long op reject: out of resources for now
	RejectNegotiationReset       RejectReason = 0x0b // Negotiation Reset, deprecated
	RejectWaitingForLogout       RejectReason = 0x0c // Waiting for Logout
)

// String returns the name in RFC 7143, or the number of another value.
func (r RejectReason) String() string {
	switch r {
	case RejectDataDigestError:
		return "data digest error"
	case RejectSNACK:
		return "SNACK reject"
	case RejectProtocolError:
		return "protocol error"
	case RejectCommandNotSupported:
		return "command not supported"
	case RejectImmediateCommandReject:
		return "immediate command reject"
	case RejectTaskInProgress:
		return "task in progress"
	case RejectInvalidDataACK:
		return "invalid data ack"
	case RejectInvalidPDUField:
		return "invalid PDU field"
	case RejectLongOperation:
		return "long operation reject"
	case RejectNegotiationReset:
		return "negotiation reset"
	case RejectWaitingForLogout:
		return "waiting for logout"
	}
	return fmt.Sprintf("RejectReason(%#02x)", uint8(r))
}

// Reject is a Reject PDU, RFC 7143 §11.17. Its data segment is the complete
// header of the PDU in error, up to 48 bytes without digests.
type Reject struct {
	Reason                     RejectReason
	StatSN, ExpCmdSN, MaxCmdSN uint32
	DataSNOrR2TSN              uint32 // next Data-In or R2T number, for RejectProtocolError and RejectSNACK (§11.17.2)
	DataLen                    int    // bytes without padding
}

// Opcode returns OpReject.
func (*Reject) Opcode() Opcode { return OpReject }

// Encode writes r to h.
func (r *Reject) Encode(h *BHS) {
	h.start(OpReject, finalFlag)
	h[2] = byte(r.Reason)
	h.SetDataSegmentLength(r.DataLen)
	h.SetInitiatorTaskTag(ReservedTag)
	h.putStatus(r.StatSN, r.ExpCmdSN, r.MaxCmdSN)
	h.put32(36, r.DataSNOrR2TSN)
}

// Decode reads r from h.
func (r *Reject) Decode(h *BHS) error {
	if err := h.expect(OpReject); err != nil {
		return err
	}
	*r = Reject{
		Reason:        RejectReason(h[2]),
		StatSN:        h.StatSN(),
		ExpCmdSN:      h.ExpCmdSN(),
		MaxCmdSN:      h.MaxCmdSN(),
		DataSNOrR2TSN: h.get32(36),
		DataLen:       h.DataSegmentLength(),
	}
	return nil
}

package pdu

// Ready To Transfer, RFC 7143 §11.8
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x31      |1| Reserved                                    |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN                                                           |
//	  16| Initiator Task Tag                                            |
//	  20| Target Transfer Tag                                           |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| R2TSN                                                         |
//	  40| Buffer Offset                                                 |
//	  44| Desired Data Transfer Length                                  |

// R2T is a Ready To Transfer PDU, RFC 7143 §11.8. It has no data segment.
type R2T struct {
	LUN                       LUN
	InitiatorTaskTag          uint32
	TargetTransferTag         uint32 // never ReservedTag
	StatSN                    uint32 // the next StatSN, which an R2T doesn't use up (§11.8.2)
	ExpCmdSN, MaxCmdSN        uint32
	R2TSN                     uint32 // counts from 0 within a command
	BufferOffset              uint32 // bytes from the start of the command's data
	DesiredDataTransferLength uint32 // bytes, 1..MaxBurstLength
}

// Opcode returns OpR2T.
func (*R2T) Opcode() Opcode { return OpR2T }

// Encode writes r to h.
func (r *R2T) Encode(h *BHS) {
	h.start(OpR2T, finalFlag)
	h.SetLUN(r.LUN)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.SetTargetTransferTag(r.TargetTransferTag)
	h.putStatus(r.StatSN, r.ExpCmdSN, r.MaxCmdSN)
	h.put32(36, r.R2TSN)
	h.put32(40, r.BufferOffset)
	h.put32(44, r.DesiredDataTransferLength)
}

// Decode reads r from h.
func (r *R2T) Decode(h *BHS) error {
	if err := h.expect(OpR2T); err != nil {
		return err
	}
	r.LUN = h.LUN()
	r.InitiatorTaskTag = h.InitiatorTaskTag()
	r.TargetTransferTag = h.TargetTransferTag()
	r.StatSN = h.StatSN()
	r.ExpCmdSN = h.ExpCmdSN()
	r.MaxCmdSN = h.MaxCmdSN()
	r.R2TSN = h.get32(36)
	r.BufferOffset = h.get32(40)
	r.DesiredDataTransferLength = h.get32(44)
	return nil
}

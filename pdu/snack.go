package pdu

import "fmt"

// SNACK Request, RFC 7143 §11.16
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x10      |1|.|.|.| Type  | Reserved                      |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| Initiator Task Tag or 0xffffffff                              |
//	  20| Target Transfer Tag or SNACK Tag or 0xffffffff                |
//	  24| Reserved                                                      |
//	  28| ExpStatSN                                                     |
//	  32| Reserved                                                      |
//	  40| BegRun                                                        |
//	  44| RunLength                                                     |

const snackTypeMask = 0x0f

// SNACKType is what a SNACK Request asks for, RFC 7143 §11.16.1.
type SNACKType uint8

// SNACK types, RFC 7143 §11.16.1.
const (
	SNACKData    SNACKType = 0 // Data/R2T SNACK: retransmit Data-In or R2T PDUs
	SNACKStatus  SNACKType = 1 // Status SNACK: retransmit numbered responses
	SNACKDataACK SNACKType = 2 // DataACK: acknowledge Data-In PDUs
	SNACKRData   SNACKType = 3 // R-Data SNACK: retransmit with resegmentation
)

// String returns the name in RFC 7143, or the number of another value.
func (t SNACKType) String() string {
	switch t {
	case SNACKData:
		return "Data/R2T SNACK"
	case SNACKStatus:
		return "Status SNACK"
	case SNACKDataACK:
		return "DataACK"
	case SNACKRData:
		return "R-Data SNACK"
	}
	return fmt.Sprintf("SNACKType(%d)", uint8(t))
}

// SNACK is a SNACK Request, RFC 7143 §11.16. It has no data segment.
type SNACK struct {
	Type              SNACKType
	LUN               LUN    // for SNACKDataACK
	InitiatorTaskTag  uint32 // ReservedTag for SNACKStatus and SNACKDataACK
	TargetTransferTag uint32 // the SNACK Tag for SNACKRData
	ExpStatSN         uint32
	BegRun            uint32 // first DataSN, R2TSN or StatSN
	RunLength         uint32 // number of PDUs; 0 for all from BegRun on
}

// Opcode returns OpSNACK.
func (*SNACK) Opcode() Opcode { return OpSNACK }

// Encode writes s to h.
func (s *SNACK) Encode(h *BHS) {
	h.start(OpSNACK, finalFlag|byte(s.Type)&snackTypeMask)
	h.SetLUN(s.LUN)
	h.SetInitiatorTaskTag(s.InitiatorTaskTag)
	h.SetTargetTransferTag(s.TargetTransferTag)
	h.SetExpStatSN(s.ExpStatSN)
	h.put32(40, s.BegRun)
	h.put32(44, s.RunLength)
}

// Decode reads s from h.
func (s *SNACK) Decode(h *BHS) error {
	if err := h.expect(OpSNACK); err != nil {
		return err
	}
	*s = SNACK{
		Type:              SNACKType(h[1] & snackTypeMask),
		LUN:               h.LUN(),
		InitiatorTaskTag:  h.InitiatorTaskTag(),
		TargetTransferTag: h.TargetTransferTag(),
		ExpStatSN:         h.ExpStatSN(),
		BegRun:            h.get32(40),
		RunLength:         h.get32(44),
	}
	return nil
}

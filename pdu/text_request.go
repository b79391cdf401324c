package pdu

// Text Request, RFC 7143 §11.10
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|I| 0x04      |F|C| Reserved                                  |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| Initiator Task Tag                                            |
//	  20| Target Transfer Tag or 0xffffffff                             |
//	  24| CmdSN                                                         |
//	  28| ExpStatSN                                                     |
//	  32| Reserved                                                      |
//
// Text Response, RFC 7143 §11.11
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x24      |F|C| Reserved                                  |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| Initiator Task Tag                                            |
//	  20| Target Transfer Tag or 0xffffffff                             |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| Reserved                                                      |

const continueFlag = 0x40 // byte 1 of Text and Login PDUs, C bit

// TextRequest is a Text Request, RFC 7143 §11.10. Its data segment is key=value
// text, see pdu/text.
type TextRequest struct {
	Immediate         bool
	Final             bool // the initiator has no more to negotiate
	Continue          bool // the C bit: the text goes on in the next request
	LUN               LUN  // that of the Text Response whose TargetTransferTag is used
	InitiatorTaskTag  uint32
	TargetTransferTag uint32 // ReservedTag in the first request of a sequence
	CmdSN, ExpStatSN  uint32
	DataLen           int // bytes without padding
}

// Opcode returns OpTextRequest.
func (*TextRequest) Opcode() Opcode { return OpTextRequest }

// Encode writes r to h.
func (r *TextRequest) Encode(h *BHS) {
	h.start(OpTextRequest, flag(finalFlag, r.Final)|flag(continueFlag, r.Continue))
	h.SetImmediate(r.Immediate)
	h.SetDataSegmentLength(r.DataLen)
	h.SetLUN(r.LUN)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.SetTargetTransferTag(r.TargetTransferTag)
	h.SetCmdSN(r.CmdSN)
	h.SetExpStatSN(r.ExpStatSN)
}

// Decode reads r from h.
func (r *TextRequest) Decode(h *BHS) error {
	if err := h.expect(OpTextRequest); err != nil {
		return err
	}
	*r = TextRequest{
		Immediate:         h.Immediate(),
		Final:             h.Final(),
		Continue:          h[1]&continueFlag != 0,
		LUN:               h.LUN(),
		InitiatorTaskTag:  h.InitiatorTaskTag(),
		TargetTransferTag: h.TargetTransferTag(),
		CmdSN:             h.CmdSN(),
		ExpStatSN:         h.ExpStatSN(),
		DataLen:           h.DataSegmentLength(),
	}
	return nil
}

// TextResponse is a Text Response, RFC 7143 §11.11. Its data segment is
// key=value text, see pdu/text.
type TextResponse struct {
	Final                      bool // the sequence ends here
	Continue                   bool // the C bit: the text goes on in the next response
	LUN                        LUN
	InitiatorTaskTag           uint32
	TargetTransferTag          uint32 // ReservedTag when Final (§11.11.4)
	StatSN, ExpCmdSN, MaxCmdSN uint32
	DataLen                    int // bytes without padding
}

// Opcode returns OpTextResponse.
func (*TextResponse) Opcode() Opcode { return OpTextResponse }

// Encode writes r to h.
func (r *TextResponse) Encode(h *BHS) {
	h.start(OpTextResponse, flag(finalFlag, r.Final)|flag(continueFlag, r.Continue))
	h.SetDataSegmentLength(r.DataLen)
	h.SetLUN(r.LUN)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.SetTargetTransferTag(r.TargetTransferTag)
	h.putStatus(r.StatSN, r.ExpCmdSN, r.MaxCmdSN)
}

// Decode reads r from h.
func (r *TextResponse) Decode(h *BHS) error {
	if err := h.expect(OpTextResponse); err != nil {
		return err
	}
	*r = TextResponse{
		Final:             h.Final(),
		Continue:          h[1]&continueFlag != 0,
		LUN:               h.LUN(),
		InitiatorTaskTag:  h.InitiatorTaskTag(),
		TargetTransferTag: h.TargetTransferTag(),
		StatSN:            h.StatSN(),
		ExpCmdSN:          h.ExpCmdSN(),
		MaxCmdSN:          h.MaxCmdSN(),
		DataLen:           h.DataSegmentLength(),
	}
	return nil
}

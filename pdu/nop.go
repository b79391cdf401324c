package pdu

// NOP-Out, RFC 7143 §11.18
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|I| 0x00      |1| Reserved                                    |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| Initiator Task Tag or 0xffffffff                              |
//	  20| Target Transfer Tag or 0xffffffff                             |
//	  24| CmdSN                                                         |
//	  28| ExpStatSN                                                     |
//	  32| Reserved                                                      |
//
// NOP-In, RFC 7143 §11.19
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x20      |1| Reserved                                    |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| Initiator Task Tag or 0xffffffff                              |
//	  20| Target Transfer Tag or 0xffffffff                             |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| Reserved                                                      |

// NOPOut is a NOP-Out PDU, RFC 7143 §11.18. Its data segment is ping data.
type NOPOut struct {
	Immediate         bool
	LUN               LUN    // copied from the NOP-In that it answers
	InitiatorTaskTag  uint32 // ReservedTag when no answer is wanted
	TargetTransferTag uint32 // of the NOP-In that it answers, else ReservedTag
	CmdSN, ExpStatSN  uint32
	DataLen           int // bytes without padding
}

// Opcode returns OpNOPOut.
func (*NOPOut) Opcode() Opcode { return OpNOPOut }

// Encode writes n to h.
func (n *NOPOut) Encode(h *BHS) {
	h.start(OpNOPOut, finalFlag)
	h.SetImmediate(n.Immediate)
	h.SetDataSegmentLength(n.DataLen)
	h.SetLUN(n.LUN)
	h.SetInitiatorTaskTag(n.InitiatorTaskTag)
	h.SetTargetTransferTag(n.TargetTransferTag)
	h.SetCmdSN(n.CmdSN)
	h.SetExpStatSN(n.ExpStatSN)
}

// Decode reads n from h.
func (n *NOPOut) Decode(h *BHS) error {
	if err := h.expect(OpNOPOut); err != nil {
		return err
	}
	*n = NOPOut{
		Immediate:         h.Immediate(),
		LUN:               h.LUN(),
		InitiatorTaskTag:  h.InitiatorTaskTag(),
		TargetTransferTag: h.TargetTransferTag(),
		CmdSN:             h.CmdSN(),
		ExpStatSN:         h.ExpStatSN(),
		DataLen:           h.DataSegmentLength(),
	}
	return nil
}

// NOPIn is a NOP-In PDU, RFC 7143 §11.19. Its data segment is that of the
// NOP-Out that it answers, cut to what the initiator takes.
type NOPIn struct {
	LUN               LUN    // for the answer, when TargetTransferTag is not ReservedTag
	InitiatorTaskTag  uint32 // of the NOP-Out that it answers, else ReservedTag
	TargetTransferTag uint32 // ReservedTag when no answer is wanted
	// StatSN is the next StatSN, which isn't used up when InitiatorTaskTag is
	// ReservedTag (§11.19.2).
	StatSN, ExpCmdSN, MaxCmdSN uint32
	DataLen                    int // bytes without padding
}

// Opcode returns OpNOPIn.
func (*NOPIn) Opcode() Opcode { return OpNOPIn }

// Encode writes n to h.
func (n *NOPIn) Encode(h *BHS) {
	h.start(OpNOPIn, finalFlag)
	h.SetDataSegmentLength(n.DataLen)
	h.SetLUN(n.LUN)
	h.SetInitiatorTaskTag(n.InitiatorTaskTag)
	h.SetTargetTransferTag(n.TargetTransferTag)
	h.putStatus(n.StatSN, n.ExpCmdSN, n.MaxCmdSN)
}

// Decode reads n from h.
func (n *NOPIn) Decode(h *BHS) error {
	if err := h.expect(OpNOPIn); err != nil {
		return err
	}
	*n = NOPIn{
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

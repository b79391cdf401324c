package pdu

// SCSI Data-Out, RFC 7143 §11.7
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x05      |F| Reserved                                    |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| Initiator Task Tag                                            |
//	  20| Target Transfer Tag or 0xffffffff                             |
//	  24| Reserved                                                      |
//	  28| ExpStatSN                                                     |
//	  32| Reserved                                                      |
//	  36| DataSN                                                        |
//	  40| Buffer Offset                                                 |
//	  44| Reserved                                                      |
//
// SCSI Data-In, RFC 7143 §11.7
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x25      |F|A|0 0 0|O|U|S| Reserved      |Status or Rsvd |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| Initiator Task Tag                                            |
//	  20| Target Transfer Tag or 0xffffffff                             |
//	  24| StatSN or Reserved                                            |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| DataSN                                                        |
//	  40| Buffer Offset                                                 |
//	  44| Residual Count                                                |

const (
	acknowledgeFlag = 0x40 // Data-In byte 1, A bit
	hasStatusFlag   = 0x01 // Data-In byte 1, S bit
)

// DataOut is a SCSI Data-Out PDU, RFC 7143 §11.7.
type DataOut struct {
	Final             bool // last PDU of this sequence (§11.7.1)
	LUN               LUN  // that of the R2T; reserved when TargetTransferTag is ReservedTag
	InitiatorTaskTag  uint32
	TargetTransferTag uint32 // of the R2T, or ReservedTag for unsolicited data
	ExpStatSN         uint32
	DataSN            uint32 // counts from 0 within a sequence
	BufferOffset      uint32 // bytes from the start of the command's data
	DataLen           int    // bytes without padding
}

// Opcode returns OpDataOut.
func (*DataOut) Opcode() Opcode { return OpDataOut }

// Encode writes d to h.
func (d *DataOut) Encode(h *BHS) {
	h.start(OpDataOut, flag(finalFlag, d.Final))
	h.SetDataSegmentLength(d.DataLen)
	h.SetLUN(d.LUN)
	h.SetInitiatorTaskTag(d.InitiatorTaskTag)
	h.SetTargetTransferTag(d.TargetTransferTag)
	h.SetExpStatSN(d.ExpStatSN)
	h.put32(36, d.DataSN)
	h.put32(40, d.BufferOffset)
}

// Decode reads d from h.
func (d *DataOut) Decode(h *BHS) error {
	if err := h.expect(OpDataOut); err != nil {
		return err
	}
	d.Final = h.Final()
	d.LUN = h.LUN()
	d.InitiatorTaskTag = h.InitiatorTaskTag()
	d.TargetTransferTag = h.TargetTransferTag()
	d.ExpStatSN = h.ExpStatSN()
	d.DataSN = h.get32(36)
	d.BufferOffset = h.get32(40)
	d.DataLen = h.DataSegmentLength()
	return nil
}

// DataIn is a SCSI Data-In PDU, RFC 7143 §11.7. Overflow, Underflow, Status,
// StatSN and ResidualCount mean something only when HasStatus is set (§11.7.2,
// §11.7.3). Encode writes what the fields say all the same.
type DataIn struct {
	Final                      bool
	Acknowledge                bool // the initiator is to answer with a DataACK SNACK (§11.7.2)
	Overflow, Underflow        bool
	HasStatus                  bool // the S bit: this PDU also carries the status
	Status                     uint8
	LUN                        LUN // for the DataACK; reserved unless Acknowledge
	InitiatorTaskTag           uint32
	TargetTransferTag          uint32 // for the DataACK; ReservedTag unless Acknowledge
	StatSN, ExpCmdSN, MaxCmdSN uint32
	DataSN                     uint32 // counts from 0 within a command
	BufferOffset               uint32 // bytes from the start of the command's data
	ResidualCount              uint32 // bytes
	DataLen                    int    // bytes without padding
}

// Opcode returns OpDataIn.
func (*DataIn) Opcode() Opcode { return OpDataIn }

// Encode writes d to h.
func (d *DataIn) Encode(h *BHS) {
	h.start(OpDataIn, flag(finalFlag, d.Final)|flag(acknowledgeFlag, d.Acknowledge)|
		flag(overflowFlag, d.Overflow)|flag(underflowFlag, d.Underflow)|flag(hasStatusFlag, d.HasStatus))
	h[3] = d.Status
	h.SetDataSegmentLength(d.DataLen)
	h.SetLUN(d.LUN)
	h.SetInitiatorTaskTag(d.InitiatorTaskTag)
	h.SetTargetTransferTag(d.TargetTransferTag)
	h.putStatus(d.StatSN, d.ExpCmdSN, d.MaxCmdSN)
	h.put32(36, d.DataSN)
	h.put32(40, d.BufferOffset)
	h.put32(44, d.ResidualCount)
}

// Decode reads d from h.
func (d *DataIn) Decode(h *BHS) error {
	if err := h.expect(OpDataIn); err != nil {
		return err
	}
	d.Final = h.Final()
	d.Acknowledge = h[1]&acknowledgeFlag != 0
	d.Overflow = h[1]&overflowFlag != 0
	d.Underflow = h[1]&underflowFlag != 0
	d.HasStatus = h[1]&hasStatusFlag != 0
	d.Status = h[3]
	d.LUN = h.LUN()
	d.InitiatorTaskTag = h.InitiatorTaskTag()
	d.TargetTransferTag = h.TargetTransferTag()
	d.StatSN = h.StatSN()
	d.ExpCmdSN = h.ExpCmdSN()
	d.MaxCmdSN = h.MaxCmdSN()
	d.DataSN = h.get32(36)
	d.BufferOffset = h.get32(40)
	d.ResidualCount = h.get32(44)
	d.DataLen = h.DataSegmentLength()
	return nil
}

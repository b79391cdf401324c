package pdu

import "fmt"

// SCSI Command, RFC 7143 §11.3
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|I| 0x01      |F|R|W|. .|ATTR | Reserved                      |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| Logical Unit Number (LUN)                                     |
//	  16| Initiator Task Tag                                            |
//	  20| Expected Data Transfer Length                                 |
//	  24| CmdSN                                                         |
//	  28| ExpStatSN                                                     |
//	  32| SCSI Command Descriptor Block (CDB), 16 bytes                 |
//
// SCSI Response, RFC 7143 §11.4
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x21      |1|. .|o|u|O|U|.| Response      | Status        |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| Reserved                                                      |
//	  16| Initiator Task Tag                                            |
//	  20| SNACK Tag or Reserved                                         |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| ExpDataSN or Reserved                                         |
//	  40| Bidirectional Read Residual Count or Reserved                 |
//	  44| Residual Count or Reserved                                    |

const (
	readFlag  = 0x40 // SCSI Command byte 1, R bit
	writeFlag = 0x20 // SCSI Command byte 1, W bit
	attrMask  = 0x07 // SCSI Command byte 1, ATTR

	bidiOverflowFlag  = 0x10 // SCSI Response byte 1, o bit
	bidiUnderflowFlag = 0x08 // SCSI Response byte 1, u bit
	overflowFlag      = 0x04 // SCSI Response and Data-In byte 1, O bit
	underflowFlag     = 0x02 // SCSI Response and Data-In byte 1, U bit
)

// TaskAttr is the task attribute of a SCSI Command, RFC 7143 §11.3.1. Values 5
// to 7 are reserved.
type TaskAttr uint8

// Task attributes, RFC 7143 §11.3.1.
const (
	AttrUntagged    TaskAttr = 0
	AttrSimple      TaskAttr = 1
	AttrOrdered     TaskAttr = 2
	AttrHeadOfQueue TaskAttr = 3
	AttrACA         TaskAttr = 4
)

// String returns the name in RFC 7143, or the number of a reserved value.
func (a TaskAttr) String() string {
	switch a {
	case AttrUntagged:
		return "Untagged"
	case AttrSimple:
		return "Simple"
	case AttrOrdered:
		return "Ordered"
	case AttrHeadOfQueue:
		return "Head of queue"
	case AttrACA:
		return "ACA"
	}
	return fmt.Sprintf("TaskAttr(%d)", uint8(a))
}

// Response is the iSCSI service response of a SCSI Response, RFC 7143 §11.4.3.
// Values 0x80 to 0xff are vendor specific.
type Response uint8

// Service responses, RFC 7143 §11.4.3.
const (
	ResponseCompleted     Response = 0x00 // Command Completed at Target
	ResponseTargetFailure Response = 0x01 // Target Failure
)

// String returns the name in RFC 7143, or the number of another value.
func (r Response) String() string {
	switch r {
	case ResponseCompleted:
		return "Command Completed at Target"
	case ResponseTargetFailure:
		return "Target Failure"
	}
	return fmt.Sprintf("Response(%#02x)", uint8(r))
}

// SCSICommand is a SCSI Command, RFC 7143 §11.3. Its data segment is immediate
// data.
type SCSICommand struct {
	Immediate, Final           bool
	Read, Write                bool // data is expected to come in, to go out
	Attr                       TaskAttr
	LUN                        LUN
	InitiatorTaskTag           uint32
	ExpectedDataTransferLength uint32 // bytes; of the write when Read and Write are set
	CmdSN, ExpStatSN           uint32
	CDB                        [16]byte // first 16 bytes; ExtendedCDB adds the rest
	AHSLen                     int      // bytes, a multiple of 4
	DataLen                    int      // bytes without padding
}

// Opcode returns OpSCSICommand.
func (*SCSICommand) Opcode() Opcode { return OpSCSICommand }

// Encode writes c to h.
func (c *SCSICommand) Encode(h *BHS) {
	h.start(OpSCSICommand, flag(finalFlag, c.Final)|flag(readFlag, c.Read)|flag(writeFlag, c.Write)|byte(c.Attr)&attrMask)
	h.SetImmediate(c.Immediate)
	h.SetTotalAHSLength(c.AHSLen)
	h.SetDataSegmentLength(c.DataLen)
	h.SetLUN(c.LUN)
	h.SetInitiatorTaskTag(c.InitiatorTaskTag)
	h.put32(20, c.ExpectedDataTransferLength)
	h.SetCmdSN(c.CmdSN)
	h.SetExpStatSN(c.ExpStatSN)
	*(*[16]byte)(h[32:]) = c.CDB
}

// Decode reads c from h.
func (c *SCSICommand) Decode(h *BHS) error {
	if err := h.expect(OpSCSICommand); err != nil {
		return err
	}
	c.Immediate = h.Immediate()
	c.Final = h.Final()
	c.Read = h[1]&readFlag != 0
	c.Write = h[1]&writeFlag != 0
	c.Attr = TaskAttr(h[1] & attrMask)
	c.LUN = h.LUN()
	c.InitiatorTaskTag = h.InitiatorTaskTag()
	c.ExpectedDataTransferLength = h.get32(20)
	c.CmdSN = h.CmdSN()
	c.ExpStatSN = h.ExpStatSN()
	c.CDB = [16]byte(h[32:])
	c.AHSLen = h.TotalAHSLength()
	c.DataLen = h.DataSegmentLength()
	return nil
}

// SCSIResponse is a SCSI Response, RFC 7143 §11.4. Its data segment is a
// two-byte SenseLength, the sense data and response data (§11.4.7).
type SCSIResponse struct {
	BidiReadOverflow, BidiReadUnderflow bool // BidiReadResidualCount is valid
	Overflow, Underflow                 bool // ResidualCount is valid
	Response                            Response
	Status                              uint8 // SCSI status, SAM-5 5.3.1
	InitiatorTaskTag                    uint32
	SNACKTag                            uint32 // of the last R-Data SNACK, else 0
	StatSN, ExpCmdSN, MaxCmdSN          uint32
	ExpDataSN                           uint32 // number of Data-In and R2T PDUs sent for the command
	BidiReadResidualCount               uint32 // bytes
	ResidualCount                       uint32 // bytes
	DataLen                             int    // bytes without padding
}

// Opcode returns OpSCSIResponse.
func (*SCSIResponse) Opcode() Opcode { return OpSCSIResponse }

// Encode writes r to h.
func (r *SCSIResponse) Encode(h *BHS) {
	h.start(OpSCSIResponse, finalFlag|
		flag(bidiOverflowFlag, r.BidiReadOverflow)|flag(bidiUnderflowFlag, r.BidiReadUnderflow)|
		flag(overflowFlag, r.Overflow)|flag(underflowFlag, r.Underflow))
	h[2] = byte(r.Response)
	h[3] = r.Status
	h.SetDataSegmentLength(r.DataLen)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.put32(20, r.SNACKTag)
	h.putStatus(r.StatSN, r.ExpCmdSN, r.MaxCmdSN)
	h.put32(36, r.ExpDataSN)
	h.put32(40, r.BidiReadResidualCount)
	h.put32(44, r.ResidualCount)
}

// Decode reads r from h.
func (r *SCSIResponse) Decode(h *BHS) error {
	if err := h.expect(OpSCSIResponse); err != nil {
		return err
	}
	r.BidiReadOverflow = h[1]&bidiOverflowFlag != 0
	r.BidiReadUnderflow = h[1]&bidiUnderflowFlag != 0
	r.Overflow = h[1]&overflowFlag != 0
	r.Underflow = h[1]&underflowFlag != 0
	r.Response = Response(h[2])
	r.Status = h[3]
	r.InitiatorTaskTag = h.InitiatorTaskTag()
	r.SNACKTag = h.get32(20)
	r.StatSN = h.StatSN()
	r.ExpCmdSN = h.ExpCmdSN()
	r.MaxCmdSN = h.MaxCmdSN()
	r.ExpDataSN = h.get32(36)
	r.BidiReadResidualCount = h.get32(40)
	r.ResidualCount = h.get32(44)
	r.DataLen = h.DataSegmentLength()
	return nil
}

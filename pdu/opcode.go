package pdu

import "fmt"

// Opcode is the type of a PDU, RFC 7143 §11.2.1.2.
type Opcode uint8

// Opcodes of PDUs that the initiator sends, RFC 7143 §11.2.1.2.
const (
	OpNOPOut                Opcode = 0x00 // NOP-Out, §11.18
	OpSCSICommand           Opcode = 0x01 // SCSI Command, §11.3
	OpTaskManagementRequest Opcode = 0x02 // SCSI Task Management Function Request, §11.5
	OpLoginRequest          Opcode = 0x03 // Login Request, §11.12
	OpTextRequest           Opcode = 0x04 // Text Request, §11.10
	OpDataOut               Opcode = 0x05 // SCSI Data-Out (write operations), §11.7
	OpLogoutRequest         Opcode = 0x06 // Logout Request, §11.14
	OpSNACK                 Opcode = 0x10 // SNACK Request, §11.16
)

// Opcodes of PDUs that the target sends, RFC 7143 §11.2.1.2.
const (
	OpNOPIn                  Opcode = 0x20 // NOP-In, §11.19
	OpSCSIResponse           Opcode = 0x21 // SCSI Response, §11.4
	OpTaskManagementResponse Opcode = 0x22 // SCSI Task Management Function Response, §11.6
	OpLoginResponse          Opcode = 0x23 // Login Response, §11.13
	OpTextResponse           Opcode = 0x24 // Text Response, §11.11
	OpDataIn                 Opcode = 0x25 // SCSI Data-In (read operations), §11.7
	OpLogoutResponse         Opcode = 0x26 // Logout Response, §11.15
	OpR2T                    Opcode = 0x31 // Ready To Transfer, §11.8
	OpAsyncMessage           Opcode = 0x32 // Asynchronous Message, §11.9
	OpReject                 Opcode = 0x3f // Reject, §11.17
)

// FromInitiator reports whether o is an opcode of RFC 7143 that an initiator
// sends.
func (o Opcode) FromInitiator() bool { return o <= OpLogoutRequest || o == OpSNACK }

// FromTarget reports whether o is an opcode of RFC 7143 that a target sends.
func (o Opcode) FromTarget() bool {
	return o >= OpNOPIn && o <= OpLogoutResponse || o == OpR2T || o == OpAsyncMessage || o == OpReject
}

// String returns the name in RFC 7143, or the number of an unknown opcode.
func (o Opcode) String() string {
	switch o {
	case OpNOPOut:
		return "NOP-Out"
	case OpSCSICommand:
		return "SCSI Command"
	case OpTaskManagementRequest:
		return "Task Management Function Request"
	case OpLoginRequest:
		return "Login Request"
	case OpTextRequest:
		return "Text Request"
	case OpDataOut:
		return "SCSI Data-Out"
	case OpLogoutRequest:
		return "Logout Request"
	case OpSNACK:
		return "SNACK Request"
	case OpNOPIn:
		return "NOP-In"
	case OpSCSIResponse:
		return "SCSI Response"
	case OpTaskManagementResponse:
		return "Task Management Function Response"
	case OpLoginResponse:
		return "Login Response"
	case OpTextResponse:
		return "Text Response"
	case OpDataIn:
		return "SCSI Data-In"
	case OpLogoutResponse:
		return "Logout Response"
	case OpR2T:
		return "R2T"
	case OpAsyncMessage:
		return "Asynchronous Message"
	case OpReject:
		return "Reject"
	}
	return fmt.Sprintf("Opcode(%#02x)", uint8(o))
}

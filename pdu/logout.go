package pdu

import "fmt"

// Logout Request, RFC 7143 §11.14
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|I| 0x06      |1| Reason Code | Reserved                      |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| Reserved                                                      |
//	  16| Initiator Task Tag                                            |
//	  20| CID or Reserved               | Reserved                      |
//	  24| CmdSN                                                         |
//	  28| ExpStatSN                                                     |
//	  32| Reserved                                                      |
//
// Logout Response, RFC 7143 §11.15
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x26      |1| Reserved    | Response      | Reserved      |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| Reserved                                                      |
//	  16| Initiator Task Tag                                            |
//	  20| Reserved                                                      |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| Reserved                                                      |
//	  40| Time2Wait                     | Time2Retain                   |
//	  44| Reserved                                                      |

// LogoutReason is the reason code of a Logout Request, RFC 7143 §11.14.1.
type LogoutReason uint8

// Logout reasons, RFC 7143 §11.14.1.
const (
	LogoutCloseSession             LogoutReason = 0 // close the session
	LogoutCloseConnection          LogoutReason = 1 // close the connection
	LogoutRemoveConnectionRecovery LogoutReason = 2 // remove the connection for recovery
)

// String returns the name in RFC 7143, or the number of another value.
func (r LogoutReason) String() string {
	switch r {
	case LogoutCloseSession:
		return "close the session"
	case LogoutCloseConnection:
		return "close the connection"
	case LogoutRemoveConnectionRecovery:
		return "remove the connection for recovery"
	}
	return fmt.Sprintf("LogoutReason(%d)", uint8(r))
}

// LogoutResponseCode is the response of a Logout Response, RFC 7143 §11.15.1.
type LogoutResponseCode uint8

// Logout responses, RFC 7143 §11.15.1.
const (
	LogoutSuccess              LogoutResponseCode = 0 // connection or session closed successfully
	LogoutCIDNotFound          LogoutResponseCode = 1 // CID was not found
	LogoutRecoveryNotSupported LogoutResponseCode = 2 // connection recovery is not supported
	LogoutCleanupFailed        LogoutResponseCode = 3 // cleanup failed for various reasons
)

// String returns the name in RFC 7143, or the number of another value.
func (c LogoutResponseCode) String() string {
	switch c {
	case LogoutSuccess:
		return "closed successfully"
	case LogoutCIDNotFound:
		return "CID was not found"
	case LogoutRecoveryNotSupported:
		return "connection recovery is not supported"
	case LogoutCleanupFailed:
		return "cleanup failed"
	}
	return fmt.Sprintf("LogoutResponseCode(%d)", uint8(c))
}

// LogoutRequest is a Logout Request, RFC 7143 §11.14. It has no data segment.
type LogoutRequest struct {
	Immediate        bool
	Reason           LogoutReason
	InitiatorTaskTag uint32
	CID              uint16 // reserved with LogoutCloseSession
	CmdSN, ExpStatSN uint32
}

// Opcode returns OpLogoutRequest.
func (*LogoutRequest) Opcode() Opcode { return OpLogoutRequest }

// Encode writes r to h.
func (r *LogoutRequest) Encode(h *BHS) {
	h.start(OpLogoutRequest, finalFlag|byte(r.Reason)&functionMask)
	h.SetImmediate(r.Immediate)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.put16(20, r.CID)
	h.SetCmdSN(r.CmdSN)
	h.SetExpStatSN(r.ExpStatSN)
}

// Decode reads r from h.
func (r *LogoutRequest) Decode(h *BHS) error {
	if err := h.expect(OpLogoutRequest); err != nil {
		return err
	}
	*r = LogoutRequest{
		Immediate:        h.Immediate(),
		Reason:           LogoutReason(h[1] & functionMask),
		InitiatorTaskTag: h.InitiatorTaskTag(),
		CID:              h.get16(20),
		CmdSN:            h.CmdSN(),
		ExpStatSN:        h.ExpStatSN(),
	}
	return nil
}

// LogoutResponse is a Logout Response, RFC 7143 §11.15. It has no data segment.
type LogoutResponse struct {
	Response                   LogoutResponseCode
	InitiatorTaskTag           uint32
	StatSN, ExpCmdSN, MaxCmdSN uint32
	Time2Wait, Time2Retain     uint16 // seconds
}

// Opcode returns OpLogoutResponse.
func (*LogoutResponse) Opcode() Opcode { return OpLogoutResponse }

// Encode writes r to h.
func (r *LogoutResponse) Encode(h *BHS) {
	h.start(OpLogoutResponse, finalFlag)
	h[2] = byte(r.Response)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.putStatus(r.StatSN, r.ExpCmdSN, r.MaxCmdSN)
	h.put16(40, r.Time2Wait)
	h.put16(42, r.Time2Retain)
}

// Decode reads r from h.
func (r *LogoutResponse) Decode(h *BHS) error {
	if err := h.expect(OpLogoutResponse); err != nil {
		return err
	}
	*r = LogoutResponse{
		Response:         LogoutResponseCode(h[2]),
		InitiatorTaskTag: h.InitiatorTaskTag(),
		StatSN:           h.StatSN(),
		ExpCmdSN:         h.ExpCmdSN(),
		MaxCmdSN:         h.MaxCmdSN(),
		Time2Wait:        h.get16(40),
		Time2Retain:      h.get16(42),
	}
	return nil
}

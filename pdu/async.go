package pdu

import "fmt"

// Asynchronous Message, RFC 7143 §11.9
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x32      |1| Reserved                                    |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| LUN or Reserved                                               |
//	  16| 0xffffffff                                                    |
//	  20| Reserved                                                      |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| AsyncEvent    | AsyncVCode    | Parameter1 or Reserved        |
//	  40| Parameter2 or Reserved        | Parameter3 or Reserved        |
//	  44| Reserved                                                      |

// AsyncEvent is the kind of an Asynchronous Message, RFC 7143 §11.9.1.
type AsyncEvent uint8

// Asynchronous events, RFC 7143 §11.9.1.
const (
	AsyncSCSI                 AsyncEvent = 0   // a SCSI asynchronous event, sense data follows
	AsyncLogoutRequest        AsyncEvent = 1   // the target requests Logout within Parameter3 seconds
	AsyncDropConnection       AsyncEvent = 2   // the target will drop connection Parameter1
	AsyncDropAllConnections   AsyncEvent = 3   // the target will drop all connections of the session
	AsyncParameterNegotiation AsyncEvent = 4   // the target requests negotiation within Parameter3 seconds
	AsyncTasksTerminated      AsyncEvent = 5   // all active tasks for the LU are being terminated
	AsyncVendorSpecific       AsyncEvent = 255 // vendor-specific, by AsyncVCode
)

// String returns a short name, or the number of another value.
func (e AsyncEvent) String() string {
	switch e {
	case AsyncSCSI:
		return "SCSI asynchronous event"
	case AsyncLogoutRequest:
		return "target requests Logout"
	case AsyncDropConnection:
		return "target will drop the connection"
	case AsyncDropAllConnections:
		return "target will drop all connections of the session"
	case AsyncParameterNegotiation:
		return "target requests parameter negotiation"
	case AsyncTasksTerminated:
		return "all active tasks for the LU are being terminated"
	case AsyncVendorSpecific:
		return "vendor-specific event"
	}
	return fmt.Sprintf("AsyncEvent(%d)", uint8(e))
}

// AsyncMessage is an Asynchronous Message, RFC 7143 §11.9. Its data segment is
// sense data and event data (§11.9.4).
type AsyncMessage struct {
	LUN                                LUN // for AsyncSCSI and AsyncTasksTerminated
	StatSN, ExpCmdSN, MaxCmdSN         uint32
	Event                              AsyncEvent
	VCode                              uint8  // AsyncVCode, for AsyncVendorSpecific
	Parameter1, Parameter2, Parameter3 uint16 // by event: CID, Time2Wait and Time2Retain in seconds
	DataLen                            int    // bytes without padding
}

// Opcode returns OpAsyncMessage.
func (*AsyncMessage) Opcode() Opcode { return OpAsyncMessage }

// Encode writes m to h.
func (m *AsyncMessage) Encode(h *BHS) {
	h.start(OpAsyncMessage, finalFlag)
	h.SetDataSegmentLength(m.DataLen)
	h.SetLUN(m.LUN)
	h.SetInitiatorTaskTag(ReservedTag)
	h.putStatus(m.StatSN, m.ExpCmdSN, m.MaxCmdSN)
	h[36] = byte(m.Event)
	h[37] = m.VCode
	h.put16(38, m.Parameter1)
	h.put16(40, m.Parameter2)
	h.put16(42, m.Parameter3)
}

// Decode reads m from h.
func (m *AsyncMessage) Decode(h *BHS) error {
	if err := h.expect(OpAsyncMessage); err != nil {
		return err
	}
	*m = AsyncMessage{
		LUN:        h.LUN(),
		StatSN:     h.StatSN(),
		ExpCmdSN:   h.ExpCmdSN(),
		MaxCmdSN:   h.MaxCmdSN(),
		Event:      AsyncEvent(h[36]),
		VCode:      h[37],
		Parameter1: h.get16(38),
		Parameter2: h.get16(40),
		Parameter3: h.get16(42),
		DataLen:    h.DataSegmentLength(),
	}
	return nil
}

package pdu

import "fmt"

// ProtocolError is a violation of RFC 7143 by the peer that is answered with a
// Reject PDU (§11.17) or by closing the connection. All non-nil errors of the
// Decode methods and of the AHS functions are *ProtocolError.
type ProtocolError struct {
	Reason RejectReason // what a Reject PDU says
	Err    error        // what happened, for the log; may be nil
}

// Error returns the reason and, when there is one, the underlying error.
func (e *ProtocolError) Error() string {
	if e.Err == nil {
		return "pdu: " + e.Reason.String()
	}
	return fmt.Sprintf("pdu: %s: %v", e.Reason, e.Err)
}

// Unwrap returns Err.
func (e *ProtocolError) Unwrap() error { return e.Err }

func protocolErrorf(r RejectReason, format string, args ...any) *ProtocolError {
	return &ProtocolError{Reason: r, Err: fmt.Errorf(format, args...)}
}

// wrongOpcode is apart from BHS.expect to keep that one small enough to be
// inlined.
func wrongOpcode(got, want Opcode) error {
	return protocolErrorf(RejectProtocolError, "opcode %s where %s is decoded", got, want)
}

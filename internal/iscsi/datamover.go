package iscsi

import (
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// Datamover is the seam between the iSCSI layer and a transport, after the
// operational primitives of RFC 5047 §3. Its methods are called in the
// connection's context only. They queue; Flush (or the end of the batch)
// makes what is queued go out.
type Datamover interface {
	// SendControl queues a control-type PDU (RFC 5047 Send_Control).
	// It borrows h and data; data is at most what the peer accepts.
	SendControl(h *pdu.BHS, data []byte)

	// PutData moves t.DataIn() into the initiator's buffer and ends the task
	// with status GOOD (Put_Data and the SCSI Response, which TCP collapses
	// into the last Data-In PDU). It takes t: the datamover calls
	// t.DataDone when it no longer needs t's data.
	PutData(t *Task)

	// GetData asks the initiator for the solicited part of t's data-out,
	// from t.Received() to t.Expected() (Get_Data), and hands what arrives
	// to t by its Place and Arrived methods.
	GetData(t *Task)

	// Forget drops what the datamover keeps for t, which ends without its
	// data (Deallocate_Task_Resources).
	Forget(t *Task)

	// EnableDatamover switches to the negotiated parameters for everything
	// queued or received from now on (Enable_Datamover).
	EnableDatamover(p *login.Params)

	// Flush sends what is queued as far as the transport takes it, and lets
	// go of all memory of logical units (by copying the rest), so that no
	// range lock is held on behalf of a peer that does not read.
	Flush()
}

// Env is what a connection needs from the node around it. Its methods are
// called in the connection's context and must not block.
type Env interface {
	// Admit asks for the session that res describes. The answer comes, now
	// or later and in the connection's context, as Conn.Admitted or
	// Conn.Refused.
	Admit(res login.Result)
	// LoginFailed tells why there is no session, before the initiator hears.
	LoginFailed(why *login.Refusal)
	// SendTargets lists what a Text request for SendTargets may tell: all
	// targets that the initiator may log in to for "All" (discovery
	// sessions only), or one by its name; "" means the session's own.
	SendTargets(s *Session, which string) []TargetRecord
	// Manage starts a task management function that reaches beyond this
	// session. The answer comes as Conn.Managed.
	Manage(m *Management)
	// Limit starts the time that a function may take: when it is over,
	// Conn.Managed is called with "function rejected".
	Limit(m *Management)
	// Wake makes the owner call Conn.Completed soon. Unlike the others it
	// is called from any goroutine.
	Wake()
	// LoggedOut says that the session or connection ends by a Logout whose
	// response is queued.
	LoggedOut(reason pdu.LogoutReason)
}

// TargetRecord is one target of a SendTargets answer, RFC 7143 §4.3 appendix C.
type TargetRecord struct {
	Name      string
	Addresses []string // "ADDR:PORT,TPGT"
}

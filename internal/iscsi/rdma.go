package iscsi

import (
	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// Pool gives the memory of tasks. A bufpool.Pool is one; a datamover with RDMA
// brings its own, whose memory is registered.
type Pool interface {
	// Get returns an owned buffer of n bytes (1 to bufpool.MaxSize) with
	// undefined content, or nil when there is no memory for it now: the command
	// fails with TASK SET FULL then.
	Get(n int) *bufpool.Buf
}

// RemoteBuffers name the initiator's memory for one task: the steering tags and
// base offsets of the iSER header, RFC 7145 §9.2. A tag of 0 was not given.
type RemoteBuffers struct {
	WriteSTag, ReadSTag uint32
	WriteBase, ReadBase uint64
}

// RDMA is what a Datamover is in addition when it moves data by RDMA.
//
// What a task has by Place may be in the hardware's hands, so such a task
// outlives Conn.Close: the datamover calls Arrived when no byte can land any
// more. The same holds for PutData and DataDone. Both may be called after Close.
type RDMA interface {
	// SendResponse queues the SCSI Response of t, which may take the
	// initiator's access to its memory back (RFC 7145 §7.3.4). It borrows all
	// its arguments; t ends right after.
	SendResponse(t *Task, h *pdu.BHS, data []byte)
	// GetInto is GetData with the data going to the logical unit's own memory, which
	// it has t Land in and returns; nil, and nothing is done, where the unit has none,
	// the device does not reach it, or it is not worth it.
	GetInto(t *Task) []byte
	// CommandWindow is the number of commands in flight that the receives
	// posted stand for, given what was negotiated.
	CommandWindow(p *login.Params) int
}

// ReceiveRemote is Receive with what the iSER header says.
func (c *Conn) ReceiveRemote(h *pdu.BHS, ahs, data []byte, b RemoteBuffers) error {
	c.remote = b
	err := c.Receive(h, ahs, data)
	c.remote = RemoteBuffers{}
	return err
}

// EncodeResponse makes the SCSI Response of a task whose data PutData has moved,
// RFC 7143 §11.4: status GOOD, with the residual.
func (c *Conn) EncodeResponse(h *pdu.BHS, t *Task) {
	p := pdu.SCSIResponse{
		Response:         pdu.ResponseCompleted,
		Status:           uint8(t.Status),
		InitiatorTaskTag: t.InitiatorTaskTag,
		ExpDataSN:        t.DataSN,
	}
	p.Overflow, p.Underflow, p.ResidualCount = t.Residual()
	p.Encode(h)
	c.stamp(h)
}

// land has the data-out of t that is missing, all of which is to be solicited, received
// straight into the memory of its logical unit, behind the immediate data. It reports
// false, and has done nothing, where that can't be.
func (c *Conn) land(t *Task, immediate []byte) bool {
	if c.rdma == nil || t.open || t.buf != nil || t.want != t.OutLen || t.want == len(immediate) {
		return false
	}
	t.got = len(immediate)
	if t.landing = c.rdma.GetInto(t); t.landing == nil {
		t.got = 0
		return false
	}
	copy(t.landing, immediate)
	t.placing, t.state = true, taskSolicited
	c.tasks[t.InitiatorTaskTag] = t
	t.meter.Wait()
	return true
}

// Surrender gives the task's buffer away, in which DataIn is when it is not memory
// of the logical unit. The caller releases it. The task may end at once then.
func (t *Task) Surrender() *bufpool.Buf {
	b := t.buf
	t.buf = nil
	return b
}

// Refuse ends t with TASK SET FULL instead of PutData, when there is no memory to
// send its data from.
func (t *Task) Refuse() {
	t.Release()
	t.In, t.actual = nil, 0
	t.Status = scsi.TaskSetFull
	t.conn.respond(t)
	t.conn.endTask(t)
}

package iscsi

import (
	"encoding/binary"
	"unsafe"

	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// maxImmediateTasks bounds the commands with the I bit, which no window
// bounds: RFC 7143 §4.2.2.1 lets the target reject what is too many.
const maxImmediateTasks = 16

// invalidFieldInCommandIU is INVALID FIELD IN COMMAND INFORMATION UNIT.
const invalidFieldInCommandIU scsi.ASC = 0x0E03

// begun is a command PDU that Begin has opened and Receive has not closed.
type begun struct {
	open bool
	task *Task // nil when the PDU was rejected: its data is dropped
}

// command runs a SCSI Command PDU that is all here, RFC 7143 §11.3.
func (c *Conn) command(h *pdu.BHS, ahs, data []byte) error {
	if t := c.openTask(h, ahs, len(data)); t != nil {
		c.immediateData(t, data)
	}
	return nil
}

// beginCommand opens the task of a command whose immediate data is still on
// its way, so that the data is received into its final place.
func (c *Conn) beginCommand(h *pdu.BHS, ahs []byte) ([]byte, error) {
	if !h.Immediate() {
		if c.session.window.place(h.CmdSN()) != inOrder {
			return nil, nil
		}
		c.session.window.expCmdSN++
	}
	n := h.DataSegmentLength()
	t := c.openTask(h, ahs, n)
	c.begun = begun{open: true, task: t}
	if t == nil || t.failed || !c.needBuf(t, max(t.want, n, t.unsolicitedEnd())) {
		return nil, nil
	}
	t.state = taskImmediate
	return t.Place(0, n), nil
}

// receiveBegun ends what beginCommand began.
func (c *Conn) receiveBegun(data []byte) error {
	t := c.begun.task
	c.begun = begun{}
	if t != nil {
		t.placing = false
		if t.aborted {
			c.endAborted(t)
		} else {
			t.meter.Ready(c.batch)
			c.immediateData(t, data)
		}
	}
	if len(c.session.window.held) == 0 {
		return nil
	}
	return c.runHeld()
}

// openTask makes the task of a command PDU and has its CDB decoded. It returns
// nil when the PDU is rejected; a command that can't run comes back failed.
func (c *Conn) openTask(h *pdu.BHS, ahs []byte, dataLen int) *Task {
	var p pdu.SCSICommand
	if err := p.Decode(h); err != nil {
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	switch {
	case c.session.Discovery:
		c.reject(h, pdu.RejectCommandNotSupported)
		return nil
	case p.InitiatorTaskTag == pdu.ReservedTag, !p.Final && !p.Write, dataLen > 0 && !p.Write:
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	case c.tasks[p.InitiatorTaskTag] != nil:
		c.reject(h, pdu.RejectTaskInProgress)
		return nil
	case p.Immediate && c.immediates >= maxImmediateTasks:
		c.reject(h, pdu.RejectImmediateCommandReject)
		return nil
	}
	t := c.newTask(&p)
	c.decodeCDB(t, &p, ahs)
	c.planDataOut(t, &p, dataLen)
	return t
}

func (c *Conn) newTask(p *pdu.SCSICommand) *Task {
	var t *Task
	if n := len(c.free); n > 0 {
		t = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		t = &Task{conn: c}
		t.Done = t.completed
	}
	c.live++
	t.state = taskOpen
	t.InitiatorTaskTag, t.LUN, t.Remote = p.InitiatorTaskTag, p.LUN, c.remote
	t.immediate, t.read, t.write, t.edtl, t.cmdSN = p.Immediate, p.Read, p.Write, p.ExpectedDataTransferLength, p.CmdSN
	if p.Immediate {
		c.immediates++
	} else {
		c.session.window.active++
	}
	return t
}

// decodeCDB gives the CDB to the logical unit. A command that is failed after
// it is finished, with the status it has.
func (c *Conn) decodeCDB(t *Task, p *pdu.SCSICommand, ahs []byte) {
	t.cdb = p.CDB
	t.CDB = t.cdb[:]
	t.Attr = uint8(p.Attr)
	if p.Write {
		t.Announced = p.ExpectedDataTransferLength
	}
	luns := c.session.LUNs()
	t.Nexus = luns.Lookup(p.LUN)
	if len(ahs) > 0 {
		cdb, err := pdu.ExtendedCDB(t.ext[:0], p.CDB[:], ahs)
		if err != nil {
			t.failed = true
			t.Fail(scsi.IllegalRequest, invalidFieldInCommandIU)
			return
		}
		t.ext, t.CDB = cdb, cdb
	}
	if t.Nexus == nil {
		scsi.ExecNoUnit(&t.Command, uint64(p.LUN), luns.Inventory())
		t.failed = true
		return
	}
	if p.Read && p.Write {
		// No command of a disk is bidirectional.
		t.failed = true
		t.Fail(scsi.IllegalRequest, invalidFieldInCommandIU)
		return
	}
	t.meter.Begin(&t.Command, c.batch)
	if c.tracer != nil {
		t.meter.Measure()
	}
	t.failed = !t.Decode()
}

// planDataOut fixes how much data-out the command takes and what of it comes
// unsolicited, RFC 7143 §4.2.5.2. Data that was not to come fails the command
// with the sense codes of §11.4.7.2. A command that has failed already keeps its
// status until the unsolicited data, which was sent in good faith, is through.
func (c *Conn) planDataOut(t *Task, p *pdu.SCSICommand, dataLen int) {
	if !p.Write {
		return
	}
	limit := min(c.params.FirstBurstLength, t.writeLimit())
	t.unsol = Burst{Next: dataLen, End: limit}
	t.open = !p.Final && dataLen < limit
	if t.failed {
		return
	}
	t.want = min(t.OutLen, t.writeLimit())
	switch {
	case dataLen > 0 && !c.params.ImmediateData, t.open && c.params.InitialR2T:
		t.open = !p.Final
		c.failTask(t, scsi.UnexpectedUnsolicitedData)
	case dataLen > limit:
		c.failTask(t, scsi.NotEnoughUnsolicitedData)
	}
}

func (c *Conn) failTask(t *Task, asc scsi.ASC) {
	t.failed = true
	t.Fail(scsi.AbortedCommand, asc)
}

// immediateData goes on with a task once its PDU's data segment is here.
func (c *Conn) immediateData(t *Task, data []byte) {
	switch {
	case t.failed && t.open:
		t.state = taskDrain
		c.tasks[t.InitiatorTaskTag] = t
	case t.failed:
		c.finish(t)
	case t.open || len(data) < t.want:
		c.awaitData(t, data)
	default:
		t.got = t.want
		c.run(t, data[:t.want])
	}
}

// awaitData keeps a task until the rest of its data-out is here.
func (c *Conn) awaitData(t *Task, data []byte) {
	if c.land(t, data) {
		return
	}
	if !c.needBuf(t, max(t.want, len(data), t.unsolicitedEnd())) {
		c.immediateData(t, data) // failed now: answer, or drain first
		return
	}
	if len(data) > 0 && !sameMemory(data, t.buf.B) {
		copy(t.buf.B, data)
	}
	t.got = min(len(data), t.want)
	c.tasks[t.InitiatorTaskTag] = t
	t.meter.Wait()
	if t.open {
		t.state = taskUnsolicited
		return
	}
	c.solicit(t)
}

// unsolicitedEnd is how far unsolicited Data-Out PDUs may reach, 0 when none
// come.
func (t *Task) unsolicitedEnd() int {
	if t.open {
		return t.unsol.End
	}
	return 0
}

func (c *Conn) solicit(t *Task) {
	if t.got == t.want {
		t.meter.Ready(c.batch)
		c.run(t, t.buf.B[:t.want])
		return
	}
	t.state = taskSolicited
	c.dm.GetData(t)
}

// needBuf gives the task a buffer of n bytes at least. When the pool is spent
// the command fails with TASK SET FULL: the initiator tries again later. What
// pointed into an earlier buffer is void.
func (c *Conn) needBuf(t *Task, n int) bool {
	if t.buf != nil && len(t.buf.B) >= n || n == 0 {
		return true
	}
	old := t.buf
	if t.buf = c.pool.Get(n); t.buf == nil {
		t.buf = old
		t.failed = true
		t.Status = scsi.TaskSetFull
		return false
	}
	if old != nil {
		copy(t.buf.B, old.B)
		old.Release()
	}
	return true
}

// run executes a command whose data-out is complete: here and now when the
// unit can do it without waiting, else on the unit's workers.
func (c *Conn) run(t *Task, out []byte) {
	delete(c.tasks, t.InitiatorTaskTag)
	t.Out = out
	if t.NeedBuf > 0 {
		if !c.needBuf(t, t.NeedBuf) {
			c.finish(t)
			return
		}
		t.Buf = t.buf.B
	}
	if t.TryExec() {
		c.finish(t)
		return
	}
	if t.Contended {
		// The range may be locked by our own answers that are still queued.
		c.dm.Flush()
		if t.TryExec() {
			c.finish(t)
			return
		}
	}
	if len(out) > 0 && t.buf == nil {
		// The data is in the transport's receive buffer, which is used
		// again when this batch is over.
		if !c.needBuf(t, len(out)) {
			c.finish(t)
			return
		}
		t.Out = t.buf.B[:copy(t.buf.B, out)]
	}
	t.state = taskRunning
	c.tasks[t.InitiatorTaskTag] = t
	t.meter.Wait()
	t.Submit()
}

// completed is called by a worker of the unit.
func (t *Task) completed(*scsi.Command) {
	d := &t.conn.done
	d.Lock()
	if d.closed {
		d.Unlock()
		t.dropRun()
		return
	}
	d.tasks = append(d.tasks, t)
	first := len(d.tasks) == 1
	d.Unlock()
	if first {
		t.conn.env.Wake()
	}
}

// Completed answers the commands that workers have finished.
func (c *Conn) Completed() {
	c.done.Lock()
	tasks := c.done.tasks
	c.done.tasks = c.done.spare[:0]
	c.done.spare = nil
	c.done.Unlock()
	for i, t := range tasks {
		tasks[i] = nil
		delete(c.tasks, t.InitiatorTaskTag)
		if t.aborted {
			c.endAborted(t)
		} else {
			c.finish(t)
		}
	}
	c.done.Lock()
	c.done.spare = tasks[:0]
	c.done.Unlock()
}

// finish answers a task: by its data with the status in the last PDU, or by a
// SCSI Response.
func (c *Conn) finish(t *Task) {
	c.retire(t)
	t.actual = len(t.In)
	c.measure(t)
	if t.Status == scsi.Good && len(t.DataIn()) > 0 {
		t.state = taskSending
		c.dm.PutData(t)
		return
	}
	if t.Cleared {
		// What another I_T nexus has aborted ends in silence, SAM-6 5.14.
		t.Nexus.Attention(scsi.AttentionCommandsCleared)
	} else {
		c.respond(t)
	}
	c.endTask(t)
}

// retire gives the command's place in the window back. It comes before the
// response is made, so that the response itself tells the initiator.
func (c *Conn) retire(t *Task) {
	switch {
	case t.retired:
	case t.immediate:
		c.immediates--
	default:
		c.session.window.active--
	}
	t.retired = true
}

// respond sends the SCSI Response of RFC 7143 §11.4.
func (c *Conn) respond(t *Task) {
	p := pdu.SCSIResponse{
		Response:         pdu.ResponseCompleted,
		Status:           uint8(t.Status),
		InitiatorTaskTag: t.InitiatorTaskTag,
		ExpDataSN:        t.DataSN,
	}
	p.Overflow, p.Underflow, p.ResidualCount = t.Residual()
	var data []byte
	if t.Status == scsi.CheckCondition && len(t.Sense) > 0 {
		// §11.4.7: two bytes of length stand before the sense data.
		binary.BigEndian.PutUint16(c.sense[:], uint16(len(t.Sense)))
		data = c.sense[:2+copy(c.sense[2:], t.Sense)]
	}
	p.DataLen = len(data)
	h := &c.header
	p.Encode(h)
	c.stamp(h)
	if c.rdma != nil {
		c.rdma.SendResponse(t, h, data)
		return
	}
	c.dm.SendControl(h, data)
}

// endTask gives back all that a task holds.
func (c *Conn) endTask(t *Task) {
	if t.state == taskFree {
		return
	}
	if c.state != closed {
		delete(c.tasks, t.InitiatorTaskTag)
		c.retire(t)
		if c.tracer != nil && t.meter.Running() {
			c.trace(t, 0, true)
		}
	}
	c.live--
	t.drop()
	if c.state == closed {
		return
	}
	t.reset()
	c.free = append(c.free, t)
}

func sameMemory(a, b []byte) bool { return unsafe.SliceData(a) == unsafe.SliceData(b) }

package iscsi

import (
	"slices"

	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// beginUnsolicited finds the place of an unsolicited Data-Out PDU that is
// still being received.
func (c *Conn) beginUnsolicited(h *pdu.BHS) ([]byte, error) {
	var d pdu.DataOut
	if d.Decode(h) != nil || d.TargetTransferTag != pdu.ReservedTag {
		return nil, nil
	}
	t := c.tasks[d.InitiatorTaskTag]
	if t == nil || t.state != taskUnsolicited {
		return nil, nil
	}
	b := t.unsol
	if !b.Accept(&d, true) {
		return nil, nil
	}
	return t.Place(int(d.BufferOffset), d.DataLen), nil
}

// receiveUnsolicited takes a Data-Out PDU that answers no R2T, RFC 7143 §11.7.
func (c *Conn) receiveUnsolicited(h *pdu.BHS, data []byte) error {
	var d pdu.DataOut
	if err := d.Decode(h); err != nil {
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	t := c.tasks[d.InitiatorTaskTag]
	switch {
	case t == nil && c.late.has(d.InitiatorTaskTag):
		return nil // data of a task that task management has ended
	case t == nil, d.TargetTransferTag != pdu.ReservedTag:
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	if c.rdma != nil && t.state == taskSolicited {
		// An RDMA Read may be writing to the task's memory: nothing that
		// comes beside it may let go of that.
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	t.placing = false
	switch {
	case t.aborted && t.state != taskRunning:
		c.late.add(d.InitiatorTaskTag)
		c.endAborted(t)
	case t.state == taskDrain:
		if d.Final {
			c.finish(t)
		}
	case t.state != taskUnsolicited:
		c.reject(h, pdu.RejectInvalidPDUField)
	case !t.unsol.Accept(&d, true):
		// Out of order, or more than was announced: the command fails with
		// the sense code of §11.4.7.2 once the initiator has sent all.
		c.failTask(t, scsi.NotEnoughUnsolicitedData)
		t.state = taskDrain
		if d.Final {
			c.finish(t)
		}
	default:
		c.unsolicited(t, &d, data)
	}
	return nil
}

func (c *Conn) unsolicited(t *Task, d *pdu.DataOut, data []byte) {
	t.Fill(int(d.BufferOffset), data)
	t.got = min(t.unsol.Next, t.want)
	if d.Final || t.unsol.Next == t.unsol.End {
		t.open = false
		c.solicit(t)
	}
}

// StrayDataOut decides on a solicited Data-Out PDU that the datamover can't
// place: data of an ended task is dropped, data that breaks the sequence of a
// living one fails that task, and the rest is rejected.
func (c *Conn) StrayDataOut(h *pdu.BHS, d *pdu.DataOut) error {
	t := c.tasks[d.InitiatorTaskTag]
	switch {
	case t != nil && t.aborted && t.state != taskRunning:
		t.placing = false
		c.late.add(d.InitiatorTaskTag)
		c.endAborted(t)
	case t != nil && t.state == taskSolicited:
		c.dm.Forget(t)
		c.late.add(d.InitiatorTaskTag)
		t.placing = false
		delete(c.tasks, t.InitiatorTaskTag)
		c.failTask(t, scsi.NotEnoughUnsolicitedData)
		c.finish(t)
	case !c.late.has(d.InitiatorTaskTag):
		c.reject(h, pdu.RejectInvalidPDUField)
	}
	return nil
}

// lateTags remembers the latest tasks that ended while data of theirs could
// still be on its way, so that such data is dropped and not taken for an error.
type lateTags struct {
	tags [64]uint32
	n    int
}

func (l *lateTags) add(itt uint32) {
	l.tags[l.n%len(l.tags)] = itt
	l.n++
}

func (l *lateTags) has(itt uint32) bool {
	return slices.Contains(l.tags[:min(l.n, len(l.tags))], itt)
}

package iscsi

import (
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// Management is a task management function under way, RFC 7143 §11.5.
type Management struct {
	Function pdu.TMFunction
	LUN      pdu.LUN
	Nexus    *scsi.Nexus // of LUN; nil for the functions that address the target

	conn        *Conn
	itt         uint32
	answered    bool
	information [3]byte // Additional Response Information, RFC 7144
}

func (c *Conn) taskManagement(h *pdu.BHS) error {
	var p pdu.TaskManagementRequest
	if err := p.Decode(h); err != nil || p.InitiatorTaskTag == pdu.ReservedTag {
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	if c.session.Discovery {
		c.reject(h, pdu.RejectCommandNotSupported)
		return nil
	}
	m := &Management{Function: p.Function, LUN: p.LUN, conn: c, itt: p.InitiatorTaskTag}
	m.Nexus = c.session.LUNs().Lookup(p.LUN)
	switch p.Function {
	case pdu.AbortTask:
		return c.abortTask(m, &p)
	case pdu.AbortTaskSet, pdu.ClearTaskSet, pdu.LogicalUnitReset:
		if m.Nexus == nil {
			c.Managed(m, pdu.LUNDoesNotExist)
			return nil
		}
		c.manageUnit(m)
	case pdu.TargetWarmReset, pdu.TargetColdReset:
		m.Nexus = nil
		c.env.Manage(m)
	case pdu.TaskReassign:
		c.Managed(m, pdu.TaskReassignmentNotSupported)
	case pdu.QueryTask, pdu.QueryTaskSet, pdu.ITNexusReset, pdu.QueryAsyncEvent:
		c.manageBy7144(m, &p)
	default:
		c.Managed(m, pdu.FunctionNotSupported)
	}
	return nil
}

func (c *Conn) manageUnit(m *Management) {
	if m.Function != pdu.AbortTaskSet {
		c.env.Manage(m)
		return
	}
	// Only tasks of this I_T nexus are meant, and all of them are here.
	c.Abort(m.Nexus, ByNexus, func(int) { c.Managed(m, pdu.FunctionComplete) })
	c.limit(m)
}

// limit bounds the time of a function that could not be answered at once.
func (c *Conn) limit(m *Management) {
	if !m.answered {
		c.env.Limit(m)
	}
}

// abortTask ends one task by its tag, RFC 7143 §11.5.1 and §11.5.5.
func (c *Conn) abortTask(m *Management, p *pdu.TaskManagementRequest) error {
	w := &c.session.window
	t := c.tasks[p.ReferencedTaskTag]
	if t == nil {
		t = c.begunTask(p.ReferencedTaskTag)
	}
	if t != nil && !t.immediate && p.RefCmdSN != t.cmdSN {
		// The tag is that of another task than the initiator thinks.
		c.Managed(m, pdu.FunctionRejected)
		return nil
	}
	if t != nil {
		d := &drain{left: 1, done: func() { c.Managed(m, pdu.FunctionComplete) }}
		t.told = false
		c.abort(t, d)
		d.one()
		c.limit(m)
		return nil
	}
	if w.drop(p.ReferencedTaskTag) {
		c.Managed(m, pdu.FunctionComplete)
		return nil
	}
	// §11.6.1: a CmdSN inside the window and before that of the request counts
	// as received from now on; else the task is not there (any more).
	place := w.place(p.RefCmdSN)
	if place == outside || !pdu.SNLess(p.RefCmdSN, p.CmdSN) {
		c.Managed(m, pdu.TaskDoesNotExist)
		return nil
	}
	if place == inOrder {
		w.expCmdSN++
	} else {
		w.hold(heldPDU{cmdSN: p.RefCmdSN, skip: true})
	}
	c.Managed(m, pdu.FunctionComplete)
	return c.runHeld() // commands may have waited for this one
}

func (c *Conn) begunTask(itt uint32) *Task {
	if t := c.begun.task; t != nil && t.InitiatorTaskTag == itt {
		return t
	}
	return nil
}

// Managed answers a task management function, once; a second answer (its end
// after its time limit) is dropped.
func (c *Conn) Managed(m *Management, r pdu.TMResponse) {
	if m.answered || c.state != fullFeature {
		return
	}
	m.answered = true
	p := pdu.TaskManagementResponse{Response: r, InitiatorTaskTag: m.itt, Information: m.information}
	var h pdu.BHS
	p.Encode(&h)
	c.stamp(&h)
	c.dm.SendControl(&h, nil)
}

// Conn is the connection that asked.
func (m *Management) Conn() *Conn { return m.conn }

// Aborter tells whose action aborts tasks.
type Aborter uint8

// The aborters.
const (
	// ByNexus: the I_T nexus of the tasks itself, which awaits no response.
	ByNexus Aborter = iota
	// ByOther: another I_T nexus. Where the logical unit's TAS bit says so (SPC-5
	// 7.5.10), the tasks end with the status TASK ABORTED.
	ByOther
)

// Abort ends all tasks on a nexus, or on all of them for nil, without a response
// unless by says otherwise. It calls done (in the connection's context, now or
// later) with how many there were, when no write of theirs can land any more.
func (c *Conn) Abort(n *scsi.Nexus, by Aborter, done func(ended int)) {
	ended := 0
	d := &drain{left: 1, done: func() { done(ended) }}
	end := func(t *Task) {
		if n == nil || t.Nexus == n {
			ended++
			if by == ByOther {
				t.told = t.told || !t.aborted && t.Nexus != nil && t.Nexus.Port().ReportsAborts()
			} else {
				t.told = false
			}
			c.abort(t, d)
		}
	}
	for _, t := range c.tasks {
		end(t)
	}
	if c.begun.task != nil {
		end(c.begun.task)
	}
	if c.session != nil && by == ByNexus {
		// What is held for its turn has not come to the logical unit yet: another
		// nexus does not reach it.
		luns := c.session.LUNs()
		ended += c.session.window.skip(func(h *pdu.BHS) bool { return n == nil || luns.Lookup(h.LUN()) == n })
	}
	d.one()
}

// abort ends one task without a response. What is in the hands of a worker or
// of the transport ends when these let go of it, and d waits for that.
func (c *Conn) abort(t *Task, d *drain) {
	if t.aborted {
		// Another function has ended it already and waits as well: until the
		// task is gone, no function may be answered "complete".
		t.wait = append(t.wait, d)
		d.left++
		return
	}
	switch t.state {
	case taskRunning:
		if t.Abort() { // it had not started
			c.endTold(t)
			return
		}
	case taskSolicited:
		c.dm.Forget(t)
		c.late.add(t.InitiatorTaskTag)
	default:
		c.late.add(t.InitiatorTaskTag)
	}
	if t.state != taskRunning && !t.placing && t != c.begun.task {
		c.endTold(t)
		return
	}
	t.aborted = true
	t.wait = append(t.wait, d)
	d.left++
}

func (c *Conn) endAborted(t *Task) {
	wait := t.wait
	t.wait = nil
	c.endTold(t)
	for _, d := range wait {
		d.one()
	}
}

// endTold ends an aborted task, with the status TASK ABORTED if its initiator is
// to be told.
func (c *Conn) endTold(t *Task) {
	if t.told && c.state == fullFeature {
		t.told = false
		t.Status, t.Sense = scsi.TaskAborted, nil
		c.retire(t)
		c.respond(t)
	}
	c.endTask(t)
}

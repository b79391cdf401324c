package iscsi

import (
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// protocolLevel7144 is the iSCSIProtocolLevel that the functions of RFC 7144
// need to have been negotiated (RFC 7143 §13.24).
const protocolLevel7144 = 2

// manageBy7144 performs the task management functions of RFC 7144.
func (c *Conn) manageBy7144(m *Management, p *pdu.TaskManagementRequest) {
	switch {
	case c.params.ISCSIProtocolLevel < protocolLevel7144:
		c.Managed(m, pdu.FunctionNotSupported)
	case p.Function == pdu.ITNexusReset:
		c.resetNexus(m)
	case m.Nexus == nil:
		c.Managed(m, pdu.LUNDoesNotExist)
	case p.Function == pdu.QueryAsyncEvent:
		c.queryAsyncEvent(m)
	default:
		c.Managed(m, c.queryTasks(m.Nexus, p))
	}
}

// queryTasks tells whether the task that p names is in the task set, or, for
// QUERY TASK SET, any of this I_T nexus. A task whose status is on its way is not;
// a command that is held for one before it is, because it will run.
func (c *Conn) queryTasks(n *scsi.Nexus, p *pdu.TaskManagementRequest) pdu.TMResponse {
	there := func(t *Task) bool {
		return t != nil && t.Nexus == n && !t.aborted &&
			(p.Function == pdu.QueryTaskSet || t.InitiatorTaskTag == p.ReferencedTaskTag)
	}
	if there(c.begun.task) {
		return pdu.FunctionSucceeded
	}
	for _, t := range c.tasks {
		if there(t) {
			return pdu.FunctionSucceeded
		}
	}
	luns := c.session.LUNs()
	held := c.session.window.holds(func(h *pdu.BHS) bool {
		return luns.Lookup(h.LUN()) == n && (p.Function == pdu.QueryTaskSet || h.InitiatorTaskTag() == p.ReferencedTaskTag)
	})
	if held {
		return pdu.FunctionSucceeded
	}
	return pdu.FunctionComplete
}

// queryAsyncEvent tells whether a unit attention condition waits for the nexus,
// and which is first. It stays.
func (c *Conn) queryAsyncEvent(m *Management) {
	a, more := m.Nexus.Attentions()
	if more == 0 {
		c.Managed(m, pdu.FunctionComplete)
		return
	}
	// The additional response information of SAM-5: UADE DEPTH (one, or more),
	// SENSE KEY, and the additional sense code.
	depth := byte(0x10)
	if more > 1 {
		depth = 0x20
	}
	asc := a.ASC()
	m.information = [3]byte{depth | byte(scsi.UnitAttention), byte(asc >> 8), byte(asc)}
	c.Managed(m, pdu.FunctionSucceeded)
}

// resetNexus is I_T NEXUS RESET: all tasks of the session end, and for every
// logical unit what an I_T nexus loss does. The session itself goes on.
func (c *Conn) resetNexus(m *Management) {
	m.Nexus = nil
	c.Abort(nil, ByNexus, func(int) {
		if m.answered {
			return // its time was over
		}
		if luns := c.session.LUNs(); luns != nil {
			for _, n := range *luns {
				if n != nil {
					n.Loss()
				}
			}
		}
		c.Managed(m, pdu.FunctionComplete)
	})
	c.limit(m)
}

package rawsuite

import (
	"fmt"
	"slices"
	"testing"

	"github.com/iserd/iserd/pdu"
)

// testTaskManagement checks the functions' answers and what becomes of the
// tasks, §11.5, §11.6.
func (s *suite) testTaskManagement(t *testing.T) {
	s.sub(t, "unknown task", func(t *testing.T) {
		x := s.login(t, nil)
		m := x.taskManagement(pdu.AbortTask, 4711)
		m.RefCmdSN = x.cmdSN - 100 // outside the window
		oneOf(t, x.response(t, m), pdu.TaskDoesNotExist)
	})
	s.sub(t, "unknown LUN", func(t *testing.T) {
		x := s.login(t, nil)
		m := x.taskManagement(pdu.LogicalUnitReset, pdu.ReservedTag)
		m.LUN = pdu.LUNOf(0x3fff)
		oneOf(t, x.response(t, m), pdu.LUNDoesNotExist, pdu.FunctionRejected)
	})
	for _, fn := range []pdu.TMFunction{0, 13, 0x7f} {
		s.sub(t, fmt.Sprintf("unknown function %d", fn), func(t *testing.T) {
			x := s.login(t, nil)
			oneOf(t, x.response(t, x.taskManagement(fn, pdu.ReservedTag)), pdu.FunctionNotSupported, pdu.FunctionRejected)
			x.works(t)
		})
	}
	s.sub(t, "TASK REASSIGN", func(t *testing.T) {
		x := s.login(t, nil)
		got := x.response(t, x.taskManagement(pdu.TaskReassign, 4711))
		oneOf(t, got, pdu.TaskReassignmentNotSupported, pdu.FunctionNotSupported, pdu.TaskDoesNotExist, pdu.FunctionRejected)
	})
	for _, fn := range []pdu.TMFunction{pdu.AbortTask, pdu.AbortTaskSet, pdu.LogicalUnitReset} {
		s.sub(t, fn.String()+" of a waiting write", func(t *testing.T) {
			s.tcpOnly(t, "no write waits for its initiator there; TestISERAbort aborts those whose RDMA Reads are under way")
			s.abortWaiting(t, fn)
		})
	}
}

// abortWaiting ends a write that waits for its data.
func (s *suite) abortWaiting(t *testing.T, fn pdu.TMFunction) {
	const n = 4096
	old := pattern("tmf", fn.String(), n)
	if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
		t.Fatal(err)
	}
	x := s.solicited(t)
	c, r := x.askedFor(n)
	ref := c.InitiatorTaskTag
	if fn != pdu.AbortTask {
		ref = pdu.ReservedTag
	}
	oneOf(t, x.response(t, x.taskManagement(fn, ref)), pdu.FunctionComplete)
	// Its data, sent before the answer was seen, must go nowhere, and
	// no status must come for it.
	x.send(&pdu.DataOut{
		Final: true, LUN: c.LUN, InitiatorTaskTag: c.InitiatorTaskTag, TargetTransferTag: r.TargetTransferTag, DataLen: n,
	}, pattern("tmf", "late", n))
	for _, p := range x.outcome().pdus {
		if p.BHS.InitiatorTaskTag() == c.InitiatorTaskTag && p.BHS.Opcode() == pdu.OpSCSIResponse {
			t.Errorf("status %#x for an aborted task", status(p))
		}
	}
	s.clearUnitAttention(t)
	s.mustHold(t, scratchLBA, old)
}

// taskManagement returns an immediate request.
func (x *raw) taskManagement(fn pdu.TMFunction, ref uint32) *pdu.TaskManagementRequest {
	x.tag++
	return &pdu.TaskManagementRequest{
		Immediate: true, Function: fn, LUN: x.s.lun(), InitiatorTaskTag: x.tag, ReferencedTaskTag: ref,
		CmdSN: x.cmdSN, RefCmdSN: x.cmdSN - 1, ExpStatSN: x.expStatSN,
	}
}

// response sends m and returns its response; a Reject counts as one.
func (x *raw) response(t *testing.T, m *pdu.TaskManagementRequest) pdu.TMResponse {
	t.Helper()
	x.send(m, nil)
	for {
		p := x.mustRead()
		var r pdu.TaskManagementResponse
		if r.Decode(&p.BHS) == nil && r.InitiatorTaskTag == m.InitiatorTaskTag {
			return r.Response
		}
		if p.BHS.Opcode() == pdu.OpReject {
			return pdu.FunctionRejected
		}
	}
}

func oneOf(t *testing.T, got pdu.TMResponse, allowed ...pdu.TMResponse) {
	t.Helper()
	if !slices.Contains(allowed, got) {
		t.Errorf("response %v, want one of %v", got, allowed)
	}
}

// clearUnitAttention takes what a reset told the bystander.
func (s *suite) clearUnitAttention(t *testing.T) {
	t.Helper()
	for range 4 {
		r, err := s.bystander.Exec(s.ctx(t), s.lun(), make([]byte, 6), nil, 0)
		if err != nil {
			t.Fatal("bystander:", err)
		}
		if r.Status == 0 {
			return
		}
	}
}

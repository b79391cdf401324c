package initiator

import (
	"fmt"

	"github.com/iserd/iserd/pdu"
)

// read is the session's reader goroutine.
func (s *Session) read() {
	defer close(s.done)
	defer func() {
		if v := recover(); v != nil { // our bug must not take the caller's process along
			s.fail(fmt.Errorf("initiator: panic in reader: %v", v))
		}
	}()
	for {
		p, err := s.c.ReadPDU()
		if err != nil {
			s.fail(fmt.Errorf("initiator: session lost: %w", err))
			return
		}
		if err := s.dispatch(p); err != nil {
			s.fail(err)
			return
		}
	}
}

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// dispatch takes p to the task it belongs to.
func (s *Session) dispatch(p *PDU) error {
	switch op := p.BHS.Opcode(); op {
	case pdu.OpDataIn:
		return s.dataIn(p)
	case pdu.OpSCSIResponse:
		return s.scsiResponse(p)
	case pdu.OpR2T:
		return s.r2t(p)
	case pdu.OpNOPIn:
		return s.nopIn(p)
	case pdu.OpTaskManagementResponse, pdu.OpTextResponse, pdu.OpLogoutResponse:
		return s.reply(p)
	case pdu.OpAsyncMessage:
		return s.async(p)
	case pdu.OpReject:
		return s.reject(p)
	default:
		return violation("unexpected %v", op)
	}
}

// numbers takes over ExpCmdSN and MaxCmdSN (§4.2.2.1) and, when the PDU
// carries status, StatSN (§4.2.2.2). mu is held.
func (s *Session) numbers(h *pdu.BHS, hasStatus bool) error {
	expCmdSN, maxCmdSN := h.ExpCmdSN(), h.MaxCmdSN()
	// "If the PDU MaxCmdSN is less than the PDU ExpCmdSN-1 ... they are both
	// ignored."
	if !pdu.SNLess(maxCmdSN, expCmdSN-1) {
		if pdu.SNLess(s.expCmdSN, expCmdSN) {
			s.expCmdSN = expCmdSN
		}
		if pdu.SNLess(s.maxCmdSN, maxCmdSN) {
			s.maxCmdSN = maxCmdSN
			if s.err == nil {
				close(s.window)
				s.window = make(chan struct{})
			}
		}
	}
	if !hasStatus {
		return nil
	}
	if sn := h.StatSN(); sn != s.expStatSN {
		return violation("%v has StatSN %d, expected %d", h.Opcode(), sn, s.expStatSN)
	}
	s.expStatSN++
	return nil
}

// reply hands the answer to a request other than a SCSI command to its task.
func (s *Session) reply(p *PDU) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.numbers(&p.BHS, true); err != nil {
		return err
	}
	t, err := s.taskOf(&p.BHS)
	if err != nil {
		return err
	}
	if t.scsi {
		return violation("%v answers a SCSI command", p.BHS.Opcode())
	}
	delete(s.tasks, t.tag)
	t.reply = p
	t.finish(nil)
	return nil
}

// taskOf returns the task that h's InitiatorTaskTag names (mu held).
func (s *Session) taskOf(h *pdu.BHS) (*Task, error) {
	t := s.tasks[h.InitiatorTaskTag()]
	if t == nil {
		return nil, violation("%v for unknown InitiatorTaskTag %#x", h.Opcode(), h.InitiatorTaskTag())
	}
	return t, nil
}

// scsiTask returns the SCSI task that h names (mu held).
func (s *Session) scsiTask(h *pdu.BHS) (*Task, error) {
	t, err := s.taskOf(h)
	if err != nil {
		return nil, err
	}
	if !t.scsi {
		return nil, violation("%v for a request that is not a SCSI command", h.Opcode())
	}
	return t, nil
}

func (s *Session) dataIn(p *PDU) error {
	var in pdu.DataIn
	if err := in.Decode(&p.BHS); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.numbers(&p.BHS, in.HasStatus); err != nil {
		return err
	}
	t, err := s.scsiTask(&p.BHS)
	if err != nil {
		return err
	}
	if err := t.takeDataIn(&in, p.Data); err != nil {
		return err
	}
	if !in.HasStatus {
		return nil
	}
	t.res.Status = in.Status
	t.res.Overflow, t.res.Underflow, t.res.Residual = in.Overflow, in.Underflow, in.ResidualCount
	delete(s.tasks, t.tag)
	t.finish(nil)
	return nil
}

func (s *Session) scsiResponse(p *PDU) error {
	var r pdu.SCSIResponse
	if err := r.Decode(&p.BHS); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.numbers(&p.BHS, true); err != nil {
		return err
	}
	t, err := s.scsiTask(&p.BHS)
	if err != nil {
		return err
	}
	if err := t.takeResponse(&r, p.Data); err != nil {
		return err
	}
	delete(s.tasks, t.tag)
	t.finish(nil)
	return nil
}

func (s *Session) r2t(p *PDU) error {
	var r pdu.R2T
	if err := r.Decode(&p.BHS); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.numbers(&p.BHS, false); err != nil {
		return err
	}
	t, err := s.scsiTask(&p.BHS)
	if err != nil {
		return err
	}
	return t.takeR2T(r)
}

// nopIn answers a ping, or takes the echo of our own.
func (s *Session) nopIn(p *PDU) error {
	if p.BHS.InitiatorTaskTag() != pdu.ReservedTag {
		return s.reply(p)
	}
	s.mu.Lock()
	if err := s.numbers(&p.BHS, false); err != nil {
		s.mu.Unlock()
		return err
	}
	if p.BHS.TargetTransferTag() == pdu.ReservedTag { // no answer wanted
		s.mu.Unlock()
		return nil
	}
	if len(s.pings) >= maxPings {
		s.mu.Unlock()
		return violation("%d NOP-In at once", maxPings)
	}
	s.pings = append(s.pings, ping{lun: p.BHS.LUN(), ttt: p.BHS.TargetTransferTag(), data: p.Data})
	free := s.wmu.TryLock()
	s.mu.Unlock()
	if free { // else its holder answers
		s.unlockWrite()
	}
	return nil
}

// maxPings bounds what a target can make us hold.
const maxPings = 1024

func (s *Session) async(p *PDU) error {
	var m pdu.AsyncMessage
	if err := m.Decode(&p.BHS); err != nil {
		return err
	}
	s.mu.Lock()
	err := s.numbers(&p.BHS, true)
	s.mu.Unlock()
	if err == nil && s.o.Async != nil {
		s.o.Async(m, p.Data)
	}
	return err
}

// reject fails the task whose PDU was rejected; a reject that belongs to no
// task is told to Options.Reject.
func (s *Session) reject(p *PDU) error {
	var r pdu.Reject
	if err := r.Decode(&p.BHS); err != nil {
		return err
	}
	if len(p.Data) < pdu.BHSLen {
		return violation("Reject without the rejected header")
	}
	e := &RejectError{Reason: r.Reason, Header: pdu.BHS(p.Data[:pdu.BHSLen])}
	s.mu.Lock()
	if err := s.numbers(&p.BHS, true); err != nil {
		s.mu.Unlock()
		return err
	}
	tag := e.Header.InitiatorTaskTag()
	t := s.tasks[tag]
	// §11.17.1: a rejected Data-Out does not end its task; the target sends
	// status for it.
	if t != nil && e.Header.Opcode() != pdu.OpDataOut {
		delete(s.tasks, tag)
		t.finish(e)
	}
	s.mu.Unlock()
	if s.o.Reject != nil {
		s.o.Reject(e)
	}
	return nil
}

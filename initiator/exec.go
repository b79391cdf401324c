package initiator

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/iserd/iserd/pdu"
)

// Start sends a SCSI command and returns its task. Its R2Ts are answered by
// [Task.Wait].
func (s *Session) Start(ctx context.Context, cmd Command) (*Task, error) {
	if len(cmd.CDB) == 0 || len(cmd.CDB) > 260 {
		return nil, fmt.Errorf("initiator: CDB of %d bytes", len(cmd.CDB))
	}
	if len(cmd.DataOut) > math.MaxUint32 || cmd.DataInLen > math.MaxUint32 || cmd.DataInLen < 0 {
		return nil, errors.New("initiator: data does not fit ExpectedDataTransferLength")
	}
	t := newTask(s)
	t.scsi, t.cmd = true, cmd
	immediate, unsolicited := s.splitWrite(len(cmd.DataOut))
	r := request{
		immediate: cmd.Immediate,
		ahs:       commandAHS(&cmd),
		data:      cmd.DataOut[:immediate],
	}
	r.encode = func(h *pdu.BHS, tag, cmdSN, expStatSN uint32) {
		t.sn = cmdSN
		c := pdu.SCSICommand{
			Immediate: cmd.Immediate, Final: unsolicited == 0,
			Read: cmd.DataInLen > 0, Write: len(cmd.DataOut) > 0, Attr: cmd.Attr,
			LUN: cmd.LUN, InitiatorTaskTag: tag, CmdSN: cmdSN, ExpStatSN: expStatSN,
			ExpectedDataTransferLength: uint32(cmd.DataInLen),
			AHSLen:                     len(r.ahs), DataLen: immediate,
		}
		if c.Write {
			c.ExpectedDataTransferLength = uint32(len(cmd.DataOut))
		}
		copy(c.CDB[:], cmd.CDB)
		c.Encode(h)
	}
	if unsolicited > 0 {
		r.after = func(dst []byte, tag, expStatSN uint32) []byte {
			q := dataSequence{lun: cmd.LUN, tag: tag, ttt: pdu.ReservedTag, offset: uint32(immediate), expStatSN: expStatSN}
			return s.appendDataOut(dst, q, cmd.DataOut[immediate:immediate+unsolicited])
		}
	}
	if err := s.start(ctx, t, r); err != nil {
		return nil, err
	}
	return t, nil
}

// splitWrite returns how many bytes of a write of n go as immediate data and
// how many as unsolicited Data-Out behind it, §13.10, §13.11, §13.14.
func (s *Session) splitWrite(n int) (immediate, unsolicited int) {
	p := &s.r.Params
	first := min(n, p.FirstBurstLength)
	if p.ImmediateData {
		immediate = min(first, p.MaxRecvDataSegmentLength)
	}
	if !p.InitialR2T {
		unsolicited = first - immediate
	}
	return immediate, unsolicited
}

// commandAHS returns the additional header segments cmd needs: the rest of a
// long CDB (§11.2.2.3) and the read length of a bidirectional command
// (§11.2.2.4).
func commandAHS(cmd *Command) []byte {
	var ahs []byte
	if len(cmd.CDB) > 16 {
		ahs, _ = pdu.AppendExtendedCDB(ahs, cmd.CDB) // Start has checked the length
	}
	if cmd.DataInLen > 0 && len(cmd.DataOut) > 0 {
		ahs = pdu.AppendBidiReadLength(ahs, uint32(cmd.DataInLen))
	}
	return ahs
}

// Do sends cmd and waits for its end. A SCSI status other than GOOD is not an
// error here; see [Result.Err].
func (s *Session) Do(ctx context.Context, cmd Command) (*Result, error) {
	t, err := s.Start(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return t.Wait(ctx)
}

// Exec sends a CDB with a payload (borrowed) or an expected length of data to
// come, both in bytes, and waits for its end, as Do does.
func (s *Session) Exec(ctx context.Context, lun pdu.LUN, cdb, dataOut []byte, dataInLen int) (*Result, error) {
	return s.Do(ctx, Command{LUN: lun, CDB: cdb, DataOut: dataOut, DataInLen: dataInLen, Attr: pdu.AttrSimple})
}

// call sends a request other than a SCSI command and returns its answer.
func (s *Session) call(ctx context.Context, r request) (*PDU, error) {
	t := newTask(s)
	if err := s.start(ctx, t, r); err != nil {
		return nil, err
	}
	select {
	case <-t.done:
		return t.reply, t.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// TaskManagement sends a task management function as an immediate request,
// §11.5. ref names the task for ABORT TASK and QUERY TASK; it may be nil for
// the others. Tasks of this session that the function ended come to ErrAborted.
func (s *Session) TaskManagement(ctx context.Context, fn pdu.TMFunction, lun pdu.LUN, ref *Task) (pdu.TMResponse, error) {
	m := pdu.TaskManagementRequest{Immediate: true, Function: fn, LUN: lun, ReferencedTaskTag: pdu.ReservedTag}
	if ref != nil {
		m.ReferencedTaskTag = ref.tag
	}
	p, err := s.call(ctx, request{immediate: true, encode: func(h *pdu.BHS, tag, cmdSN, expStatSN uint32) {
		m.InitiatorTaskTag, m.CmdSN, m.ExpStatSN = tag, cmdSN, expStatSN
		m.RefCmdSN = cmdSN // §11.5.5
		if ref != nil && ref.scsi && !ref.cmd.Immediate {
			m.RefCmdSN = ref.sn
		}
		m.Encode(h)
	}})
	if err != nil {
		return 0, err
	}
	var r pdu.TaskManagementResponse
	if err := r.Decode(&p.BHS); err != nil {
		return 0, err
	}
	if r.Response == pdu.FunctionComplete {
		s.aborted(fn, lun, ref)
	}
	return r.Response, nil
}

// aborted ends the tasks that a completed function has ended at the target.
func (s *Session) aborted(fn pdu.TMFunction, lun pdu.LUN, ref *Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tag, t := range s.tasks {
		var hit bool
		switch fn {
		case pdu.AbortTask:
			hit = t == ref
		case pdu.AbortTaskSet, pdu.ClearTaskSet, pdu.LogicalUnitReset:
			hit = t.scsi && t.cmd.LUN == lun
		case pdu.TargetWarmReset, pdu.TargetColdReset, pdu.ITNexusReset:
			hit = t.scsi
		default:
		}
		if hit {
			delete(s.tasks, tag)
			t.finish(ErrAborted)
		}
	}
}

// NOP sends a NOP-Out ping with data and returns the echo, §11.18.
func (s *Session) NOP(ctx context.Context, data []byte) ([]byte, error) {
	p, err := s.call(ctx, request{data: data, encode: func(h *pdu.BHS, tag, cmdSN, expStatSN uint32) {
		n := pdu.NOPOut{
			InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag,
			CmdSN: cmdSN, ExpStatSN: expStatSN, DataLen: len(data),
		}
		n.Encode(h)
	}})
	if err != nil {
		return nil, err
	}
	return p.Data, nil
}

// Logout closes the session in order (§11.14) and ends it.
func (s *Session) Logout(ctx context.Context) error {
	p, err := s.call(ctx, request{immediate: true, encode: func(h *pdu.BHS, tag, cmdSN, expStatSN uint32) {
		l := pdu.LogoutRequest{
			Immediate: true, Reason: pdu.LogoutCloseSession, InitiatorTaskTag: tag,
			CID: s.r.CID, CmdSN: cmdSN, ExpStatSN: expStatSN,
		}
		l.Encode(h)
	}})
	_ = s.Close()
	if err != nil {
		return err
	}
	var r pdu.LogoutResponse
	if err := r.Decode(&p.BHS); err != nil {
		return err
	}
	if r.Response != pdu.LogoutSuccess {
		return fmt.Errorf("initiator: logout: %v", r.Response)
	}
	return nil
}

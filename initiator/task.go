package initiator

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/iserd/iserd/pdu"
)

// Command is one SCSI command, RFC 7143 §11.3.
type Command struct {
	LUN  pdu.LUN
	Attr pdu.TaskAttr // zero means Untagged
	CDB  []byte       // up to 16 bytes in the header, more as an extended CDB AHS

	// DataOut is the write payload, borrowed until the task is done; its
	// length is the write's ExpectedDataTransferLength.
	DataOut []byte
	// DataInLen is the read's ExpectedDataTransferLength in bytes. With
	// DataOut as well the command is bidirectional.
	DataInLen int

	Immediate bool // immediate delivery, §4.2.2.1
}

// Result is what a finished SCSI command gave.
type Result struct {
	Response  pdu.Response
	Status    uint8  // SAM-5 5.3.1; only when Response is Completed
	Sense     []byte // sense data without its length field
	Data      []byte // Data-In received, owned by the caller
	Overflow  bool
	Underflow bool
	Residual  uint32 // bytes, when Overflow or Underflow
}

// Err returns nil for status GOOD and a *StatusError for everything else.
func (r *Result) Err() error {
	if r.Response == pdu.ResponseCompleted && r.Status == 0 {
		return nil
	}
	return &StatusError{Response: r.Response, Status: r.Status, Sense: r.Sense}
}

// StatusError is a SCSI command that did not end with GOOD.
type StatusError struct {
	Response pdu.Response
	Status   uint8
	Sense    []byte
}

// Error shows status and, in hexadecimal, sense key, ASC and ASCQ.
func (e *StatusError) Error() string {
	if e.Response != pdu.ResponseCompleted {
		return fmt.Sprintf("initiator: SCSI command: response %v", e.Response)
	}
	key, asc, ascq, ok := DecodeSense(e.Sense)
	if !ok {
		return fmt.Sprintf("initiator: SCSI status %#02x", e.Status)
	}
	return fmt.Sprintf("initiator: SCSI status %#02x, sense %X/%02X/%02X", e.Status, key, asc, ascq)
}

// DecodeSense returns sense key, additional sense code and its qualifier from
// sense data in fixed (SPC-5 4.4.3) or descriptor format (SPC-5 4.4.2).
func DecodeSense(b []byte) (key, asc, ascq uint8, ok bool) {
	if len(b) == 0 {
		return 0, 0, 0, false
	}
	switch b[0] & 0x7f {
	case 0x70, 0x71:
		if len(b) >= 14 {
			return b[2] & 0x0f, b[12], b[13], true
		}
	case 0x72, 0x73:
		if len(b) >= 4 {
			return b[1] & 0x0f, b[2], b[3], true
		}
	}
	return 0, 0, 0, false
}

// Task is a request in flight.
type Task struct {
	s    *Session
	tag  uint32
	scsi bool
	cmd  Command
	sn   uint32 // CmdSN

	// Guarded by Session.mu until done is closed.
	res    Result
	buf    []byte // Data-In
	dataSN uint32 // next DataSN or R2TSN
	r2ts   []pdu.R2T
	reply  *PDU
	err    error

	wake chan struct{} // capacity 1: R2Ts have come
	done chan struct{}
}

func newTask(s *Session) *Task {
	return &Task{s: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// InitiatorTaskTag returns the task's tag.
func (t *Task) InitiatorTaskTag() uint32 { return t.tag }

// Done is closed when the task has ended.
func (t *Task) Done() <-chan struct{} { return t.done }

// finish ends the task (Session.mu held, the task no longer in the table).
func (t *Task) finish(err error) {
	t.err = err
	close(t.done)
}

func (t *Task) takeDataIn(in *pdu.DataIn, data []byte) error {
	if in.DataSN != t.dataSN {
		return violation("Data-In has DataSN %d, expected %d", in.DataSN, t.dataSN)
	}
	t.dataSN++
	// DataPDUInOrder and DataSequenceInOrder are Yes: offsets grow without gaps.
	if int64(in.BufferOffset) != int64(len(t.buf)) {
		return violation("Data-In has BufferOffset %d, expected %d", in.BufferOffset, len(t.buf))
	}
	if len(t.buf)+len(data) > t.cmd.DataInLen {
		return violation("Data-In goes to byte %d of %d", len(t.buf)+len(data), t.cmd.DataInLen)
	}
	t.buf = append(t.buf, data...)
	return nil
}

func (t *Task) takeResponse(r *pdu.SCSIResponse, data []byte) error {
	t.res.Response, t.res.Status = r.Response, r.Status
	t.res.Overflow, t.res.Underflow, t.res.Residual = r.Overflow, r.Underflow, r.ResidualCount
	if t.s.o.Strict && r.Response == pdu.ResponseCompleted && r.ExpDataSN != t.dataSN {
		return violation("SCSI Response has ExpDataSN %d, %d PDUs came", r.ExpDataSN, t.dataSN)
	}
	if len(data) < 2 { // §11.4.7.2: SenseLength precedes the sense data
		return nil
	}
	n := int(binary.BigEndian.Uint16(data))
	if n > len(data)-2 {
		return violation("SenseLength %d in %d bytes", n, len(data))
	}
	t.res.Sense = data[2 : 2+n]
	return nil
}

func (t *Task) takeR2T(r pdu.R2T) error {
	if r.R2TSN != t.dataSN {
		return violation("R2T has R2TSN %d, expected %d", r.R2TSN, t.dataSN)
	}
	t.dataSN++
	end := int64(r.BufferOffset) + int64(r.DesiredDataTransferLength)
	if end > int64(len(t.cmd.DataOut)) || r.DesiredDataTransferLength == 0 {
		return violation("R2T for bytes %d to %d of %d", r.BufferOffset, end, len(t.cmd.DataOut))
	}
	if int(r.DesiredDataTransferLength) > t.s.r.Params.MaxBurstLength {
		return violation("R2T for %d bytes, MaxBurstLength is %d", r.DesiredDataTransferLength, t.s.r.Params.MaxBurstLength)
	}
	t.r2ts = append(t.r2ts, r)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return nil
}

// Wait answers the task's R2Ts until it ends and returns its result. Without a
// Wait R2Ts stay unanswered. When ctx ends first, the task stays in flight and
// Wait may be called again.
func (t *Task) Wait(ctx context.Context) (*Result, error) {
	for {
		select {
		case <-t.done:
			t.res.Data = t.buf
			return &t.res, t.err
		case <-t.wake:
			if err := t.sendSolicited(); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// sendSolicited answers all R2Ts that have come, §11.8.
func (t *Task) sendSolicited() error {
	s := t.s
	s.mu.Lock()
	r2ts, expStatSN := t.r2ts, s.expStatSN
	t.r2ts = nil
	s.mu.Unlock()
	for _, r := range r2ts {
		data := t.cmd.DataOut[r.BufferOffset:][:r.DesiredDataTransferLength]
		s.wmu.Lock()
		s.wbuf = s.appendDataOut(s.wbuf[:0], dataSequence{
			lun: r.LUN, tag: t.tag, ttt: r.TargetTransferTag, offset: r.BufferOffset, expStatSN: expStatSN,
		}, data)
		err := s.write()
		s.unlockWrite()
		if err != nil {
			return err
		}
	}
	return nil
}

// dataSequence is what the Data-Out PDUs of one sequence share, §11.7.
type dataSequence struct {
	lun               pdu.LUN
	tag, ttt          uint32
	offset, expStatSN uint32
}

// appendDataOut appends the Data-Out PDUs of a sequence; the last one has the
// F bit.
func (s *Session) appendDataOut(dst []byte, q dataSequence, data []byte) []byte {
	var h pdu.BHS
	for dataSN := uint32(0); len(data) > 0; dataSN++ {
		n := min(len(data), s.r.Params.MaxRecvDataSegmentLength)
		out := pdu.DataOut{
			Final: n == len(data), LUN: q.lun, InitiatorTaskTag: q.tag, TargetTransferTag: q.ttt,
			ExpStatSN: q.expStatSN, DataSN: dataSN, BufferOffset: q.offset, DataLen: n,
		}
		out.Encode(&h)
		dst = s.c.AppendPDU(dst, &h, nil, data[:n])
		q.offset += uint32(n)
		data = data[n:]
	}
	return dst
}

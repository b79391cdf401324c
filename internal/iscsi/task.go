package iscsi

import (
	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

type taskState uint8

const (
	taskFree        taskState = iota
	taskOpen                  // being worked on, here and now
	taskImmediate             // the rest of the command PDU's data segment is on its way
	taskUnsolicited           // unsolicited Data-Out PDUs are on their way
	taskDrain                 // finished early; waits for the last unsolicited Data-Out
	taskSolicited             // GetData is under way
	taskRunning               // on the logical unit's workers
	taskSending               // PutData is under way
)

// Task is one SCSI command of an initiator, RFC 7143 §11.3, from its PDU to
// its response. It belongs to its connection (connection allegiance) and is
// used again after its end.
type Task struct {
	scsi.Command

	InitiatorTaskTag uint32
	LUN              pdu.LUN
	DataSN           uint32 // PDUs of data or R2Ts so far: ExpDataSN of the response
	Remote           RemoteBuffers

	conn      *Conn
	state     taskState
	aborted   bool // ended by task management: no response
	told      bool // but for the status TASK ABORTED
	immediate bool // came with the I bit: outside the CmdSN window
	placing   bool // the transport is receiving into buf right now
	failed    bool // has its status before its data
	open      bool // more unsolicited Data-Out PDUs are to come
	orphan    bool // its connection is gone; it is counted in Orphans
	retired   bool // its place in the window is given back
	read      bool
	write     bool
	edtl      uint32 // ExpectedDataTransferLength
	cmdSN     uint32
	want      int // data-out bytes that the command will take
	got       int // of them received, contiguous from 0
	actual    int // data-in bytes that the command made
	unsol     Burst
	detached  bool
	buf       *bufpool.Buf
	landing   []byte   // the unit's own memory, where data-out goes in place of buf
	wait      []*drain // task management functions that wait for the end
	meter     scsi.Meter
	cdb       [16]byte
	ext       []byte // extended CDB, RFC 7143 §11.2.2.3
}

// reset makes the task ready for its next use, with its memory kept.
func (t *Task) reset() {
	t.Reset()
	t.DataSN, t.edtl, t.want, t.got, t.actual = 0, 0, 0, 0, 0
	t.told, t.aborted, t.immediate, t.placing, t.failed = false, false, false, false, false
	t.open, t.retired, t.read, t.write, t.detached = false, false, false, false, false
	t.unsol, t.Nexus = Burst{}, nil
	clear(t.wait)
	t.wait = t.wait[:0]
}

// Burst is a run of Data-Out PDUs in order: unsolicited, or answering one R2T.
type Burst struct {
	Next   int // BufferOffset of the next PDU
	End    int // offset behind the last byte
	DataSN uint32
}

// Accept checks a Data-Out PDU against the burst and moves on. The F bit must
// stand exactly where the burst ends (RFC 7143 §11.7.1), except that an
// unsolicited burst may end early, with open set.
func (b *Burst) Accept(d *pdu.DataOut, open bool) bool {
	end := int(d.BufferOffset) + d.DataLen
	switch {
	case int(d.BufferOffset) != b.Next, d.DataSN != b.DataSN, end > b.End:
		return false
	case d.Final != (end == b.End) && (!open || !d.Final):
		return false
	}
	b.Next = end
	b.DataSN++
	return true
}

// DataIn is the data of a READ as it goes to the initiator: at most
// ExpectedDataTransferLength bytes. It may alias the logical unit's memory and
// is valid until DataDone or Detach.
func (t *Task) DataIn() []byte { return t.In[:min(len(t.In), t.readLimit())] }

// Expected is the number of data-out bytes that the command takes.
func (t *Task) Expected() int { return t.want }

// Received is the number of data-out bytes received so far, without gaps.
func (t *Task) Received() int { return t.got }

// Place returns the task's memory for n data-out bytes at off: their final
// place. The datamover may receive into it until it calls Arrived; the task
// keeps the memory until then even when it is aborted.
func (t *Task) Place(off, n int) []byte {
	t.placing = true
	return t.buf.B[off : off+n]
}

// Fill puts data-out bytes into their final place, unless they are there
// already because Place was used.
func (t *Task) Fill(off int, data []byte) {
	if len(data) == 0 {
		return
	}
	if dst := t.buf.B[off:]; !sameMemory(data, dst) {
		copy(dst, data)
	}
}

// Arrived tells that n more bytes are in place behind those Received. When all
// are there the command runs.
func (t *Task) Arrived(n int) {
	t.placing = false
	t.got += n
	if t.conn.state == closed {
		t.conn.endTask(t)
		t.forsaken()
		return
	}
	if t.aborted {
		t.conn.endAborted(t)
		return
	}
	if t.state == taskSolicited && t.got == t.want {
		t.meter.Ready(t.conn.batch)
		t.conn.run(t, t.dataOut())
	}
}

// dataOut is the data-out of a task that has it all.
func (t *Task) dataOut() []byte {
	if t.landing != nil {
		return t.landing
	}
	return t.buf.B[:t.want]
}

// Detach moves the task's data-in into memory of its own and lets go of the
// logical unit. It returns the new data; what DataIn returned before is void.
func (t *Task) Detach() []byte {
	in := t.DataIn()
	if t.detached {
		return in
	}
	t.detached = true
	if t.buf == nil {
		if t.buf = t.conn.pool.Get(max(len(in), 1)); t.buf != nil {
			in = t.buf.B[:copy(t.buf.B, in)]
		} else {
			// The pool is spent. These bytes are bounded by the command
			// window, and must leave the unit's memory now.
			in = append([]byte(nil), in...)
		}
	}
	t.Release()
	t.In = in
	return in
}

// DataDone ends the task after PutData: its data is sent or given up.
func (t *Task) DataDone() { t.conn.endTask(t) }

func (t *Task) readLimit() int {
	if t.read {
		return int(min(t.edtl, uint32(bufpool.MaxSize)))
	}
	return 0
}

func (t *Task) writeLimit() int {
	if t.write {
		return int(min(t.edtl, uint32(bufpool.MaxSize)))
	}
	return 0
}

// Residual is the residual of RFC 7143 §11.4.5 after transferring what the
// command did transfer.
func (t *Task) Residual() (overflow, underflow bool, count uint32) {
	expected := uint32(0)
	if t.read || t.write {
		expected = t.edtl
	}
	var actual uint32
	switch {
	case t.Status != scsi.Good && t.write:
		actual = uint32(t.got)
	case t.Status != scsi.Good:
		actual = 0
	case t.OutLen > 0:
		actual = uint32(t.OutLen)
		if !t.write {
			expected = 0
		}
	default:
		actual = uint32(t.actual)
		if !t.read && t.actual > 0 {
			expected = 0
		}
	}
	switch {
	case actual > expected:
		return true, false, actual - expected
	case actual < expected:
		return false, true, expected - actual
	}
	return false, false, 0
}

// drain counts tasks that must end before a task management function may be
// answered. It is used in one connection's context.
type drain struct {
	left int
	done func()
}

func (d *drain) one() {
	if d.left--; d.left == 0 {
		d.done()
	}
}

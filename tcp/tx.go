package tcp

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// A long batch is sent in pieces, so that the initiator works on the first
// answers while the rest is made. At queue depth 32 on loopback this gave 25 %
// more reads and 50 % more writes a second than one send per batch, at the same
// CPU time; half or twice as much gave less.
const (
	flushBytes = 32 << 10
	flushPDUs  = 8
)

// arenaChunk is how much header memory is taken at a time.
const arenaChunk = 16 << 10

// sendQueue is what waits to be sent, in order: headers and small data in an
// arena, data of tasks by reference.
type sendQueue struct {
	iov   []unix.Iovec
	sent  int // iovecs in front that are through
	bytes int // not yet sent
	tasks []sending

	arena []byte // the rest of the current chunk
	chunk []byte // reused when all is sent
	msg   unix.Msghdr

	control int // control PDUs queued since the last send

	joinable bool // the last iovec is of the arena
	blocked  bool // the socket is full; the flusher will go on
}

// sending is a task whose data is in the queue, up to iovec end.
type sending struct {
	task *iscsi.Task
	from int
	end  int
}

// space returns n bytes of arena that are part of the stream from now on. It
// never moves: pieces that follow each other become one iovec.
func (q *sendQueue) space(n int) []byte {
	if n > len(q.arena) {
		if q.chunk == nil || q.sent < len(q.iov) || n > len(q.chunk) {
			q.chunk = make([]byte, max(n, arenaChunk))
		}
		q.arena = q.chunk
	}
	b := q.arena[:n:n]
	q.arena = q.arena[n:]
	if last := len(q.iov) - 1; q.joinable && last >= q.sent && iovecEnd(&q.iov[last]) == unsafe.Pointer(unsafe.SliceData(b)) {
		q.iov[last].Len += uint64(n)
		q.bytes += n
		return b
	}
	q.push(b)
	q.joinable = true
	return b
}

// push adds memory that is not of the arena to the stream.
func (q *sendQueue) push(b []byte) {
	q.bytes += len(b)
	q.iov = append(q.iov, iovec(b))
	q.joinable = false
}

// send sends as much as the socket takes.
func (q *sendQueue) send(fd int) error {
	q.control = 0
	for q.sent < len(q.iov) {
		n, errno := sendv(fd, q.iov[q.sent:q.upTo(maxSend)], &q.msg)
		switch errno {
		case 0:
			q.advance(n)
		case unix.EAGAIN:
			q.block()
			return nil
		default:
			return errno
		}
	}
	q.reset()
	return nil
}

// upTo is the end of the iovecs that make one call: about limit bytes.
func (q *sendQueue) upTo(limit int) int {
	end, bytes := q.sent, 0
	for end < len(q.iov) && end-q.sent < maxIovecs && bytes < limit {
		bytes += int(q.iov[end].Len)
		end++
	}
	return end
}

func (q *sendQueue) advance(n int) {
	q.bytes -= n
	for n > 0 {
		v := &q.iov[q.sent]
		if uint64(n) < v.Len {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.Len -= uint64(n)
			break
		}
		n -= int(v.Len)
		q.sent++
	}
	done := 0
	for done < len(q.tasks) && q.tasks[done].end <= q.sent {
		q.tasks[done].task.DataDone()
		done++
	}
	if done > 0 {
		q.tasks = append(q.tasks[:0], q.tasks[done:]...)
	}
}

// block takes all references into memory of logical units out of the queue.
func (q *sendQueue) block() {
	q.blocked = true
	for i := range q.tasks {
		s := &q.tasks[i]
		old := s.task.DataIn()
		q.repoint(s, old, s.task.Detach())
	}
}

// repoint moves the iovecs of s from old to now, which holds the same bytes.
func (q *sendQueue) repoint(s *sending, old, now []byte) {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(old)))
	if from == uintptr(unsafe.Pointer(unsafe.SliceData(now))) {
		return
	}
	for i := max(s.from, q.sent); i < s.end; i++ {
		v := &q.iov[i]
		if off := uintptr(unsafe.Pointer(v.Base)) - from; off < uintptr(len(old)) {
			v.Base = &now[off]
		}
	}
}

func (q *sendQueue) reset() {
	clear(q.iov)
	q.iov, q.sent, q.blocked = q.iov[:0], 0, false
	q.arena = q.chunk
}

// drop gives the tasks back without sending.
func (q *sendQueue) drop() {
	for _, s := range q.tasks {
		s.task.DataDone()
	}
	*q = sendQueue{}
}

var padding [4]byte

// SendControl implements iscsi.Datamover.
func (c *Conn) SendControl(h *pdu.BHS, data []byte) {
	if c.tx.control++; c.tx.control > flushPDUs && !c.tx.blocked {
		c.Flush()
	}
	n := pdu.BHSLen
	if c.headerDigest {
		n += pdu.DigestLen
	}
	pad := 0
	if len(data) > 0 {
		pad = pdu.Pad(len(data))
		n += len(data) + pad
		if c.dataDigest {
			n += pdu.DigestLen
		}
	}
	c.engine.Count(h.Opcode())
	b := c.tx.space(n)
	if c.engine.Tap() != nil {
		sent := *h // so that h stays on its stack
		c.tapOut(&sent, data)
	}
	b = b[c.putHeader(b, h):]
	if len(data) == 0 {
		return
	}
	copy(b, data)
	clear(b[len(data) : len(data)+pad])
	if c.dataDigest {
		pdu.PutDigest(b[len(data)+pad:], pdu.UpdateCRC32C(0, b[:len(data)+pad]))
	}
}

// putHeader writes a header and its digest, and returns how long that is.
func (c *Conn) putHeader(b []byte, h *pdu.BHS) int {
	copy(b, h[:])
	return c.sealHeader(b)
}

// sealHeader puts the digest, if there is one, behind the header in b.
func (c *Conn) sealHeader(b []byte) int {
	if !c.headerDigest {
		return pdu.BHSLen
	}
	pdu.PutDigest(b[pdu.BHSLen:], pdu.UpdateCRC32C(0, b[:pdu.BHSLen]))
	return pdu.BHSLen + pdu.DigestLen
}

// PutData implements iscsi.Datamover: Data-In PDUs of at most the initiator's
// MaxRecvDataSegmentLength, in sequences of at most MaxBurstLength, the last
// with the status (RFC 7143 §11.8).
func (c *Conn) PutData(t *iscsi.Task) {
	data := t.DataIn()
	if c.dataDigest {
		// The digest must be of the bytes that are sent, whoever writes to
		// the unit meanwhile.
		data = t.Detach()
	}
	s := sending{task: t, from: len(c.tx.iov)}
	p := c.engine.Params()
	segment, burst := p.InitiatorMaxRecvDataSegmentLength, p.MaxBurstLength
	for off, inBurst := 0, 0; off < len(data); {
		n := min(segment, burst-inBurst, len(data)-off)
		last := off+n == len(data)
		inBurst += n
		d := pdu.DataIn{
			Final: last || inBurst == burst, LUN: t.LUN, InitiatorTaskTag: t.InitiatorTaskTag,
			TargetTransferTag: pdu.ReservedTag, DataSN: t.DataSN, BufferOffset: uint32(off), DataLen: n,
		}
		if inBurst == burst {
			inBurst = 0
		}
		t.DataSN++
		c.putDataIn(&d, t, last, data[off:off+n])
		off += n
	}
	s.end = len(c.tx.iov)
	c.tx.tasks = append(c.tx.tasks, s)
	switch {
	case c.tx.blocked:
		c.tx.block()
	case c.tx.bytes >= flushBytes:
		c.Flush()
	}
}

func (c *Conn) putDataIn(d *pdu.DataIn, t *iscsi.Task, last bool, data []byte) {
	if last {
		d.HasStatus = true
		d.Status = uint8(t.Status)
		d.StatSN = c.engine.NextStatSN()
		d.Overflow, d.Underflow, d.ResidualCount = t.Residual()
	}
	n := pdu.BHSLen
	if c.headerDigest {
		n += pdu.DigestLen
	}
	b := c.tx.space(n)
	h := (*pdu.BHS)(b) // made where it is sent from: a copy would be an allocation
	d.Encode(h)
	c.engine.StampWindow(h)
	c.engine.Count(pdu.OpDataIn)
	if c.engine.Tap() != nil {
		c.tapOut(h, data)
	}
	c.sealHeader(b)
	c.tx.push(data)
	pad := pdu.Pad(len(data))
	if pad > 0 {
		c.tx.push(padding[:pad])
	}
	if c.dataDigest {
		crc := pdu.UpdateCRC32C(pdu.UpdateCRC32C(0, data), padding[:pad])
		pdu.PutDigest(c.tx.space(pdu.DigestLen), crc)
	}
}

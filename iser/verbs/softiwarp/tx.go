package softiwarp

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

const (
	arenaLen = 32 << 10
	// copyMax: payload of up to so many bytes is copied behind its header,
	// which costs less than two more iovecs.
	copyMax = 512
	// fpduRoom is what one FPDU takes of the arena at most.
	fpduRoom = maxHeaderLen + copyMax + 3 + fpduCRCLen + maxTerminateLen
)

// response is an RDMA Read of the peer that is to be answered.
type response struct {
	readRequest
	off uint32
}

// transmitter forms FPDUs and sends them. What is formed and not yet sent is
// in iov: headers and small payloads in the arena, the rest by reference. New
// FPDUs are formed only when all of it is sent, up to about maxSend bytes.
type transmitter struct {
	iov   []unix.Iovec
	first int // iovecs before it are sent
	arena []byte
	used  int
	msg   unix.Msghdr

	formed uint64 // position in the stream
	sent   uint64

	open    bool // the peer may be sent to
	blocked bool // the socket is full and watched
	shut    bool // nothing more may be sent
	sending bool // the message at sq.next is begun

	maxULPDU int
	measure  uint64 // stream position at which the path is asked again
	off      uint32 // of the message at sq.next
	cur      cursor
	sendMSN  uint32
	readMSN  uint32
	nextSink uint32
	pieces   [][]byte

	resp               []response // ring
	respHead, respTail uint32
	answer             bool // whose turn it is
}

func (t *transmitter) init() {
	t.sendMSN, t.readMSN = 1, 1
	t.nextSink = randomUint32()
	t.pieces = make([][]byte, 0, maxSGE)
}

// respond makes room for n RDMA Reads of the peer.
func (t *transmitter) respond(n int) {
	t.resp = make([]response, powerOf2(n))
	t.arena = make([]byte, arenaLen)
	t.iov = make([]unix.Iovec, 0, 64)
}

// space returns n bytes of the arena that are next in the stream. The caller
// knows that there is room.
func (t *transmitter) space(n int) []byte {
	if n == 0 {
		return nil
	}
	b := t.arena[t.used : t.used+n : t.used+n]
	t.used += n
	t.formed += uint64(n)
	if last := len(t.iov) - 1; last >= t.first && iovecEnd(&t.iov[last]) == unsafe.Pointer(unsafe.SliceData(b)) {
		t.iov[last].Len += uint64(n)
		return b
	}
	t.iov = append(t.iov, iovec(b))
	return b
}

// ref adds memory that is not the arena's to the stream.
func (t *transmitter) ref(b []byte) {
	t.formed += uint64(len(b))
	t.iov = append(t.iov, iovec(b))
}

// room says whether another FPDU may be formed.
func (t *transmitter) room() bool {
	return len(t.arena)-t.used >= fpduRoom && len(t.iov)+maxSGE+2 <= maxIovecs && t.formed-t.sent < maxSend
}

// transmit forms and sends until there is nothing more, or no room in the
// socket. In the error state it sends what is left, and then the end.
func (q *QP) transmit() {
	t := &q.tx
	for q.fd >= 0 && !t.shut {
		if t.first < len(t.iov) && !q.send() {
			return
		}
		t.iov, t.first, t.used = t.iov[:0], 0, 0
		if q.state != qpRTS {
			q.shut()
			break
		}
		if t.open {
			if t.formed >= t.measure {
				q.measurePath()
			}
			q.form()
		}
		if len(t.iov) == 0 && q.state == qpRTS {
			q.sentUpTo(t.sent)
			break
		}
	}
	if t.blocked {
		t.blocked = false
		q.home.wantOut(q, false)
	}
}

// How much is sent until the path is asked again what its segments are: TCP
// begins with small ones when its window does, and paths change.
const (
	measureFirst = 256 << 10
	measureAgain = 4 << 20
)

func (q *QP) measurePath() {
	t := &q.tx
	step := uint64(measureAgain)
	if t.measure == 0 {
		step = measureFirst
	}
	t.maxULPDU = q.dev.pathULPDU(q.fd)
	t.measure = t.formed + step
}

// send sends what is formed; false when not all of it went.
func (q *QP) send() bool {
	t := &q.tx
	for t.first < len(t.iov) {
		n, errno := sendmsg(q.fd, &t.msg, t.iov[t.first:])
		switch errno {
		case 0:
			t.advance(n)
			if q.state == qpRTS {
				q.sentUpTo(t.sent)
			}
		case unix.EAGAIN:
			if !t.blocked {
				t.blocked = true
				q.home.wantOut(q, true)
			}
			return false
		default: // EFAULT is memory that is gone: the FPDU cannot be completed
			q.lost(errno)
			return false
		}
	}
	return true
}

func (t *transmitter) advance(n int) {
	t.sent += uint64(n)
	for n > 0 {
		v := &t.iov[t.first]
		if uint64(n) < v.Len {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.Len -= uint64(n)
			return
		}
		n -= int(v.Len)
		t.first++
	}
}

// detach makes a copy of what is to be sent from mem.
func (t *transmitter) detach(mem []byte) {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
	for i := t.first; i < len(t.iov); i++ {
		v := &t.iov[i]
		p := uintptr(unsafe.Pointer(v.Base))
		if p < from+uintptr(len(mem)) && from < p+uintptr(v.Len) {
			*v = iovec(append([]byte(nil), unsafe.Slice(v.Base, v.Len)...))
		}
	}
}

// own makes a copy of all that is to be sent, with room for a Terminate.
func (t *transmitter) own() {
	left := t.formed - t.sent
	b := make([]byte, 0, left+fpduRoom)
	for i := t.first; i < len(t.iov); i++ {
		b = append(b, unsafe.Slice(t.iov[i].Base, t.iov[i].Len)...)
	}
	t.iov, t.first = t.iov[:0], 0
	if len(b) > 0 {
		t.iov = append(t.iov, iovec(b))
	}
	t.arena, t.used = b[:cap(b)], len(b)
}

// drop forgets all that is to be sent.
func (t *transmitter) drop() {
	clear(t.iov)
	t.iov, t.first, t.used, t.formed = t.iov[:0], 0, 0, t.sent
	t.respHead = t.respTail
}

// form forms FPDUs as long as there is room and something to send. Responses
// and messages of the send queue take turns.
func (q *QP) form() {
	t := &q.tx
	for t.room() && q.state == qpRTS {
		if t.sending {
			q.formSend()
			continue
		}
		if r := t.respHead != t.respTail; r && (t.answer || t.resp[int(t.respHead)&(len(t.resp)-1)].off > 0) {
			q.formResponse()
			continue
		}
		t.answer = true
		if q.nextSend() {
			continue
		}
		if t.respHead == t.respTail {
			return
		}
	}
}

// formResponse forms one segment of the oldest Read Response.
func (q *QP) formResponse() {
	t := &q.tx
	r := &t.resp[int(t.respHead)&(len(t.resp)-1)]
	n := min(t.maxULPDU-taggedLen, int(r.size-r.off))
	t.pieces = t.pieces[:0]
	if n > 0 {
		mem, f := q.dev.stags.remote(q, r.srcSTag, r.srcTO+uint64(r.off), n, verbs.AccessRemoteRead)
		if f != noFault {
			q.fail(f)
			return
		}
		t.pieces = append(t.pieces, mem)
	}
	seg := segment{op: opReadResponse, tagged: true, stag: r.sinkSTag, to: r.sinkTO + uint64(r.off)}
	r.off += uint32(n)
	seg.last = r.off == r.size
	q.fpdu(&seg, n)
	if seg.last {
		t.respHead++
		t.answer = false
	}
}

// nextSend does what needs no message, and begins the next message of the
// send queue. False when there is none, or it must wait.
func (q *QP) nextSend() bool {
	s := &q.sq
	for s.next != s.tail {
		w := s.at(s.next)
		if w.flags&verbs.SendFence != 0 && s.outstanding() > 0 {
			return false
		}
		switch w.op {
		case verbs.OpLocalInv:
			if !q.dev.stags.invalidate(q, w.invKey) {
				q.badSend(verbs.WCLocalProtection)
				return false
			}
		case verbs.OpBind:
			if !w.window.bind(w.region) {
				q.badSend(verbs.WCMWBind)
				return false
			}
		case verbs.OpRead:
			if s.outstanding() >= q.ord {
				if q.ord == 0 {
					q.badSend(verbs.WCLocalQPOp)
				}
				return false
			}
			return q.beginSend(w, verbs.AccessLocalWrite)
		default:
			return q.beginSend(w, 0)
		}
		w.end = q.tx.formed
		s.next++
	}
	return false
}

// beginSend checks the memory of a message once, so that it is refused before
// anything of it is sent.
func (q *QP) beginSend(w *sendWR, acc verbs.Access) bool {
	t := &q.tx
	if !w.inlined {
		var ok bool
		t.pieces, ok = q.dev.gather(t.pieces[:0], w.sge, cursor{}, int(w.length), acc)
		if !ok {
			q.badSend(verbs.WCLocalProtection)
			return false
		}
	}
	t.sending, t.off, t.cur = true, 0, cursor{}
	return true
}

// badSend fails the connection for the work request at sq.next.
func (q *QP) badSend(status verbs.Status) {
	q.failSend(q.sq.next, status, noFault)
	q.fail(faultCatastrophic)
}

// formSend forms one segment of the message at sq.next.
func (q *QP) formSend() {
	t, s := &q.tx, &q.sq
	w := s.at(s.next)
	var seg segment
	n := 0
	switch w.op {
	case verbs.OpRead:
		q.formRead(w)
		return
	case verbs.OpWrite:
		n = min(t.maxULPDU-taggedLen, int(w.length-t.off))
		seg = segment{op: opWrite, tagged: true, stag: w.rkey, to: w.raddr + uint64(t.off)}
	default:
		n = min(t.maxULPDU-untaggedLen, int(w.length-t.off))
		seg = segment{op: sendOpcode(w), qn: qnSend, msn: t.sendMSN, mo: t.off}
		if seg.op.invalidates() {
			seg.stag = w.invKey
		}
	}
	if !q.payload(w, n) {
		q.badSend(verbs.WCLocalProtection)
		return
	}
	t.off += uint32(n)
	seg.last = t.off == w.length
	q.fpdu(&seg, n)
	if !seg.last {
		return
	}
	if !seg.tagged {
		t.sendMSN++
	}
	q.formedSend(w)
}

func (q *QP) formedSend(w *sendWR) {
	w.end = q.tx.formed
	q.tx.sending, q.tx.answer = false, true
	q.sq.next++
}

// payload puts the memory of the next n bytes of w in tx.pieces.
func (q *QP) payload(w *sendWR, n int) bool {
	t := &q.tx
	t.pieces = t.pieces[:0]
	if n == 0 {
		return true
	}
	if w.inlined {
		t.pieces = append(t.pieces, w.inline[:w.length][t.off:t.off+uint32(n)])
		return true
	}
	var ok bool
	t.pieces, ok = q.dev.gather(t.pieces, w.sge, t.cur, n, 0)
	t.cur.advance(w.sge, n)
	return ok
}

func sendOpcode(w *sendWR) opcode {
	solicited := w.flags&verbs.SendSolicited != 0
	switch {
	case w.op == verbs.OpSendInv && solicited:
		return opSendSEInv
	case w.op == verbs.OpSendInv:
		return opSendInv
	case solicited:
		return opSendSE
	}
	return opSend
}

// formRead forms the Read Request of w. The sink gets a steering tag of its
// own, index and key change each time.
func (q *QP) formRead(w *sendWR) {
	t := &q.tx
	t.nextSink += 1<<stagKeyBits + 1
	w.sink = t.nextSink
	q.readRequest(&readRequest{sinkSTag: w.sink, size: w.length, srcSTag: w.rkey, srcTO: w.raddr})
	q.sq.pushRead(q.sq.next)
	q.formedSend(w)
}

func (q *QP) readRequest(r *readRequest) {
	t := &q.tx
	var b [readReqLen]byte
	r.encode(b[:])
	seg := segment{op: opReadRequest, last: true, qn: qnReadReq, msn: t.readMSN}
	t.readMSN++
	q.control(&seg, b[:])
}

// control forms the FPDU of a small message that is not the application's.
func (q *QP) control(seg *segment, payload []byte) {
	t := &q.tx
	b := t.space(fpduLenLen + untaggedLen + len(payload))
	binary.BigEndian.PutUint16(b, uint16(untaggedLen+len(payload)))
	seg.encode(b[fpduLenLen:])
	copy(b[fpduLenLen+untaggedLen:], payload)
	q.trailer(untaggedLen+len(payload), q.sum(0, b))
}

// readyToReceive forms the RTR message of the peer-to-peer model.
func (q *QP) readyToReceive(r rtr) {
	if r == rtrFPDU {
		b := q.tx.space(fpduLenLen)
		clear(b)
		q.trailer(0, q.sum(0, b))
		return
	}
	q.tx.pieces = q.tx.pieces[:0]
	q.fpdu(&segment{op: opWrite, tagged: true, last: true}, 0)
}

// fpdu forms an FPDU of the header seg and tx.pieces, n bytes.
func (q *QP) fpdu(seg *segment, n int) {
	t := &q.tx
	hl := untaggedLen
	if seg.tagged {
		hl = taggedLen
	}
	b := t.space(fpduLenLen + hl)
	binary.BigEndian.PutUint16(b, uint16(hl+n))
	seg.encode(b[fpduLenLen:])
	crc := q.sum(0, b)
	if n <= copyMax {
		b = t.space(n)
		at := 0
		for _, p := range t.pieces {
			at += copy(b[at:], p)
		}
		crc = q.sum(crc, b)
	} else {
		for _, p := range t.pieces {
			t.ref(p)
			crc = q.sum(crc, p)
		}
	}
	q.trailer(hl+n, crc)
}

func (q *QP) trailer(ulpdu int, crc uint32) {
	pad := fpduPad(ulpdu)
	b := q.tx.space(pad + fpduCRCLen)
	clear(b)
	if q.crc {
		putCRC(b[pad:], updateCRC(crc, b[:pad]))
	}
}

// sum is the CRC of what was summed before and b, when CRCs are in use.
func (q *QP) sum(crc uint32, b []byte) uint32 {
	if !q.crc {
		return 0
	}
	return updateCRC(crc, b)
}

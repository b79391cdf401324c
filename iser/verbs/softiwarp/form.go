package softiwarp

import (
	"encoding/binary"

	"github.com/iserd/iserd/iser/verbs"
)

// form forms FPDUs as long as there is room and something to send. Responses
// and messages of the send queue take turns.
func (q *QP) form() {
	t := &q.tx
	t.gathered = false // regions may have been closed since
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
	t.sending, t.off, t.cur, t.gathered = true, 0, cursor{}, !w.inlined
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
	whole := t.gathered && n == int(w.length)
	t.gathered = false
	if whole {
		return true // beginSend has just done it
	}
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

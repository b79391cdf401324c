package softiwarp

import (
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// checkHeader checks what can be told from the header alone, RFC 5041 section
// 7.1 and RFC 5040 section 8.2.
func (q *QP) checkHeader() fault {
	s := &q.rx.seg
	if s.dv != ddpVersion {
		if s.tagged {
			return faultTaggedVersion
		}
		return faultVersion
	}
	if s.rv != rdmapVersion {
		return faultRDMAPVersion
	}
	if s.op > opTerminate || s.op.tagged() != s.tagged {
		return faultOpcode
	}
	if s.tagged {
		return noFault
	}
	want := uint32(qnSend)
	switch s.op {
	case opReadRequest:
		want = qnReadReq
	case opTerminate:
		want = qnTerminate
	default:
	}
	if s.qn > qnTerminate {
		return faultQN
	}
	if s.qn != want {
		return faultOpcode
	}
	return q.checkControl()
}

// checkControl checks Read Requests and Terminates, which are one segment and
// small.
func (q *QP) checkControl() fault {
	x := &q.rx
	s := &x.seg
	switch s.op {
	case opReadRequest:
		if s.msn != x.readMSN {
			return faultMSN
		}
		if s.mo != 0 {
			return faultMO
		}
		if !s.last || x.left != readReqLen {
			return faultTooLong
		}
	case opTerminate:
		if s.msn != 1 {
			return faultMSN
		}
		if s.mo != 0 {
			return faultMO
		}
		if !s.last || x.left > maxTerminateLen {
			return faultTooLong
		}
	default:
	}
	return noFault
}

// checkSegment checks a segment with payload for the application before any
// of it is placed. Zero bytes are placed anywhere (RFC 5040 section 5.1).
func (q *QP) checkSegment() fault {
	x := &q.rx
	s := &x.seg
	switch s.op {
	case opWrite:
		if x.left == 0 {
			return noFault
		}
		_, f := q.dev.stags.remote(q, s.stag, s.to, x.left, verbs.AccessRemoteWrite)
		return taggedFault(f)
	case opReadResponse:
		return q.checkResponse()
	default:
	}
	if s.msn != x.sendMSN {
		return faultMSN
	}
	w := q.rq.first()
	if w == nil {
		return faultNoBuffer
	}
	if s.mo != x.got {
		return faultMO
	}
	if uint64(x.got)+uint64(x.left) > w.length {
		q.failRecv(verbs.WCLocalLength)
		return faultTooLong
	}
	return noFault
}

// checkResponse checks a segment of a Read Response: it must be the next one
// of the oldest RDMA Read, because responses come in order (RFC 5040 section
// 5.5).
func (q *QP) checkResponse() fault {
	x := &q.rx
	s := &x.seg
	w := q.sq.read()
	if w == nil || s.stag != w.sink {
		return faultTaggedSTag
	}
	if s.to != uint64(w.got) || x.left > int(w.length-w.got) {
		return faultTaggedBounds
	}
	if s.last != (x.left == int(w.length-w.got)) {
		return faultTaggedBounds
	}
	return noFault
}

// finish ends a segment: the last one completes its message.
func (q *QP) finish() {
	x := &q.rx
	s := &x.seg
	if !s.last {
		return
	}
	switch s.op {
	case opWrite:
	case opReadResponse:
		q.finishRead()
	default:
		q.finishReceive()
	}
}

func (q *QP) finishRead() {
	q.sq.read().done = true
	q.sq.readHead++
	q.retire()
	if q.sq.next != q.sq.tail {
		q.home.pend(q) // it may have waited for this Read
	}
}

func (q *QP) finishReceive() {
	x := &q.rx
	wc := verbs.WC{QPN: q.num, Op: verbs.OpRecv, Len: x.got}
	if x.seg.op.invalidates() {
		if !q.dev.stags.invalidate(q, x.seg.stag) {
			q.failRx(faultInvalidate)
			return
		}
		wc.Flags, wc.InvKey = verbs.WCWithInv, x.seg.stag
	}
	w := q.rq.first()
	wc.ID = w.id
	q.rq.head++
	x.sendMSN++
	x.got, x.cur = 0, cursor{}
	q.home.push(wc)
}

// failRecv completes the receive that is being filled with an error. The
// caller fails the queue pair then.
func (q *QP) failRecv(status verbs.Status) {
	w := q.rq.first()
	q.rq.head++
	q.home.push(verbs.WC{ID: w.id, QPN: q.num, Op: verbs.OpRecv, Status: status})
}

// controlMessage handles a Read Request or a Terminate.
func (q *QP) controlMessage(b []byte) {
	x := &q.rx
	if x.seg.op == opTerminate {
		q.terminated(b)
		return
	}
	copy(x.header[untaggedLen:], b)
	x.hasRead = true
	var r readRequest
	r.decode(b)
	x.readMSN++
	t := &q.tx
	if int(t.respTail-t.respHead) >= max(q.ird, 1) {
		q.failRx(faultNoBuffer)
		return
	}
	if r.size > 0 {
		if r.size > maxMessage {
			q.failRx(faultBounds)
			return
		}
		if _, f := q.dev.stags.remote(q, r.srcSTag, r.srcTO, int(r.size), verbs.AccessRemoteRead); f != noFault {
			q.failRx(f)
			return
		}
		if r.sinkTO+uint64(r.size) < r.sinkTO {
			q.failRx(faultTOWrap)
			return
		}
	}
	t.resp[int(t.respTail)&(len(t.resp)-1)] = response{readRequest: r}
	t.respTail++
	q.home.pend(q)
}

// terminated handles the peer's Terminate: the connection ends. An RDMA Read
// that it is about completes with what is wrong.
func (q *QP) terminated(b []byte) {
	var t terminate
	if t.decode(b) != nil {
		q.lost(unix.EPROTO)
		return
	}
	q.cause = t.fault
	status := verbs.WCRemoteOp
	if t.fault>>8 == faultSTag>>8 {
		status = verbs.WCRemoteAccess
	}
	if t.read != nil && t.fault.layer() == 0 {
		var r readRequest
		r.decode(t.read)
		s := &q.sq
		for i := s.readHead; i != s.readTail; i++ {
			slot := s.reads[int(i)&(len(s.reads)-1)]
			if s.at(slot).sink == r.sinkSTag {
				q.failSend(slot, status, t.fault)
				break
			}
		}
	}
	q.tx.drop()
	q.toError(-int(unix.ECONNABORTED))
	q.dev.event(verbs.DeviceEvent{Kind: verbs.DeviceQPFatal, QPN: q.num})
}

package softiwarp

import (
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// failRx fails the connection for the segment that was received last.
func (q *QP) failRx(f fault) {
	x := &q.rx
	t := terminate{fault: f, segLen: uint16(x.ulpdu), header: x.header[:taggedLen]}
	if !x.seg.tagged {
		t.header = x.header[:untaggedLen]
		if x.hasRead {
			t.read = x.header[untaggedLen:]
		}
	}
	q.terminate(&t)
}

// fail fails the connection for no segment in particular.
func (q *QP) fail(f fault) { q.terminate(&terminate{fault: f}) }

// terminate ends the connection because of what this end has found: the peer
// gets a Terminate behind what is formed already, if it may be sent to.
func (q *QP) terminate(t *terminate) {
	if q.state != qpRTS {
		return
	}
	q.cause = t.fault
	q.tx.own()
	// Also on the passive side before the peer's first FPDU: it has sent
	// something now, so it listens.
	var b [maxTerminateLen]byte
	n := t.encode(b[:])
	q.control(&segment{op: opTerminate, last: true, qn: qnTerminate, msn: 1}, b[:n])
	q.toError(-int(unix.ECONNABORTED))
	q.home.pend(q)
	kind := verbs.DeviceQPRequestError
	switch {
	case t.fault == faultCatastrophic:
		kind = verbs.DeviceQPFatal
	case t.fault>>8 == faultSTag>>8 || t.fault>>8 == faultTaggedSTag>>8:
		kind = verbs.DeviceQPAccessError
	}
	q.dev.event(verbs.DeviceEvent{Kind: kind, QPN: q.num})
}

// lost ends the connection because TCP has: errno, or 0 when the peer closed
// it.
func (q *QP) lost(errno unix.Errno) {
	q.tx.drop()
	if q.state == qpRTS {
		q.cause = faultLost
		if errno == 0 && (q.rx.active || q.rx.w > q.rx.r) {
			errno = unix.ECONNRESET // in the middle of an FPDU
		}
		q.toError(-int(errno))
	}
	q.shut()
	q.home.detachQP(q)
}

// disconnect ends the connection from this side. What is formed is sent, the
// peer gets the end of the stream after it.
func (q *QP) disconnect() {
	switch q.state {
	case qpIdle:
		q.state = qpError
		q.flushSends()
		q.flushRecvs()
	case qpRTS:
		q.tx.own()
		q.toError(0)
		q.transmit()
	default:
	}
}

// toError moves to the error state: all work requests are completed, the
// connection manager is told.
func (q *QP) toError(status int) {
	q.state = qpError
	q.rx.active = false
	q.tx.respHead = q.tx.respTail
	q.flushSends()
	q.flushRecvs()
	q.conn.ended(status)
	q.home.pend(q)
}

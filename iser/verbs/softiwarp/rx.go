package softiwarp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

const (
	rxBufLen    = 64 << 10
	rxBufLenCRC = 192 << 10 // at least two FPDUs, which must be whole
	rxBulk      = 16 << 10  // payload that is worth a system call of its own
	rxMin       = 4 << 10   // read behind bulk: what follows is bulk, most likely
	rxStart     = 16 << 10
	rxDirect    = 2 << 10 // shorter rests of payload go through the buffer
	rxCalls     = 8       // system calls for one queue pair in one Poll
)

// receiver takes the stream apart. buf[r:w] is what came and was not used yet.
type receiver struct {
	buf    []byte
	r, w   int
	window int // how much of buf is received into
	msg    unix.Msghdr
	iov    []unix.Iovec
	pieces [][]byte

	any      bool // an FPDU has come
	zeroFPDU bool // the first one may be empty

	// The segment whose payload is awaited.
	active bool
	seg    segment
	ulpdu  int
	left   int // bytes of payload
	trail  int // padding and CRC after it

	// The header of the segment, for Terminate, and a Read Request in it.
	header  [untaggedLen + readReqLen]byte
	hasRead bool

	sendMSN, readMSN uint32 // expected
	cur              cursor // in the receive that is being filled
	got              uint32 // bytes of its message
}

func (x *receiver) init() {
	x.sendMSN, x.readMSN = 1, 1
	x.iov = make([]unix.Iovec, 0, maxSGE+1)
	x.pieces = make([][]byte, 0, maxSGE)
}

func (x *receiver) start(crc bool) {
	if crc {
		x.buf, x.window = make([]byte, rxBufLenCRC), rxBufLenCRC
		return
	}
	x.buf, x.window = make([]byte, rxBufLen), rxStart
}

// ready moves data because the socket is ready.
func (q *QP) ready(events uint32) {
	q.home.current = q
	if q.tx.blocked {
		q.transmit()
	}
	if events&^unix.EPOLLOUT != 0 {
		q.receive()
	}
	q.home.current = nil
}

// receive receives until the socket is empty, but not for ever.
func (q *QP) receive() {
	x := &q.rx
	for range rxCalls {
		if q.state != qpRTS {
			q.discard()
			return
		}
		direct, asked := q.buffers()
		if q.state != qpRTS {
			return
		}
		n, errno := recvmsg(q.fd, &x.msg, x.iov)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			q.lost(errno)
			return
		case n == 0:
			q.lost(0)
			return
		}
		if d := min(n, direct); d > 0 {
			q.placed(d)
			n -= d
			asked -= d
		}
		x.w += n
		q.parse()
		if n < asked {
			return
		}
		if x.window < len(x.buf) && x.window != rxMin {
			x.window *= 2
		}
	}
}

// buffers says where the next bytes go: to the destination of the payload
// that is awaited, when it is worth it, then to buf.
func (q *QP) buffers() (direct, asked int) {
	x := &q.rx
	if x.r > 0 {
		x.w = copy(x.buf, x.buf[x.r:x.w])
		x.r = 0
	}
	x.iov = x.iov[:0]
	if x.active && !q.crc && x.left >= rxDirect {
		direct = x.left
		pieces, f := q.target(direct)
		if f != noFault {
			q.failRx(f)
			return 0, 0
		}
		for _, p := range pieces {
			x.iov = append(x.iov, iovec(p))
		}
	}
	window := min(x.window, len(x.buf)-x.w)
	x.iov = append(x.iov, iovec(x.buf[x.w:x.w+window]))
	return direct, direct + window
}

// parse uses what is in buf as far as possible.
func (q *QP) parse() {
	for q.state == qpRTS {
		if q.rx.active {
			if !q.consume() {
				return
			}
			continue
		}
		if !q.begin() {
			return
		}
	}
}

// begin takes the header of the next segment; false when it is not there.
func (q *QP) begin() bool {
	x := &q.rx
	b := x.buf[x.r:x.w]
	if len(b) < fpduLenLen+1 {
		return false
	}
	ulpdu := int(binary.BigEndian.Uint16(b))
	if ulpdu == 0 {
		return q.emptyFPDU(b)
	}
	hl := headerLen(b[fpduLenLen])
	if ulpdu < hl {
		q.fail(faultFPDU)
		return false
	}
	pad := fpduPad(ulpdu)
	need := fpduLenLen + hl
	if q.crc {
		need = fpduLenLen + ulpdu + pad + fpduCRCLen
	}
	if len(b) < need {
		return false
	}
	if q.crc && updateCRC(0, b[:need-fpduCRCLen]) != getCRC(b[need-fpduCRCLen:]) {
		q.fail(faultCRC)
		return false
	}
	x.seg.decode(b[fpduLenLen:])
	copy(x.header[:hl], b[fpduLenLen:])
	x.ulpdu, x.left, x.trail, x.hasRead = ulpdu, ulpdu-hl, pad+fpduCRCLen, false
	if f := q.checkHeader(); f != noFault {
		q.failRx(f)
		return false
	}
	if x.seg.op == opReadRequest || x.seg.op == opTerminate {
		// Small, and not for the application's memory.
		if len(b) < fpduLenLen+ulpdu+x.trail {
			return false
		}
		x.r += fpduLenLen + ulpdu + x.trail
		q.controlMessage(b[fpduLenLen+hl : fpduLenLen+ulpdu])
		q.opened()
		return true
	}
	if f := q.checkSegment(); f != noFault {
		q.failRx(f)
		return false
	}
	if x.left >= rxBulk && !q.crc {
		x.window = rxMin
	} else if x.window == rxMin {
		x.window = rxStart
	}
	x.r += fpduLenLen + hl
	x.active = true
	return true
}

// emptyFPDU takes the RTR message that is an FPDU of length 0, RFC 6581
// section 6.
func (q *QP) emptyFPDU(b []byte) bool {
	const total = fpduLenLen + 2 + fpduCRCLen
	x := &q.rx
	if !x.zeroFPDU || x.any {
		q.fail(faultFPDU)
		return false
	}
	if len(b) < total {
		return false
	}
	if q.crc && updateCRC(0, b[:total-fpduCRCLen]) != getCRC(b[total-fpduCRCLen:]) {
		q.fail(faultCRC)
		return false
	}
	x.r += total
	q.opened()
	return true
}

// opened notes that the peer has sent an FPDU: it may be sent to (RFC 5044
// section 7.1.3).
func (q *QP) opened() {
	if q.rx.any {
		return
	}
	q.rx.any = true
	if !q.tx.open {
		q.tx.open = true
		q.home.pend(q)
	}
}

// consume takes payload and trailer of the segment; false when not all is
// there.
func (q *QP) consume() bool {
	x := &q.rx
	if x.left > 0 {
		n := min(x.w-x.r, x.left)
		if n == 0 {
			return false
		}
		pieces, f := q.target(n)
		if f != noFault {
			q.failRx(f)
			return false
		}
		for _, p := range pieces {
			x.r += copy(p, x.buf[x.r:x.w])
		}
		q.placed(n)
		if x.left > 0 {
			return false
		}
	}
	if x.w-x.r < x.trail {
		return false
	}
	x.r += x.trail
	x.active = false
	q.finish()
	q.opened()
	return true
}

// target returns the memory for the next n bytes of payload.
func (q *QP) target(n int) ([][]byte, fault) {
	x := &q.rx
	x.pieces = x.pieces[:0]
	var ok bool
	switch x.seg.op {
	case opWrite:
		mem, f := q.dev.stags.remote(q, x.seg.stag, x.seg.to, n, verbs.AccessRemoteWrite)
		if f != noFault {
			return nil, taggedFault(f)
		}
		x.pieces = append(x.pieces, mem)
		return x.pieces, noFault
	case opReadResponse:
		w := q.sq.read()
		x.pieces, ok = q.dev.gather(x.pieces, w.sge, w.rcur, n, verbs.AccessLocalWrite)
		if !ok {
			q.failSend(q.sq.reads[int(q.sq.readHead)&(len(q.sq.reads)-1)], verbs.WCLocalProtection, noFault)
			return nil, faultCatastrophic
		}
	default:
		w := q.rq.first()
		x.pieces, ok = q.dev.gather(x.pieces, w.sge, x.cur, n, verbs.AccessLocalWrite)
		if !ok {
			q.failRecv(verbs.WCLocalProtection)
			return nil, faultCatastrophic
		}
	}
	return x.pieces, noFault
}

// taggedFault is the fault of DDP for one of RDMAP. Access rights are known to
// RDMAP only (RFC 5040 section 8.2).
func taggedFault(f fault) fault {
	switch f {
	case faultSTag:
		return faultTaggedSTag
	case faultBounds:
		return faultTaggedBounds
	case faultSTagStream:
		return faultTaggedStream
	case faultTOWrap:
		return faultTaggedWrap
	default:
	}
	return f
}

// placed notes that n bytes are where they belong.
func (q *QP) placed(n int) {
	x := &q.rx
	x.left -= n
	switch x.seg.op {
	case opWrite:
		x.seg.to += uint64(n)
	case opReadResponse:
		w := q.sq.read()
		w.got += uint32(n)
		w.rcur.advance(w.sge, n)
	default:
		x.got += uint32(n)
		x.cur.advance(q.rq.first().sge, n)
	}
}

// discard throws away what comes after the end of the connection, so that
// closing it does not make TCP reset it before the peer has read our last
// words.
func (q *QP) discard() {
	if q.fd < 0 {
		return
	}
	for range rxCalls {
		n, errno := recv(q.fd, q.rx.buf)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			q.home.detachQP(q)
			return
		}
	}
}

package softiwarp

import (
	"unsafe"

	"golang.org/x/sys/unix"
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

	queued int    // bytes of data posted since the last transmit
	formed uint64 // position in the stream
	sent   uint64

	open     bool // the peer may be sent to
	blocked  bool // the socket is full and watched
	shut     bool // nothing more may be sent
	sending  bool // the message at sq.next is begun
	gathered bool // pieces are all of it

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
	t.sendMSN, t.readMSN, t.answer = 1, 1, true
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
	t.queued = 0
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

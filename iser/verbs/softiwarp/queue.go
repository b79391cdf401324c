package softiwarp

import (
	"unsafe"

	"github.com/iserd/iserd/iser/verbs"
)

// cursor is a place in a list of SGEs.
type cursor struct {
	i   int
	off uint32
}

// advance moves the cursor by n bytes.
func (c *cursor) advance(sge []verbs.SGE, n int) {
	for n > 0 && c.i < len(sge) {
		left := int(sge[c.i].Len - c.off)
		if n < left {
			c.off += uint32(n)
			return
		}
		n -= left
		c.i++
		c.off = 0
	}
}

// gather appends the memory of the n bytes from the cursor to dst; false when
// an SGE's region does not have it or does not allow acc.
func (d *Device) gather(dst [][]byte, sge []verbs.SGE, c cursor, n int, acc verbs.Access) ([][]byte, bool) {
	for n > 0 {
		if c.i >= len(sge) {
			return dst, false
		}
		s := &sge[c.i]
		if s.Len == c.off {
			c.i++
			c.off = 0
			continue
		}
		take := min(n, int(s.Len-c.off))
		mem := d.stags.local(s, c.off, take, acc)
		if mem == nil {
			return dst, false
		}
		dst = append(dst, mem)
		n -= take
		c.off += uint32(take)
	}
	return dst, true
}

// sendWR is a work request in the send queue.
type sendWR struct {
	id      uint64
	raddr   uint64
	end     uint64 // position in the stream after the last byte of it
	sge     []verbs.SGE
	inline  []byte // memory for inline data
	length  uint32
	rkey    uint32
	invKey  uint32
	sink    uint32 // STag of the sink of an RDMA Read
	got     uint32 // bytes of an RDMA Read that came
	rcur    cursor // where the next of them go
	window  *Window
	region  *region // to be bound
	op      verbs.Op
	flags   verbs.SendFlags
	inlined bool
	done    bool
}

// takeInline copies the data of sg. The keys do not matter, so the memory is
// not looked up (IBTA 11.4.1.1).
func (w *sendWR) takeInline(sg []verbs.SGE) {
	w.inlined = true
	b := w.inline[:0]
	for i := range sg {
		if sg[i].Len > 0 {
			b = append(b, memory(sg[i].Addr, int(sg[i].Len))...)
		}
	}
}

// memory is the memory at an address that an SGE gives. It is not Go's
// (package verbs), so the conversion hides no pointer from the collector.
func memory(addr uint64, n int) []byte {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&addr))
	return unsafe.Slice((*byte)(p), n)
}

// sendQueue is a ring of work requests: [head, acked) are in the socket and
// wait for earlier ones or are RDMA Reads, [acked, next) are formed, [next,
// tail) are to be done.
type sendQueue struct {
	wr                      []sendWR
	mask, limit             uint32
	head, acked, next, tail uint32
	reads                   []uint32 // ring of RDMA Reads that wait for data
	readHead, readTail      uint32
}

func (s *sendQueue) init(c verbs.QPCap) {
	n := powerOf2(c.MaxSendWR)
	s.wr = make([]sendWR, n)
	s.mask, s.limit = uint32(n-1), uint32(c.MaxSendWR)
	sges := make([]verbs.SGE, n*c.MaxSendSGE)
	inline := make([]byte, n*c.MaxInline)
	for i := range s.wr {
		s.wr[i].sge = sges[i*c.MaxSendSGE : i*c.MaxSendSGE : (i+1)*c.MaxSendSGE]
		s.wr[i].inline = inline[i*c.MaxInline : i*c.MaxInline : (i+1)*c.MaxInline]
	}
}

func (s *sendQueue) maxReads(ord int) { s.reads = make([]uint32, powerOf2(max(ord, 1))) }

func (s *sendQueue) at(i uint32) *sendWR { return &s.wr[i&s.mask] }

// push returns the next work request to be filled, or nil when full.
func (s *sendQueue) push() *sendWR {
	if s.tail-s.head >= s.limit {
		return nil
	}
	w := s.at(s.tail)
	s.tail++
	w.sge, w.inlined, w.done, w.got, w.rcur = w.sge[:0], false, false, 0, cursor{}
	w.window, w.region = nil, nil
	return w
}

// outstanding is how many RDMA Reads wait for data.
func (s *sendQueue) outstanding() int { return int(s.readTail - s.readHead) }

func (s *sendQueue) pushRead(i uint32) {
	s.reads[int(s.readTail)&(len(s.reads)-1)] = i
	s.readTail++
}

// read is the oldest RDMA Read that waits for data, or nil.
func (s *sendQueue) read() *sendWR {
	if s.readHead == s.readTail {
		return nil
	}
	return s.at(s.reads[int(s.readHead)&(len(s.reads)-1)])
}

// recvWR is a receive.
type recvWR struct {
	id     uint64
	sge    []verbs.SGE
	length uint64
}

// recvQueue is a ring of receives; the one at head is being filled.
type recvQueue struct {
	wr          []recvWR
	mask, limit uint32
	head, tail  uint32
}

func (r *recvQueue) init(c verbs.QPCap) {
	n := powerOf2(c.MaxRecvWR)
	r.wr = make([]recvWR, n)
	r.mask, r.limit = uint32(n-1), uint32(c.MaxRecvWR)
	sges := make([]verbs.SGE, n*c.MaxRecvSGE)
	for i := range r.wr {
		r.wr[i].sge = sges[i*c.MaxRecvSGE : i*c.MaxRecvSGE : (i+1)*c.MaxRecvSGE]
	}
}

func (r *recvQueue) push() *recvWR {
	if r.tail-r.head >= r.limit {
		return nil
	}
	w := &r.wr[r.tail&r.mask]
	r.tail++
	return w
}

// first is the receive to be filled, or nil.
func (r *recvQueue) first() *recvWR {
	if r.head == r.tail {
		return nil
	}
	return &r.wr[r.head&r.mask]
}

// sentUpTo notes how much of the stream is in the socket: everything formed
// before it is done, except for RDMA Reads.
func (q *QP) sentUpTo(pos uint64) {
	s := &q.sq
	for s.acked != s.next {
		w := s.at(s.acked)
		if w.end > pos {
			break
		}
		if w.op != verbs.OpRead {
			w.done = true
		}
		s.acked++
	}
	q.retire()
}

// retire completes work requests, in order.
func (q *QP) retire() {
	s := &q.sq
	for s.head != s.acked {
		w := s.at(s.head)
		if !w.done {
			return
		}
		s.head++
		if w.flags&verbs.SendSignaled == 0 {
			continue
		}
		wc := verbs.WC{ID: w.id, QPN: q.num, Op: w.op}
		if w.op == verbs.OpRead {
			wc.Len = w.length
		}
		q.sendCQ.push(wc)
	}
}

// flushSends completes all of the send queue in the error state. What is behind
// a work request that is not done counts as not done.
func (q *QP) flushSends() {
	q.retire()
	s := &q.sq
	for ; s.head != s.tail; s.head++ {
		w := s.at(s.head)
		q.sendCQ.push(verbs.WC{ID: w.id, QPN: q.num, Op: w.op, Status: verbs.WCFlushed, VendorErr: uint32(q.cause)})
	}
	s.acked, s.next = s.tail, s.tail
	s.readHead = s.readTail
}

func (q *QP) flushRecvs() {
	for r := &q.rq; r.head != r.tail; r.head++ {
		w := &r.wr[r.head&r.mask]
		q.home.push(verbs.WC{ID: w.id, QPN: q.num, Op: verbs.OpRecv, Status: verbs.WCFlushed, VendorErr: uint32(q.cause)})
	}
}

// failSend completes work request i of the send queue with an error, and what
// is before it, because completions are in order (IBTA 10.8.5). The caller
// fails the queue pair then.
func (q *QP) failSend(i uint32, status verbs.Status, vendor fault) {
	s := &q.sq
	q.retire()
	for ; s.head != i; s.head++ {
		w := s.at(s.head)
		q.sendCQ.push(verbs.WC{ID: w.id, QPN: q.num, Op: w.op, Status: verbs.WCFlushed, VendorErr: uint32(vendor)})
	}
	w := s.at(i)
	q.sendCQ.push(verbs.WC{ID: w.id, QPN: q.num, Op: w.op, Status: status, VendorErr: uint32(vendor)})
	s.head++
	s.acked = s.head
}

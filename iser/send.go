package iser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu"
)

const (
	// maxSendData is the longest data segment of a control-type PDU to the
	// initiator in the full feature phase of a normal session: the known
	// initiators have receives of that size, whatever they negotiate.
	maxSendData = 128
	slotSize    = 256
	// postEvery is how many work requests are queued at most within a turn
	// before they are posted.
	postEvery = 16
	// inlineLen is the length of a message without a data segment. An adapter takes
	// it with the work request, and need not fetch it from memory.
	inlineLen = HeaderLen + pdu.BHSLen
	// signalEvery is how many messages have one completion. One for each would
	// wake the pump twice for a command; the memory of a few that are sent can
	// wait.
	signalEvery = 16
)

// sendSlot is the memory of one message to be sent.
type sendSlot struct {
	mem    []byte
	lkey   uint32
	task   *iscsi.Task  // sends a logical unit's own memory before: ends with the message
	data   *bufpool.Buf // of a task that has ended: goes before the message
	direct int          // bytes of it that are a logical unit's own memory
	held   held         // where the device finds that
	late   bool         // see look
	buf    *bufpool.Buf // mem, when it is of this message alone
}

// sendQueue is what waits to be posted, in order, and what is posted.
type sendQueue struct {
	slots []sendSlot
	free  []int // slots of slotSize
	large []int // slots without memory

	queue []verbs.SendWR // not posted yet
	sge   []verbs.SGE    // of queue, one for each

	cap    int   // work requests that the queue pair takes
	inline int   // bytes that it takes inline
	used   int   // of them posted and not completed
	posted []int // slots of messages posted, in order
	covers []int // for each signaled work request, how many it completes
	since  int   // posted since the last signaled one
	silent int   // messages queued since the last signaled one
	direct int   // bytes of logical units' memory that wait or are posted
}

func (q *sendQueue) waiting() bool { return len(q.queue) > 0 }

// completed accounts for a signaled completion and the silent ones before it.
func (q *sendQueue) completed() {
	if len(q.covers) == 0 {
		return
	}
	q.used -= q.covers[0]
	q.covers = append(q.covers[:0], q.covers[1:]...)
}

func (c *Conn) maxSends() int { return c.qp.Cap().MaxSendWR - 2 }

// addSends adds n slots for messages of the full feature phase.
func (c *Conn) addSends(n int) error {
	b := c.account.Get(n * slotSize)
	if b == nil {
		return errMemory
	}
	c.memory = append(c.memory, b)
	lkey, ok := c.pump.dev.pool.LKey(b.B)
	if !ok {
		return errMemory
	}
	for i := range n {
		c.send.free = append(c.send.free, len(c.send.slots))
		c.send.slots = append(c.send.slots, sendSlot{mem: b.B[i*slotSize : (i+1)*slotSize : (i+1)*slotSize], lkey: lkey})
	}
	return nil
}

// takeSlot returns a slot with memory for n bytes, -1 when there is none.
func (c *Conn) takeSlot(n int) int {
	q := &c.send
	if n <= slotSize && len(q.free) > 0 {
		s := q.free[len(q.free)-1]
		q.free = q.free[:len(q.free)-1]
		return s
	}
	b := c.account.Get(n)
	if b == nil {
		return -1
	}
	lkey, _ := c.pump.dev.pool.LKey(b.B)
	if len(q.large) == 0 {
		q.large = append(q.large, len(q.slots))
		q.slots = append(q.slots, sendSlot{})
	}
	s := q.large[len(q.large)-1]
	q.large = q.large[:len(q.large)-1]
	q.slots[s] = sendSlot{mem: b.B, lkey: lkey, buf: b}
	return s
}

// sentUpTo takes back slot s and those of the messages posted before it.
func (c *Conn) sentUpTo(s int) {
	q := &c.send
	i := slices.Index(q.posted, s)
	for _, x := range q.posted[:i+1] {
		c.sent(x)
	}
	q.posted = append(q.posted[:0], q.posted[i+1:]...)
}

// sent takes a slot back, and ends the task whose data went before it.
func (c *Conn) sent(s int) {
	q := &c.send
	slot := &q.slots[s]
	t := slot.task
	slot.task = nil
	q.direct -= slot.direct
	slot.direct, slot.late = 0, false
	slot.held.drop()
	if slot.data != nil {
		slot.data.Release()
		slot.data = nil
	}
	if slot.buf != nil {
		slot.buf.Release()
		*slot = sendSlot{}
		q.large = append(q.large, s)
	} else {
		q.free = append(q.free, s)
	}
	if t != nil {
		t.DataDone()
	}
}

// push queues a work request for one piece of memory.
func (q *sendQueue) push(w verbs.SendWR, sge verbs.SGE) {
	q.queue = append(q.queue, w)
	q.sge = append(q.sge, sge)
}

// pushSend queues the message of slot s, n bytes long; inv is the steering tag
// that it invalidates, or 0.
func (c *Conn) pushSend(s, n int, inv uint32) {
	slot := &c.send.slots[s]
	w := verbs.SendWR{ID: c.wrID(wrSend, s), Op: verbs.OpSend}
	if c.send.silent++; !c.normal || slot.buf != nil || slot.task != nil || c.send.silent >= signalEvery {
		w.Flags = verbs.SendSignaled
		c.send.silent = 0
	}
	if n <= c.send.inline {
		w.Flags |= verbs.SendInline
	}
	if inv != 0 {
		w.Op, w.InvKey = verbs.OpSendInv, inv
	}
	c.send.push(w, verbs.SGE{Addr: verbs.Addr(slot.mem), Len: uint32(n), LKey: slot.lkey})
}

// SendControl implements iscsi.Datamover.
func (c *Conn) SendControl(h *pdu.BHS, data []byte) { c.control(h, data, nil, 0) }

// SendResponse implements iscsi.RDMA.
func (c *Conn) SendResponse(t *iscsi.Task, h *pdu.BHS, data []byte) {
	c.control(h, data, nil, c.invKey(t))
}

// invKey is the steering tag that the response of t invalidates: that for
// data-in, else that for data-out, of the command's own header; 0 where it is
// not agreed on.
func (c *Conn) invKey(t *iscsi.Task) uint32 {
	switch {
	case !c.invalidate:
		return 0
	case t.Remote.ReadSTag != 0:
		return t.Remote.ReadSTag
	}
	return t.Remote.WriteSTag
}

// control queues a control-type PDU and returns its slot, -1 when the connection is
// over.
func (c *Conn) control(h *pdu.BHS, data []byte, t *iscsi.Task, inv uint32) int {
	if c.closed || c.err != nil {
		if t != nil {
			t.DataDone()
		}
		return -1
	}
	if c.normal && len(data) > maxSendData && h.Opcode() == pdu.OpSCSIResponse {
		data = cutSense(h, data)
	}
	c.engine.Count(h.Opcode())
	n := HeaderLen + pdu.BHSLen + len(data)
	s := c.takeSlot(n)
	if s < 0 {
		c.fail(errMemory)
		if t != nil {
			t.DataDone()
		}
		return -1
	}
	slot := &c.send.slots[s]
	(&Header{}).Encode(slot.mem)
	copy(slot.mem[HeaderLen:], h[:])
	copy(slot.mem[HeaderLen+pdu.BHSLen:], data)
	if tap := c.engine.Tap(); tap != nil {
		tap.PDU((*pdu.BHS)(slot.mem[HeaderLen:]), nil, data, iscsi.TapOut) // h stays on the stack
	}
	slot.task = t
	c.pushSend(s, n, inv)
	return s
}

// cutSense shortens sense data to what the initiator has room for, with its
// length in front.
func cutSense(h *pdu.BHS, data []byte) []byte {
	data = data[:maxSendData]
	binary.BigEndian.PutUint16(data, maxSendData-2)
	h.SetDataSegmentLength(maxSendData)
	return data
}

// PutData implements iscsi.Datamover: RDMA Writes, and the SCSI Response behind
// them, which the initiator sees when it has all the data.
func (c *Conn) PutData(t *iscsi.Task) {
	if c.closed || c.err != nil {
		t.DataDone()
		return
	}
	if t.Remote.ReadSTag == 0 {
		c.fail(errNoReadSTag)
		t.DataDone()
		return
	}
	data := t.DataIn()
	lkey, ok := c.pump.dev.pool.LKey(data)
	var direct held
	if !ok {
		if direct, ok = c.reachRead(data); !ok {
			data = t.Detach()
			if lkey, ok = c.pump.dev.pool.LKey(data); !ok {
				t.Refuse()
				return
			}
		}
	}
	c.putWrites(t, data, lkey, direct)
	if c.engine.Tap() != nil {
		c.tapDataIn(t, data)
	}
	var h pdu.BHS
	c.engine.EncodeResponse(&h, t)
	c.putResponse(&h, t, data, direct)
	if c.inTurn && len(c.send.queue) >= postEvery && c.err == nil {
		c.post()
	}
}

// reachRead gives a READ direct access to the logical unit's memory, where that is
// worth it.
func (c *Conn) reachRead(data []byte) (h held, ok bool) {
	d := c.pump.dev
	if len(data) > maxDirect || c.send.direct+len(data) > maxDirectTotal || len(data) < d.minRead() {
		return h, false
	}
	return d.reach(data)
}

// putWrites queues the RDMA Writes of a task's data, which is in the memory of the key
// or, if there are, in the chunks.
func (c *Conn) putWrites(t *iscsi.Task, data []byte, lkey uint32, direct held) {
	for off, n := 0, 0; off < len(data); off += n {
		n = min(len(data)-off, c.pump.dev.maxMessage)
		if direct[0] != nil {
			var left int
			lkey, left = direct.key(verbs.Addr(data[off:]))
			n = min(n, left)
		}
		part := data[off : off+n]
		c.send.push(verbs.SendWR{
			ID: c.wrID(wrWrite, 0), Op: verbs.OpWrite,
			RAddr: t.Remote.ReadBase + uint64(off), RKey: t.Remote.ReadSTag,
		}, verbs.SGE{Addr: verbs.Addr(part), Len: uint32(len(part)), LKey: lkey})
	}
}

// putResponse queues the response behind a task's data. A task whose data is in a
// buffer ends here; one that sends a logical unit's own memory when that is sent.
func (c *Conn) putResponse(h *pdu.BHS, t *iscsi.Task, data []byte, direct held) {
	inv := c.invKey(t)
	if direct[0] != nil {
		s := c.control(h, nil, t, inv)
		if s < 0 {
			// The connection is over: what is queued is never posted.
			direct.drop()
			return
		}
		c.send.slots[s].direct, c.send.slots[s].held = len(data), direct
		c.send.direct += len(data)
		return
	}
	buf := t.Surrender()
	t.DataDone()
	if s := c.control(h, nil, nil, inv); s >= 0 {
		c.send.slots[s].data = buf
		return
	}
	c.lost = append(c.lost, buf)
}

// post gives the queue pair what is queued: receives first, so that a response
// never tells the initiator of a credit that is not there yet.
func (c *Conn) post() {
	c.postRecvs()
	c.postReads()
	q := &c.send
	if !c.open || len(q.queue) == 0 || c.err != nil {
		return
	}
	n := min(len(q.queue), q.cap-q.used)
	if n == 0 {
		return
	}
	if q.since+n >= q.cap/2 {
		q.queue[n-1].Flags |= verbs.SendSignaled // or the room would not come back
	}
	for i := range n {
		q.queue[i].SG = q.sge[i : i+1 : i+1]
	}
	done, err := c.qp.PostSend(q.queue[:n])
	q.used += done
	for i := range done {
		q.since++
		if id := wrID(q.queue[i].ID); id.op() == wrSend {
			q.posted = append(q.posted, id.index())
		}
		if q.queue[i].Flags&verbs.SendSignaled != 0 {
			q.covers = append(q.covers, q.since)
			q.since = 0
		}
	}
	rest := copy(q.queue, q.queue[done:])
	clear(q.queue[rest:])
	q.queue = q.queue[:rest]
	q.sge = append(q.sge[:0], q.sge[done:]...)
	if err != nil && !errors.Is(err, verbs.ErrQueueFull) {
		c.fail(fmt.Errorf("%w: %w", errPosting, err))
	}
}

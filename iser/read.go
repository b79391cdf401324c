package iser

import (
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/iser/verbs"
)

// maxRead is the longest RDMA Read: longer transfers are cut, so that those of
// several tasks go on side by side.
const maxRead = 256 << 10

// transfer is the data-out of a task that is being read from the initiator.
type transfer struct {
	task  *iscsi.Task
	dst   []byte // the part of the task's memory that is to be filled
	lkey  uint32
	held  held // of dst, when it is a logical unit's own memory
	next  int  // bytes asked for
	under int  // RDMA Reads under way
	dead  bool
	lost  bool // a Read failed
	queue bool // in readQueue.queue
	late  bool // see look
}

// readQueue are the transfers of a connection.
type readQueue struct {
	transfers []transfer
	free      []int
	queue     []int // with something to be asked for, in turn
	under     int   // RDMA Reads posted or queued
	ended     []int // dead with nothing under way: to be told
	direct    int   // bytes on their way to logical units' memory
}

// GetData implements iscsi.Datamover: RDMA Reads of what is missing. The write
// base offset is where that begins: initiators advance it past what they send
// unsolicited.
func (c *Conn) GetData(t *iscsi.Task) {
	switch {
	case c.closed || c.err != nil:
		return
	case t.Remote.WriteSTag == 0:
		c.fail(errNoWriteSTag)
		return
	case c.depth == 0:
		c.fail(errNoIRD)
		return
	}
	dst := t.Place(t.Received(), t.Expected()-t.Received())
	lkey, ok := c.pump.dev.pool.LKey(dst)
	if !ok {
		t.Arrived(0)
		c.fail(errMemory)
		return
	}
	c.transfer(transfer{task: t, dst: dst, lkey: lkey})
}

// GetInto implements iscsi.RDMA: GetData, straight to the logical unit's memory. What
// is not worth it is known before the range is locked.
func (c *Conn) GetInto(t *iscsi.Task) []byte {
	n := t.Expected() - t.Received()
	if c.pump.dev.software || c.closed || c.err != nil || t.Remote.WriteSTag == 0 || c.depth == 0 ||
		n < minDirectWrite || n > maxDirect || c.read.direct+n > maxDirectTotal {
		return nil
	}
	mem := t.Land()
	if mem == nil {
		return nil
	}
	dst := mem[t.Received():]
	h, ok := c.pump.dev.reach(dst)
	if !ok {
		t.Unland()
		return nil
	}
	c.read.direct += n
	c.transfer(transfer{task: t, dst: dst, held: h})
	return mem
}

// transfer has the RDMA Reads of x posted in turn.
func (c *Conn) transfer(x transfer) {
	q := &c.read
	i := len(q.transfers)
	if n := len(q.free); n > 0 {
		i, q.free = q.free[n-1], q.free[:n-1]
	} else {
		q.transfers = append(q.transfers, transfer{})
	}
	if c.engine.Tap() != nil {
		c.tapR2T(x.task, len(x.dst))
	}
	x.queue = true
	q.transfers[i] = x
	q.queue = append(q.queue, i)
}

// postReads queues RDMA Reads as far as the initiator answers them at a time.
func (c *Conn) postReads() {
	q := &c.read
	for len(q.queue) > 0 && q.under < c.depth {
		i := q.queue[0]
		q.queue = append(q.queue[:0], q.queue[1:]...)
		t := &q.transfers[i]
		n := min(len(t.dst)-t.next, maxRead, c.pump.dev.maxMessage)
		if t.held[0] != nil {
			var left int
			t.lkey, left = t.held.key(verbs.Addr(t.dst[t.next:]))
			n = min(n, left)
		}
		c.send.push(verbs.SendWR{
			ID: c.wrID(wrRead, i), Op: verbs.OpRead, Flags: verbs.SendSignaled,
			RAddr: t.task.Remote.WriteBase + uint64(t.next), RKey: t.task.Remote.WriteSTag,
		}, verbs.SGE{Addr: verbs.Addr(t.dst[t.next:]), Len: uint32(n), LKey: t.lkey})
		t.next += n
		t.under++
		q.under++
		if t.queue = t.next < len(t.dst); t.queue {
			q.queue = append(q.queue, i)
		}
	}
}

// readDone takes the completion of an RDMA Read of transfer i.
func (c *Conn) readDone(i int, good bool) {
	q := &c.read
	t := &q.transfers[i]
	t.under--
	q.under--
	t.lost = t.lost || !good
	c.endTransfer(i)
}

// endTransfer ends a transfer that has nothing under way and nothing to come.
func (c *Conn) endTransfer(i int) {
	q := &c.read
	t := &q.transfers[i]
	switch {
	case t.under > 0, t.queue && !c.closed && !t.lost:
		return
	case t.queue:
		c.unqueue(i)
	}
	task, n := t.task, len(t.dst)
	if t.dead || t.lost || t.next < n {
		n = 0
	}
	if n > 0 && c.engine.Tap() != nil {
		c.tapDataOut(task, t.dst)
	}
	if t.held[0] != nil {
		t.held.drop()
		q.direct -= len(t.dst)
	}
	*t = transfer{}
	q.free = append(q.free, i)
	task.Arrived(n)
}

func (c *Conn) unqueue(i int) {
	q := &c.read
	q.transfers[i].queue = false
	for j, x := range q.queue {
		if x == i {
			q.queue = append(q.queue[:j], q.queue[j+1:]...)
			return
		}
	}
}

// Forget implements iscsi.Datamover: no further RDMA Read is posted for t. Those
// that are under way can't be called back; t hears of Arrived when they have
// landed.
func (c *Conn) Forget(t *iscsi.Task) {
	q := &c.read
	for i := range q.transfers {
		x := &q.transfers[i]
		if x.task != t {
			continue
		}
		x.dead = true
		c.unqueue(i)
		if x.under == 0 {
			q.ended = append(q.ended, i) // told by settle: the caller is not through
		}
		return
	}
}

// settle tells the tasks that were forgotten with nothing under way.
func (c *Conn) settle() {
	q := &c.read
	for len(q.ended) > 0 {
		i := q.ended[len(q.ended)-1]
		q.ended = q.ended[:len(q.ended)-1]
		c.endTransfer(i)
	}
}

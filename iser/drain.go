package iser

import (
	"fmt"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/iser/verbs"
)

// completions is how many the connection's queue pair may have under way.
func (c *Conn) completions() int {
	q := c.qp.Cap()
	return q.MaxSendWR + q.MaxRecvWR
}

// accept answers the request. On iWARP and InfiniBand alike the initiator may
// send from now on.
func (c *Conn) accept() error {
	caps := c.pump.dev.caps
	err := c.vc.Accept(verbs.ConnParam{
		Private:            replyPrivate(c.invalidate),
		ResponderResources: uint8(min(1, caps.MaxRDAtom)), // nobody reads from a target
		InitiatorDepth:     uint8(c.depth),
		RetryCount:         7,
		RNRRetryCount:      7, // for ever: a belt, the credits are the trousers
	})
	if err != nil {
		return fmt.Errorf("iser: %w", err)
	}
	c.accepted = true
	return nil
}

// drain handles completions when the context is gone: memory comes back, and
// nothing else happens.
func (c *Conn) drain() {
	t := &c.turn
	for t.done < len(t.wc) {
		id := wrID(t.wc[t.done].ID)
		t.done++
		switch id.op() {
		case wrRecv:
			c.recv.posted--
		case wrSend:
			c.sentUpTo(id.index())
		case wrRead:
			c.readDone(id.index(), false)
		case wrDrain:
			c.drained = true
		default:
		}
	}
	clear(t.wc)
	t.wc, t.done = t.wc[:0], 0
	c.settle()
}

// release frees everything, when nothing of it is under way any more: also what
// has no completion, because it was never posted or because the queue pair is
// gone.
func (c *Conn) release() {
	c.send.queue, c.send.sge = nil, nil
	for i := range c.read.transfers {
		if x := &c.read.transfers[i]; x.task != nil {
			x.under, x.lost = 0, true
			c.endTransfer(i)
		}
	}
	c.settle()
	for i := range c.send.slots {
		s := &c.send.slots[i]
		if t := s.task; t != nil {
			s.task = nil
			t.DataDone()
		}
		s.held.drop()
		for _, b := range []*bufpool.Buf{s.buf, s.data} {
			if b != nil {
				b.Release()
			}
		}
		s.buf, s.data = nil, nil
	}
	for _, b := range append(c.memory, c.lost...) {
		if b != nil {
			b.Release()
		}
	}
	c.memory, c.lost = nil, nil
	c.account.Close()
}

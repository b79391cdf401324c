package iser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/iser/pool"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu/login"
)

// Conn moves the PDUs and data of one iSCSI connection over a queue pair. It
// implements iscsi.Datamover and iscsi.RDMA. Bind and Start come first; then Turn
// and all other methods but Pool and the addresses belong to the connection's
// context.
type Conn struct {
	pump    *Pump
	vc      verbs.Conn
	qp      verbs.QP
	engine  *iscsi.Conn
	account *pool.Account
	slot    int
	gen     uint32
	run     func(*Turn) bool
	turn    Turn

	depth      int  // RDMA Reads under way at most: the initiator's IRD
	invalidate bool // Send with Invalidate is agreed on
	normal     bool // a normal session in the full feature phase: small sends
	hello      bool // a Hello is to come first
	accepted   bool
	open       bool // established: sends may be posted
	inTurn     bool
	closed     bool
	lingering  bool
	err        error

	early   []received // receives completed before EventEstablished
	recv    recvQueue
	send    sendQueue
	read    readQueue
	memory  []*bufpool.Buf // of receives and sends
	lost    []*bufpool.Buf // of tasks whose response could not be queued: the Writes may be posted
	kicked  atomic.Bool
	drained bool // of the pump, once the context is gone
	phase   phase
}

// phase is how far a connection is for its pump.
type phase uint8

const (
	fresh    phase = iota // Start has not come yet
	live                  // turns run in the context
	orphaned              // the context is gone or going; Close has not come yet
	draining              // Close has come: the queue pair is being flushed
	closing               // the queue pair is being destroyed
	over
)

// Turn is a batch of completions, to be handled in the connection's context by
// Conn.Turn.
type Turn struct {
	wc    []verbs.WC
	done  int  // completions that are handled
	start bool // post the first receives and accept
	// up and down are events of connection management.
	up   bool
	down bool
	look bool // at what the connection has of logical units' memory
	Err  error
}

// Errors that end a connection.
var (
	errDisconnected = fmt.Errorf("disconnected: %w", io.EOF)
	errNoWriteSTag  = errors.New("iser: a write without a Write STag for the data that is missing")
	errNoReadSTag   = errors.New("iser: a read without a Read STag")
	errNoIRD        = errors.New("iser: the initiator answers no RDMA Reads")
	errPosting      = errors.New("iser: cannot post")
	errMemory       = errors.New("iser: no registered memory for sends and receives")
	errUnexpected   = errors.New("iser: unexpected Hello")
	errOverstayed   = errors.New("iser: data of the initiator's, on its way for more than a second, keeps a logical unit from being closed")
)

// Bind names the iSCSI layer above. It comes before Start.
func (c *Conn) Bind(e *iscsi.Conn) { c.engine = e }

// Pool is where tasks of the connection have their memory.
func (c *Conn) Pool() iscsi.Pool { return c.account }

// Start accepts the connection and has run called with its turns, by the pump's
// goroutine. run must have Turn called with its argument in the connection's
// context, and reports false when that context is gone; Close must have been
// called in it by then, or soon.
func (c *Conn) Start(run func(*Turn) bool) {
	c.pump.push(request{kind: reqStart, c: c, run: run})
}

// Turn handles a batch of completions in the connection's context.
func (c *Conn) Turn(t *Turn) {
	if c.closed {
		t.Err = net.ErrClosed
		return
	}
	c.inTurn = true
	if t.start {
		t.start = false
		c.begin()
	}
	if t.up {
		t.up = false
		c.established()
	}
	for t.done < len(t.wc) {
		wc := &t.wc[t.done]
		t.done++
		c.complete(wc)
	}
	if t.look {
		t.look = false
		c.look()
	}
	if t.down && c.err == nil {
		c.err = errDisconnected
	}
	c.settle()
	if c.err == nil {
		c.post()
	}
	c.inTurn = false
	t.Err = c.err
}

// begin posts the receives of the login and accepts the connection.
func (c *Conn) begin() {
	c.postRecvs()
	if c.err == nil {
		if err := c.accept(); err != nil {
			c.fail(err)
		}
	}
}

// established lets sends go, and has the PDUs handled that were faster than the
// event.
func (c *Conn) established() {
	if c.open {
		return
	}
	c.open = true
	early := c.early
	c.early = nil
	for _, r := range early {
		c.received(r.index, r.n)
	}
}

// complete handles one completion.
func (c *Conn) complete(wc *verbs.WC) {
	id := wrID(wc.ID)
	if wc.Status != verbs.WCSuccess {
		c.failed(wc)
		return
	}
	switch id.op() {
	case wrRecv:
		c.recv.posted--
		if !c.open {
			c.early = append(c.early, received{id.index(), int(wc.Len)})
			_ = c.vc.CommEst()
			return
		}
		c.received(id.index(), int(wc.Len))
	case wrSend:
		c.send.completed()
		c.sentUpTo(id.index())
	case wrWrite:
		c.send.completed()
	case wrRead:
		c.send.completed()
		c.readDone(id.index(), true)
	case wrDrain:
		c.drained = true
	}
}

// look ends the connection if data of its own straight from or to a logical unit that
// is to be closed has been on its way since the look before: the initiator may have
// gone, and the unit's owner does not wait for long.
func (c *Conn) look() {
	late := func(t *iscsi.Task, before *bool) {
		if !t.Unwanted() {
			return
		}
		if *before {
			c.fail(errOverstayed)
		}
		*before = true
	}
	for i := range c.read.transfers {
		if x := &c.read.transfers[i]; x.held[0] != nil {
			late(x.task, &x.late)
		}
	}
	for i := range c.send.slots {
		if s := &c.send.slots[i]; s.task != nil {
			late(s.task, &s.late)
		}
	}
}

// failed handles a completion with an error: its memory is ours again, and the
// connection is over. The first error tells why, the others are flushes.
func (c *Conn) failed(wc *verbs.WC) {
	id := wrID(wc.ID)
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
	if c.err != nil && !errors.Is(c.err, errDisconnected) {
		return
	}
	if wc.Status == verbs.WCFlushed {
		c.err = errDisconnected
		return
	}
	c.err = fmt.Errorf("iser: %v: %v (vendor error %#x)", id.op(), wc.Status, wc.VendorErr)
}

// String names the operation.
func (o wrOp) String() string {
	switch o {
	case wrRecv:
		return "receive"
	case wrSend:
		return "send"
	case wrWrite:
		return "RDMA Write"
	case wrRead:
		return "RDMA Read"
	case wrDrain:
		return "drain"
	}
	return fmt.Sprintf("wrOp(%d)", uint8(o))
}

// fail ends the connection at the end of the turn.
func (c *Conn) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Flush implements iscsi.Datamover.
func (c *Conn) Flush() {
	if c.closed {
		return
	}
	if c.inTurn {
		if c.err == nil {
			c.post()
		}
		return
	}
	c.settle()
	if c.send.waiting() || len(c.recv.idle) > 0 || c.err != nil {
		c.pump.kick(c)
	}
}

// EnableDatamover implements iscsi.Datamover: the receives of the full feature
// phase are posted before the response that is queued goes out.
func (c *Conn) EnableDatamover(p *login.Params) {
	c.normal = p.RDMAExtensions
	c.hello = p.ISERHelloRequired && p.RDMAExtensions
	if err := c.enlarge(p); err != nil {
		c.fail(err)
	}
}

// Lingering reports whether the connection is ending in order.
func (c *Conn) Lingering() bool { return c.lingering }

// Shutdown ends the connection in order: what is queued goes out, nothing more is
// taken, and the initiator is expected to disconnect.
func (c *Conn) Shutdown() { c.lingering = true }

// Close gives the connection to its pump, in its context: it goes to the error
// state, and its memory is free when nothing of it is under way any more. Tasks
// under way get DataDone or Arrived then. The context must not be used by the
// connection afterwards; the engine is closed by its owner.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.pump.push(request{kind: reqRetire, c: c})
}

// RemoteAddr and LocalAddr are those of the connection manager.
func (c *Conn) RemoteAddr() net.Addr { return tcpAddr(c.vc.Peer()) }

// LocalAddr is the address the peer has connected to.
func (c *Conn) LocalAddr() net.Addr { return tcpAddr(c.vc.Local()) }

func tcpAddr(a netip.AddrPort) net.Addr { return net.TCPAddrFromAddrPort(a) }

// Invalidates reports whether Send with Invalidate is agreed on.
func (c *Conn) Invalidates() bool { return c.invalidate }

var (
	_ iscsi.Datamover = (*Conn)(nil)
	_ iscsi.RDMA      = (*Conn)(nil)
)

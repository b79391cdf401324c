package iser

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/pool"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu"
)

const (
	// LoginRecv is the length of the receive for a Login Response, and of those of
	// a discovery session.
	LoginRecv = iser.HeaderLen + pdu.BHSLen + 8192
	// Recv is the length of a receive in the full feature phase.
	Recv = iser.HeaderLen + pdu.BHSLen + 128

	queueDepth = 512
)

// Options shape a connection. The zero value is good.
type Options struct {
	// Memory bounds the registered memory, in bytes; 256 MiB.
	Memory int64
	// Depth is the number of RDMA Reads by the target that are answered at a
	// time; 16.
	Depth int
	// Invalidate says that Send with Invalidate is accepted. Tasks then use memory
	// windows where the device has them.
	Invalidate bool
	// Private replaces the private data of the request if it is not nil.
	Private []byte
	// Spin is for how long the connection polls before it sleeps.
	Spin time.Duration
	// Linger is for how long Close waits for the target to end the connection
	// first; by default 50 ms after a logout, else 0. Linux's isert over siw
	// needs it: when the initiator is gone before a response is accounted for
	// there as sent, it never lets go of the connection, warns
	// ("iscsit_release_cmd"), and takes no further login.
	Linger time.Duration
}

// Conn is a connection for iSER messages. Its methods are for one goroutine, the
// owner of its completion queue, except for Wake and Disconnected.
type Conn struct {
	cm     verbs.CM
	vc     verbs.Conn
	qp     verbs.QP
	cq     verbs.CQ
	poller *verbs.Poller
	pool   *pool.Pool
	mem    *pool.Account

	// Reply is the private data that the target answered with.
	Reply []byte

	recvs    []*bufpool.Buf
	recvLen  []int
	sends    []*bufpool.Buf
	freeSend []int
	held     []*bufpool.Buf // released when the connection is closed
	wc       [64]verbs.WC
	posted   int // receives

	stopCM context.CancelFunc
	cmDone chan struct{}
	down   chan struct{}
	once   sync.Once
	closed bool
	logout bool // the last message was a Logout Response
	linger time.Duration
	spoken time.Time // when the first message was sent, or the last nudge
	heard  bool      // the target has sent a message
}

// Message is what has completed: one received, or the failure of the queue pair.
type Message struct {
	Data        []byte // valid until the next Poll
	Invalidated bool
	InvKey      uint32
}

// ErrBroken means: the connection has ended.
var ErrBroken = errors.New("initiator/iser: connection is broken")

// Open connects to addr over prov, with the receive for the first message posted.
func Open(ctx context.Context, prov verbs.Provider, addr netip.AddrPort, o Options) (*Conn, error) {
	if o.Memory == 0 {
		o.Memory = 256 << 20
	}
	if o.Depth == 0 {
		o.Depth = 16
	}
	cm, err := prov.NewCM()
	if err != nil {
		return nil, fmt.Errorf("initiator/iser: %w", err)
	}
	c := &Conn{cm: cm, linger: o.Linger, down: make(chan struct{}), cmDone: make(chan struct{})}
	if err := c.build(ctx, addr, &o); err != nil {
		close(c.cmDone)
		_ = c.free() // the error that led here is the one to report
		return nil, err
	}
	if err := c.connect(ctx, &o); err != nil {
		close(c.cmDone)
		_ = c.free() // the error that led here is the one to report
		return nil, err
	}
	cmCtx, cancel := context.WithCancel(context.Background())
	c.stopCM = cancel
	go c.watch(cmCtx)
	return c, nil
}

func (c *Conn) build(ctx context.Context, addr netip.AddrPort, o *Options) error {
	var err error
	if c.vc, err = c.cm.Dial(ctx, netip.Addr{}, addr); err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	dev := c.vc.Device()
	if c.cq, err = dev.NewCQ(4 * queueDepth); err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	if c.poller, err = verbs.NewPoller(c.cq, o.Spin); err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	depth := min(queueDepth, dev.Caps().MaxWR)
	c.qp, err = c.vc.NewQP(verbs.QPConfig{SendCQ: c.cq, RecvCQ: c.cq, QPCap: verbs.QPCap{
		MaxSendWR: depth, MaxRecvWR: depth, MaxSendSGE: 2, MaxRecvSGE: 1,
	}})
	if err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	access := verbs.AccessLocalWrite | verbs.AccessRemoteRead | verbs.AccessRemoteWrite
	if dev.Caps().Windows {
		access |= verbs.AccessBind
	}
	c.pool = pool.New(dev, access, o.Memory)
	c.mem = c.pool.Open()
	return c.PostRecvs(1, LoginRecv)
}

func (c *Conn) connect(ctx context.Context, o *Options) error {
	private := o.Private
	if private == nil {
		private = iser.RequestPrivate(o.Invalidate)
	}
	caps := c.vc.Device().Caps()
	err := c.vc.Connect(verbs.ConnParam{
		Private: private, ResponderResources: uint8(min(o.Depth, caps.MaxRDAtom)), InitiatorDepth: 1,
		RetryCount: 7, RNRRetryCount: 6,
	})
	if err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	ev, err := c.cm.Next(ctx)
	if err != nil {
		return fmt.Errorf("initiator/iser: connect: %w", err)
	}
	if ev.Kind != verbs.EventEstablished {
		return fmt.Errorf("initiator/iser: connect: %v, status %d", ev.Kind, ev.Status)
	}
	c.Reply = ev.Param.Private
	return nil
}

// watch notes the end of the connection.
func (c *Conn) watch(ctx context.Context) {
	defer close(c.cmDone)
	for {
		ev, err := c.cm.Next(ctx)
		if err != nil {
			return
		}
		if ev.Kind != verbs.EventTimewaitExit && ev.Kind != verbs.EventEstablished {
			c.once.Do(func() { close(c.down) })
			c.poller.Wake()
		}
	}
}

// Disconnected is closed when the connection has ended by the connection manager.
func (c *Conn) Disconnected() <-chan struct{} { return c.down }

// Wake makes Poll return. Any goroutine.
func (c *Conn) Wake() { c.poller.Wake() }

// QP is the queue pair, borrowed, for tests.
func (c *Conn) QP() verbs.QP { return c.qp }

// Device is the connection's device.
func (c *Conn) Device() verbs.Device { return c.vc.Device() }

// Alloc returns registered memory and the steering tag that names it to the
// target, with remote read and write access.
func (c *Conn) Alloc(n int) (*bufpool.Buf, uint32, error) {
	b := c.mem.Get(n)
	if b == nil {
		return nil, 0, errSpent
	}
	return b, c.pool.MR(b.B).RKey(), nil
}

var errSpent = errors.New("initiator/iser: registered memory is spent")

// hold returns memory that is the connection's until Close.
func (c *Conn) hold(n int) (*bufpool.Buf, error) {
	b := c.mem.Get(n)
	if b == nil {
		return nil, errSpent
	}
	c.held = append(c.held, b)
	return b, nil
}

// MR is the region of memory from Alloc.
func (c *Conn) MR(b *bufpool.Buf) verbs.MR { return c.pool.MR(b.B) }

// PostRecvs posts n further receives of size bytes.
func (c *Conn) PostRecvs(n, size int) error {
	for range n {
		b := c.mem.Get(size)
		if b == nil {
			return errSpent
		}
		c.recvs = append(c.recvs, b)
		c.recvLen = append(c.recvLen, size)
		if err := c.repost(len(c.recvs) - 1); err != nil {
			return err
		}
	}
	return nil
}

const recvBit = 1 << 32

func (c *Conn) repost(i int) error {
	mem := c.recvs[i].B
	lkey, _ := c.pool.LKey(mem)
	wr := [1]verbs.RecvWR{{ID: recvBit | uint64(i), SG: []verbs.SGE{{Addr: verbs.Addr(mem), Len: uint32(c.recvLen[i]), LKey: lkey}}}}
	if _, err := c.qp.PostRecv(wr[:]); err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	c.posted++
	return nil
}

// SendBuf returns the memory of a message of up to n bytes and its number for
// Send.
func (c *Conn) SendBuf(n int) (int, []byte, error) {
	i := len(c.sends)
	if k := len(c.freeSend); k > 0 {
		i, c.freeSend = c.freeSend[k-1], c.freeSend[:k-1]
	} else {
		c.sends = append(c.sends, nil)
	}
	b := c.sends[i]
	if b == nil || len(b.Whole()) < n {
		if b != nil {
			b.Release()
		}
		if b = c.mem.Get(max(n, LoginRecv)); b == nil {
			return 0, nil, errSpent
		}
		c.sends[i] = b
	}
	return i, b.Whole()[:n], nil
}

// Send sends the message of number i, n bytes long.
func (c *Conn) Send(i, n int) error {
	mem := c.sends[i].Whole()
	lkey, _ := c.pool.LKey(mem)
	wr := [1]verbs.SendWR{{
		ID: uint64(i), Op: verbs.OpSend, Flags: verbs.SendSignaled,
		SG: []verbs.SGE{{Addr: verbs.Addr(mem), Len: uint32(n), LKey: lkey}},
	}}
	if _, err := c.qp.PostSend(wr[:]); err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	if !c.heard && c.spoken.IsZero() {
		c.spoken = time.Now()
	}
	return nil
}

// SendMessage sends b as it is.
func (c *Conn) SendMessage(b []byte) error {
	i, mem, err := c.SendBuf(len(b))
	if err != nil {
		return err
	}
	copy(mem, b)
	return c.Send(i, len(b))
}

// SendPDU sends a control-type PDU. The lengths in h are set from ahs and data.
func (c *Conn) SendPDU(ih *iser.Header, h *pdu.BHS, ahs, data []byte) error {
	n := iser.HeaderLen + pdu.BHSLen + len(ahs) + len(data)
	i, mem, err := c.SendBuf(n)
	if err != nil {
		return err
	}
	ih.Encode(mem)
	bhs := (*pdu.BHS)(mem[iser.HeaderLen:])
	*bhs = *h
	bhs.SetTotalAHSLength(len(ahs))
	bhs.SetDataSegmentLength(len(data))
	rest := mem[iser.HeaderLen+pdu.BHSLen:]
	copy(rest[copy(rest, ahs):], data)
	return c.Send(i, n)
}

// nothing is the identifier of work requests whose completion means nothing.
const nothing = 1 << 33

// Poll waits up to timeout (negative: for ever) for completions and gives each
// received message to take. keep says that a receive is posted again.
func (c *Conn) Poll(timeout time.Duration, keep bool, take func(Message) error) error {
	n, err := c.wait(timeout)
	if err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	for i := range n {
		wc := &c.wc[i]
		if wc.Status != verbs.WCSuccess {
			return fmt.Errorf("%w: %v", ErrBroken, wc.Status)
		}
		switch {
		case wc.ID&nothing != 0:
		case wc.ID&recvBit == 0:
			c.freeSend = append(c.freeSend, int(wc.ID))
		default:
			c.posted--
			c.heard = true
			j := int(wc.ID &^ recvBit)
			m := Message{Data: c.recvs[j].B[:wc.Len], Invalidated: wc.Flags&verbs.WCWithInv != 0, InvKey: wc.InvKey}
			c.logout = len(m.Data) > iser.HeaderLen && pdu.Opcode(m.Data[iser.HeaderLen]) == pdu.OpLogoutResponse
			if err := take(m); err != nil {
				return err
			}
			if keep && c.recvLen[j] != LoginRecv {
				if err := c.repost(j); err != nil {
					return err
				}
			}
		}
	}
	if n == 0 {
		select {
		case <-c.down:
			return ErrBroken
		default:
		}
	}
	return nil
}

// wait waits for completions. As long as the target has not answered the first
// message, on iWARP, it sends an empty RDMA Write now and then and may return early:
// Linux's siw answers a request for a connection before it listens to it, and finds
// what came in between only when more comes.
func (c *Conn) wait(timeout time.Duration) (int, error) {
	if c.heard || c.spoken.IsZero() || c.vc.Device().Caps().Transport != verbs.TransportIWARP {
		return c.poller.Wait(c.wc[:], timeout)
	}
	left := max(time.Until(c.spoken.Add(nudgeAfter)), 0)
	if timeout >= 0 {
		left = min(left, timeout)
	}
	n, err := c.poller.Wait(c.wc[:], left)
	if n > 0 || err != nil || time.Since(c.spoken) < nudgeAfter {
		return n, err
	}
	c.spoken = time.Now()
	wr := [1]verbs.SendWR{{ID: nothing, Op: verbs.OpWrite, Flags: verbs.SendSignaled}}
	_, err = c.qp.PostSend(wr[:])
	return 0, err
}

const nudgeAfter = 100 * time.Millisecond

// Close ends the connection without a logout and frees everything.
func (c *Conn) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	if c.linger == 0 && c.logout {
		c.linger = 50 * time.Millisecond
	}
	c.waitDown()
	_ = c.vc.Disconnect()
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) { // let what was posted go out, and the flushes come
		n, err := c.poller.Wait(c.wc[:], 5*time.Millisecond)
		if err != nil || n == 0 {
			break
		}
	}
	c.stopCM()
	<-c.cmDone
	return c.free()
}

// waitDown waits for the end of the connection, but no longer than Options.Linger.
func (c *Conn) waitDown() {
	for deadline := time.Now().Add(c.linger); time.Now().Before(deadline); {
		if c.Poll(time.Until(deadline), false, func(Message) error { return nil }) != nil {
			return
		}
	}
}

func (c *Conn) free() error {
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	if c.vc != nil {
		add(c.vc.Close())
	}
	for _, bufs := range [][]*bufpool.Buf{c.recvs, c.sends, c.held} {
		for _, b := range bufs {
			if b != nil {
				b.Release()
			}
		}
	}
	if c.poller != nil {
		add(c.poller.Close())
	}
	if c.cq != nil {
		add(c.cq.Close())
	}
	if c.pool != nil {
		if err := c.pool.Close(); !errors.Is(err, pool.ErrInUse) {
			add(err)
		}
	}
	add(c.cm.Close())
	return errors.Join(errs...)
}

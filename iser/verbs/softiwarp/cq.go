package softiwarp

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// CQ is a completion queue, and what moves the data of the queue pairs that
// receive there: its home CQ is where a queue pair's socket is.
//
// Lock order: Conn.mu, CQ.mu (one at a time), CQ.ringMu, CM.queueMu.
type CQ struct {
	dev        *Device
	epfd, evfd int

	mu      sync.Mutex // guards the queue pairs that have their home here, and:
	qps     map[uint64]*QP
	only    *QP    // the queue pair when there is one, to do without epoll
	pending []*QP  // something may be sent
	feeds   []feed // other CQs that are home of queue pairs sending to here
	current *QP    // being driven
	events  [64]unix.EpollEvent

	ringMu sync.Mutex
	ring   []verbs.WC // length a power of two
	head   int
	n      int
	depth  int
	lost   bool // overrun
	closed bool

	armed    atomic.Bool // a notification is wanted
	signaled atomic.Bool // evfd is readable
	polling  atomic.Bool // Poll will look at the ring and at late before it returns
	late     atomic.Bool // something was added to pending, perhaps behind a Poll's back
}

// feed is another CQ that must be driven as well, and how many queue pairs
// need that.
type feed struct {
	home *CQ
	uses int
}

var _ verbs.CQ = (*CQ)(nil)

// NewCQ implements verbs.Device.
func (d *Device) NewCQ(depth int) (verbs.CQ, error) {
	if depth < 1 || depth > maxCQE {
		return nil, fmt.Errorf("softiwarp: completion queue of depth %d: out of range 1 to %d", depth, maxCQE)
	}
	epfd, evfd, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("softiwarp: completion queue: %w", err)
	}
	c := &CQ{
		dev: d, epfd: epfd, evfd: evfd, depth: depth, ring: make([]verbs.WC, powerOf2(depth)),
		qps: make(map[uint64]*QP),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cqs == nil {
		d.cqs = make(map[*CQ]struct{})
	}
	d.cqs[c] = struct{}{}
	return c, nil
}

func powerOf2(n int) int {
	p := 1
	for p < n {
		p <<= 1
	}
	return p
}

// Fd implements verbs.CQ.
func (c *CQ) Fd() int { return c.epfd }

// Depth implements verbs.CQ.
func (c *CQ) Depth() int { return c.depth }

var errOverrun = errors.New("softiwarp: completion queue was overrun")

// Poll implements verbs.CQ: it moves data, unless there are completions enough
// without that.
func (c *CQ) Poll(wc []verbs.WC) (int, error) {
	c.polling.Store(true)
	n, err := c.take(wc)
	if n < len(wc) && err == nil {
		c.drive()
		var more int
		more, err = c.take(wc[n:])
		n += more
	}
	c.polling.Store(false)
	if n > 0 {
		// The owner is awake and arms again before it sleeps. What it posts
		// now need not wake it.
		c.armed.Store(false)
	} else if c.armed.Load() && (c.waiting() || c.late.Load() && c.behind()) {
		c.notify()
	}
	return n, err
}

// behind reports whether something waits to be sent that Poll has not seen.
func (c *CQ) behind() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late.Store(false)
	return len(c.pending) > 0
}

// take moves completions from the ring to wc.
func (c *CQ) take(wc []verbs.WC) (int, error) {
	c.ringMu.Lock()
	defer c.ringMu.Unlock()
	n := min(len(wc), c.n)
	for i := range n {
		wc[i] = c.ring[c.head]
		c.head = (c.head + 1) & (len(c.ring) - 1)
	}
	c.n -= n
	if c.lost {
		return n, errOverrun
	}
	return n, nil
}

func (c *CQ) waiting() bool {
	c.ringMu.Lock()
	defer c.ringMu.Unlock()
	return c.n > 0
}

// push adds a completion.
func (c *CQ) push(wc verbs.WC) {
	c.ringMu.Lock()
	if c.n == 0 {
		c.head = 0 // a few entries again and again, which stay in the cache
	}
	overrun := c.n == c.depth
	if overrun {
		overrun, c.lost = !c.lost, true
	} else {
		c.ring[(c.head+c.n)&(len(c.ring)-1)] = wc
		c.n++
	}
	c.ringMu.Unlock()
	if overrun {
		c.dev.event(verbs.DeviceEvent{Kind: verbs.DeviceCQError, CQ: c})
	}
	if !c.polling.Load() {
		c.notify()
	}
}

// Arm implements verbs.CQ.
func (c *CQ) Arm() error {
	if c.signaled.Swap(false) {
		drainEvent(c.evfd)
	}
	c.armed.Store(true)
	c.mu.Lock()
	feeds := c.feeds
	c.mu.Unlock()
	for _, f := range feeds {
		if f.home.signaled.Swap(false) {
			drainEvent(f.home.evfd)
		}
		f.home.armed.Store(true)
	}
	return nil
}

// notify makes Fd readable, if that was asked for.
func (c *CQ) notify() {
	if !c.armed.Load() || !c.armed.CompareAndSwap(true, false) {
		return
	}
	c.signaled.Store(true)
	signalEvent(c.evfd)
}

// drive moves the data of all queue pairs that complete here.
func (c *CQ) drive() {
	c.mu.Lock()
	feeds := c.feeds
	c.pump()
	for _, f := range feeds {
		f.home.mu.Lock()
		f.home.pump()
	}
}

// pump moves the data of all queue pairs that have their home here. It unlocks
// c.mu.
func (c *CQ) pump() {
	defer c.leave()
	c.flush()
	if c.only != nil {
		c.only.ready(unix.EPOLLIN)
		c.flush()
		return
	}
	if len(c.qps) == 0 {
		return
	}
	n := epollWait(c.epfd, c.events[:])
	for i := range n {
		e := &c.events[i]
		if q := c.qps[epollToken(e)]; q != nil {
			q.ready(e.Events)
		}
	}
	c.flush()
}

// leave unlocks. Memory of a file that was cut short faults when it is
// touched; that is the end of the connection that did it and of nothing else,
// if the caller has such faults made panics (debug.SetPanicOnFault).
func (c *CQ) leave() {
	q := c.current
	c.current = nil
	if q == nil {
		c.mu.Unlock()
		return
	}
	r := recover()
	// Without a Terminate: what is formed may be of that memory as well.
	q.lost(unix.EFAULT)
	c.mu.Unlock()
	if _, ok := r.(interface{ Addr() uintptr }); !ok {
		panic(r)
	}
}

// flush sends what the pending queue pairs have.
func (c *CQ) flush() {
	for i := 0; i < len(c.pending); i++ {
		q := c.pending[i]
		c.current = q
		q.pending = false
		q.transmit()
	}
	c.current = nil
	c.pending = c.pending[:0]
}

// pend has q flushed by the next Poll.
func (c *CQ) pend(q *QP) {
	if !q.pending {
		q.pending = true
		c.pending = append(c.pending, q)
	}
	c.late.Store(true) // before polling is looked at: one of the two sees the other
	if !c.polling.Load() {
		c.notify()
	}
}

// attach gives q's socket to c.
func (c *CQ) attach(q *QP) error {
	ev := epollEvent(unix.EPOLLIN|unix.EPOLLRDHUP, q.token)
	if err := unix.EpollCtl(c.epfd, unix.EPOLL_CTL_ADD, q.fd, &ev); err != nil {
		return fmt.Errorf("softiwarp: %w", err)
	}
	c.qps[q.token] = q
	c.setOnly()
	return nil
}

// detachQP takes q's socket from c.
func (c *CQ) detachQP(q *QP) {
	if c.qps[q.token] != q {
		return
	}
	_ = unix.EpollCtl(c.epfd, unix.EPOLL_CTL_DEL, q.fd, nil)
	delete(c.qps, q.token)
	c.setOnly()
}

func (c *CQ) setOnly() {
	c.only = nil
	if len(c.qps) != 1 {
		return
	}
	for _, q := range c.qps {
		c.only = q
	}
}

// wantOut has the socket watched for room to send, or not.
func (c *CQ) wantOut(q *QP, want bool) {
	events := uint32(unix.EPOLLIN | unix.EPOLLRDHUP)
	if want {
		events |= unix.EPOLLOUT
	}
	epollModify(c.epfd, q.fd, events, q.token)
}

// detach makes copies of what is to be sent from mem.
func (c *CQ) detach(mem []byte) {
	for _, q := range c.qps {
		q.tx.detach(mem)
	}
}

// addFeed notes that home's queue pairs complete here as well.
func (c *CQ) addFeed(home *CQ) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	feeds := append([]feed(nil), c.feeds...)
	for i := range feeds {
		if feeds[i].home == home {
			feeds[i].uses++
			c.feeds = feeds
			return nil
		}
	}
	ev := epollEvent(unix.EPOLLIN, 0)
	if err := unix.EpollCtl(c.epfd, unix.EPOLL_CTL_ADD, home.epfd, &ev); err != nil {
		return fmt.Errorf("softiwarp: %w", err)
	}
	c.feeds = append(feeds, feed{home: home, uses: 1})
	return nil
}

func (c *CQ) dropFeed(home *CQ) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var feeds []feed
	for _, f := range c.feeds {
		if f.home == home {
			f.uses--
		}
		if f.uses > 0 {
			feeds = append(feeds, f)
			continue
		}
		_ = unix.EpollCtl(c.epfd, unix.EPOLL_CTL_DEL, f.home.epfd, nil)
	}
	c.feeds = feeds
}

var errCQBusy = errors.New("softiwarp: completion queue has queue pairs")

// Close implements verbs.CQ.
func (c *CQ) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	if len(c.qps) > 0 {
		return errCQBusy
	}
	c.closed = true
	c.dev.mu.Lock()
	delete(c.dev.cqs, c)
	c.dev.mu.Unlock()
	return errors.Join(unix.Close(c.epfd), unix.Close(c.evfd))
}

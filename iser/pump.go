package iser

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

const (
	pollBatch = 64 // completions of one poll
	// drainTime is how long the queue pair of a connection that is over has for
	// flushing. After it the queue pair is destroyed, which ends all access too.
	drainTime = 5 * time.Second
	// yieldEvery is how often a pump goes through Go's scheduler, see yield.
	yieldEvery = 2 * time.Millisecond
	// lookEvery is how often transfers straight from and to logical units are looked
	// at, while there are any.
	lookEvery = time.Second
)

// Pump owns a completion queue of a device: one goroutine, locked to its thread,
// that polls it and runs the turns of the connections on it.
type Pump struct {
	dev    *Device
	cq     verbs.CQ
	poller *verbs.Poller
	wc     [pollBatch]verbs.WC

	mu       sync.Mutex // guards what follows
	requests []request
	room     int // completions that the queue may still promise
	conns    int // connections that have a slot
	stopping bool
	dead     bool
	slots    []slot
	freeSlot []int

	// Of the pump's goroutine.
	spare   []request
	touched []*Conn
	drains  []*Conn // in phase draining
	until   []time.Time
	lost    bool // the completion queue is
	ended   chan struct{}
	turns   atomic.Uint64
	yielded time.Time
	place   place
	direct  bool      // transfers straight from or to a logical unit have been seen
	looked  time.Time // at them
}

// slot is a place for a connection, named in work request identifiers.
type slot struct {
	conn *Conn
	gen  uint32
}

// request asks something of the pump's goroutine.
type request struct {
	kind reqKind
	c    *Conn
	run  func(*Turn) bool
	err  error
}

type reqKind uint8

const (
	reqStart  reqKind = iota + 1 // post the first receives and accept
	reqKick                      // something is queued
	reqUp                        // EventEstablished
	reqDown                      // the connection has ended
	reqRetire                    // Close was called
	reqClosed                    // the queue pair is destroyed
)

// newPump makes a pump of dev; its goroutine is started by the device.
func newPump(dev *Device) (*Pump, error) {
	depth := min(dev.cfg.CQDepth, dev.caps.MaxCQE)
	cq, err := dev.dev.NewCQ(depth)
	if err != nil {
		return nil, fmt.Errorf("iser: %w", err)
	}
	poller, err := verbs.NewPoller(cq, dev.cfg.Spin)
	if err != nil {
		cq.Close()
		return nil, fmt.Errorf("iser: %w", err)
	}
	return &Pump{dev: dev, cq: cq, poller: poller, room: cq.Depth(), ended: make(chan struct{})}, nil
}

// take reserves room for n completions and a slot for c.
func (p *Pump) take(c *Conn, n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping || p.dead || p.room < n || len(p.freeSlot) == 0 && len(p.slots) == maxSlots {
		return false
	}
	if len(p.freeSlot) == 0 {
		p.freeSlot = append(p.freeSlot, len(p.slots))
		// Generations begin anywhere, so that those of two runs differ.
		p.slots = append(p.slots, slot{gen: rand.Uint32() & (1<<genBits - 1)})
	}
	i := p.freeSlot[0]
	p.freeSlot = append(p.freeSlot[:0], p.freeSlot[1:]...)
	p.room -= n
	p.conns++
	p.slots[i].conn = c
	c.pump, c.slot, c.gen = p, i, p.slots[i].gen
	return true
}

// give returns them. Completions of the old generation are void from now on.
func (p *Pump) give(c *Conn, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.slots[c.slot]
	s.conn = nil
	s.gen = (s.gen + 1) & (1<<genBits - 1)
	p.freeSlot = append(p.freeSlot, c.slot)
	p.room += n
	p.conns--
	if p.stopping && p.conns == 0 {
		p.wake()
	}
}

// wake makes the goroutine look at what is asked of it. p.mu is held, and that
// the pump is not dead is known: the poller is closed after.
func (p *Pump) wake() {
	if !p.dead {
		p.poller.Wake()
	}
}

func (p *Pump) push(r request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return
	}
	p.requests = append(p.requests, r)
	p.wake()
}

func (p *Pump) kick(c *Conn) {
	if !c.kicked.Swap(true) {
		p.push(request{kind: reqKick, c: c})
	}
}

// stop ends the goroutine when the last connection has gone.
func (p *Pump) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	p.wake()
}

// run is the pump's goroutine.
//
// Its thread is its own: what it asks the kernel for, and the caches that it
// warms, stay in one place. A goroutine that sleeps in Go's network poller instead
// was tried, over software and over soft-RoCE: it was slower (ADR 9).
func (p *Pump) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.place = newPlace(p.dev.dev.CPUs())
	p.place.take()
	defer p.place.leave()
	debug.SetPanicOnFault(true)
	defer close(p.ended)
	defer p.bury()
	for p.guarded() {
	}
}

// guarded is once, whose panic ends the connections of this pump and no more.
func (p *Pump) guarded() (more bool) {
	defer func() {
		if v := recover(); v != nil {
			p.dev.cfg.Fault(v, debug.Stack())
			p.lose(fmt.Errorf("panic: %v", v))
			more = p.needed()
		}
	}()
	return p.once()
}

// once waits for something to do and does it; false at the end.
func (p *Pump) once() bool {
	if p.lost {
		return p.mourn()
	}
	timeout := time.Duration(-1)
	if len(p.drains) > 0 {
		timeout = max(time.Until(p.until[0]), time.Millisecond)
	}
	if p.direct && (timeout < 0 || timeout > lookEvery) {
		timeout = lookEvery
	}
	p.yield()
	n, err := p.poller.Wait(p.wc[:], timeout)
	p.dev.seen.count(p.wc[:n])
	p.sort(p.wc[:n])
	p.runTouched()
	p.serve()
	if len(p.drains) > 0 {
		p.watchDrains()
	}
	if p.direct {
		p.watchDirect()
	}
	if err != nil {
		p.lose(err)
	}
	return p.needed()
}

// yield goes through Go's scheduler when the goroutine has not been there for a
// while. A goroutine that does not come for 10 ms is one that the scheduler's
// monitor preempts, or takes the processor from in its next system call; then the
// monitor looks every 20 µs for a millisecond, and so on for as long as the pump
// works: over soft-RoCE that was more than a quarter of the daemon's CPU time (ADR 9).
func (p *Pump) yield() {
	if time.Since(p.yielded) < yieldEvery { // asks one clock, time.Now two
		return
	}
	p.yielded = time.Now()
	p.place.leave()
	runtime.UnlockOSThread() // a locked goroutine would hand its thread over and back
	goyield()
	runtime.LockOSThread()
	p.place.take()
}

func (p *Pump) needed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.stopping || p.conns > 0 || len(p.requests) > 0
}

// lose ends all connections of a completion queue that is lost, and the pump
// after them. The device makes another one for those that come.
func (p *Pump) lose(err error) {
	p.dev.report("completion queue is lost", "device", p.dev.dev.Name(), "reason", err)
	p.lost = true
	p.mu.Lock()
	p.stopping = true
	var conns []*Conn
	for i := range p.slots {
		if c := p.slots[i].conn; c != nil {
			conns = append(conns, c)
		}
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.turn.down = true
		p.turn(c)
	}
}

// mourn serves the ends of the connections of a lost queue, without completions.
func (p *Pump) mourn() bool {
	time.Sleep(5 * time.Millisecond)
	p.serve()
	for _, c := range p.drains {
		c.drained = true
	}
	p.watchDrains()
	return p.needed()
}

// sort puts completions into the batches of their connections.
func (p *Pump) sort(wcs []verbs.WC) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range wcs {
		id := wrID(wcs[i].ID)
		n := id.slot()
		if n >= len(p.slots) || p.slots[n].gen != id.gen() {
			continue
		}
		if c := p.slots[n].conn; c != nil && c.phase != over {
			p.touch(c)
			c.turn.wc = append(c.turn.wc, wcs[i])
		}
	}
}

// touch has a turn of c run in this round.
func (p *Pump) touch(c *Conn) {
	if slices.Contains(p.touched, c) {
		return
	}
	p.touched = append(p.touched, c)
}

func (p *Pump) runTouched() {
	for i, c := range p.touched {
		p.touched[i] = nil
		p.turn(c)
	}
	p.touched = p.touched[:0]
}

// turn has what has come for c handled, by its context or, when that is gone and
// Close has been called, here.
func (p *Pump) turn(c *Conn) {
	switch c.phase {
	case live:
		p.turns.Add(1)
		if !c.run(&c.turn) {
			c.phase = orphaned
			return
		}
		clear(c.turn.wc)
		c.turn.wc, c.turn.done = c.turn.wc[:0], 0
		p.direct = p.direct || c.send.direct+c.read.direct > 0
	case draining, closing:
		c.drain()
	default:
	}
}

// serve does what was asked for.
func (p *Pump) serve() {
	for {
		p.mu.Lock()
		if len(p.requests) == 0 {
			p.mu.Unlock()
			return
		}
		p.requests, p.spare = p.spare[:0], p.requests
		p.mu.Unlock()
		for i := range p.spare {
			r := p.spare[i]
			p.spare[i] = request{}
			p.request(r)
		}
	}
}

func (p *Pump) request(r request) {
	c := r.c
	switch r.kind {
	case reqStart:
		if c.phase == fresh {
			c.phase, c.run, c.turn.start = live, r.run, true
			p.turn(c)
		}
	case reqKick:
		c.kicked.Store(false)
		p.turn(c)
	case reqUp:
		c.turn.up = true
		p.turn(c)
	case reqDown:
		c.turn.down = true
		p.turn(c)
	case reqRetire:
		p.retire(c)
	case reqClosed:
		p.closed(c, r.err)
	}
}

// retire begins the end of a connection: no context uses it any more.
func (p *Pump) retire(c *Conn) {
	if c.phase >= draining {
		return
	}
	c.phase = draining
	c.drain()
	if c.accepted {
		if c.vc.Disconnect() != nil {
			_ = c.qp.ToError()
		}
	} else {
		_ = c.vc.Reject(nil)
	}
	// Behind everything else in the queue; its completion is the last.
	marker := [1]verbs.SendWR{{ID: c.wrID(wrDrain, 0), Op: verbs.OpSend, Flags: verbs.SendSignaled}}
	if n, err := c.qp.PostSend(marker[:]); n == 0 || err != nil || !c.accepted {
		p.destroy(c)
		return
	}
	p.drains = append(p.drains, c)
	p.until = append(p.until, time.Now().Add(drainTime))
}

// watchDrains destroys the queue pairs that are flushed, or should have been.
func (p *Pump) watchDrains() {
	now := time.Now()
	left, until := p.drains[:0], p.until[:0]
	for i, c := range p.drains {
		if c.drained || now.After(p.until[i]) {
			p.destroy(c)
			continue
		}
		left, until = append(left, c), append(until, p.until[i])
	}
	clear(p.drains[len(left):])
	p.drains, p.until = left, until
}

// watchDirect has connections look at their transfers straight from and to logical
// units, once in a while.
func (p *Pump) watchDirect() {
	if time.Since(p.looked) < lookEvery {
		return
	}
	p.looked, p.direct = time.Now(), false
	p.mu.Lock()
	for i := range p.slots {
		if c := p.slots[i].conn; c != nil && c.phase == live {
			p.touch(c)
			c.turn.look = true
		}
	}
	p.mu.Unlock()
	p.runTouched()
}

// destroy closes the queue pair, which may take its time, elsewhere.
func (p *Pump) destroy(c *Conn) {
	c.phase = closing
	p.dev.start("rdma-close", func() {
		err := c.vc.Close()
		p.push(request{kind: reqClosed, c: c, err: err})
	})
}

// closed frees what the connection had. If the device may still own its memory,
// that is never used again.
func (p *Pump) closed(c *Conn, err error) {
	c.drain()
	c.phase = over
	p.dev.engine.forget(c.vc)
	if err != nil {
		p.dev.report("memory of a connection is lost: its queue pair can't be destroyed", "peer", c.RemoteAddr(), "reason", err)
	} else {
		c.release()
	}
	p.give(c, c.completions())
}

// bury ends a pump whose queue is lost, or that is not needed any more.
func (p *Pump) bury() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	_ = p.poller.Close()
	if err := p.cq.Close(); err != nil {
		p.dev.report("completion queue can't be destroyed", "device", p.dev.dev.Name(), "reason", err)
	}
	p.dev.ended(p)
}

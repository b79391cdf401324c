package scsi

import (
	"sync"
	"time"
)

// workerIdle is how long a worker waits for more before it ends.
const workerIdle = 10 * time.Second

// workers is the bounded pool that runs the commands of one unit that may
// block. Goroutines start on demand and end when idle. The queue is first in,
// first out, linked through the commands, and bounded by the task slots of the
// sessions.
type workers struct {
	spawn func(func())
	limit int

	mu         sync.Mutex
	head, tail *Command
	running    int       // goroutines, idle ones included
	idle       []*worker // a stack: the one that ran last runs next
	closed     bool
}

// worker is one idle goroutine's mailbox. It has room for one command, so that
// a hand-over never blocks.
type worker struct {
	next chan *Command
}

func newWorkers(limit int, spawn func(func())) *workers {
	return &workers{spawn: spawn, limit: limit}
}

// submit queues c, or hands it to an idle or a new worker. A command that holds
// its range from an inline attempt always gets a worker, even above the limit:
// queued, it could wait for workers that all wait for its range. So does a
// command that fences: it is not to wait for those that hang. There is at
// most one such command per goroutine that runs commands inline.
func (p *workers) submit(c *Command) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		w.next <- c
		return
	}
	if p.running < p.limit || c.locked || c.op.is(opUrgent) {
		p.running++
		p.mu.Unlock()
		p.spawn(func() { p.loop(c) })
		return
	}
	c.queued = true
	if p.tail == nil {
		p.head = c
	} else {
		p.tail.next = c
	}
	p.tail = c
	p.mu.Unlock()
}

// loop runs c and what follows, until nothing has come for a while.
func (p *workers) loop(c *Command) {
	w := &worker{next: make(chan *Command, 1)}
	var timer *time.Timer
	for c != nil {
		c.execBlocking() // recovers panics of handlers
		if c = p.take(w); c != nil {
			continue
		}
		if timer == nil {
			timer = time.NewTimer(workerIdle)
			defer timer.Stop()
		} else {
			timer.Reset(workerIdle)
		}
		select {
		case c = <-w.next:
		case <-timer.C:
			c = p.retire(w)
		}
	}
}

// take returns the next queued command. If there is none, it parks w as idle,
// or, in a closed pool, lets it end by a nil in its mailbox.
func (p *workers) take(w *worker) *Command {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.pop(); c != nil {
		return c
	}
	if p.closed {
		p.running--
		w.next <- nil
		return nil
	}
	p.idle = append(p.idle, w)
	return nil
}

// retire ends an idle worker, unless a command has just been handed to it.
func (p *workers) retire(w *worker) *Command {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, x := range p.idle {
		if x == w {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			p.running--
			return nil
		}
	}
	// submit or close took w off the stack and sends, or has sent, to it.
	p.mu.Unlock()
	c := <-w.next
	p.mu.Lock()
	return c
}

// pop unlinks the head of the queue. The caller holds mu.
func (p *workers) pop() *Command {
	c := p.head
	if c == nil {
		return nil
	}
	p.head = c.next
	if p.head == nil {
		p.tail = nil
	}
	c.next, c.queued = nil, false
	return c
}

// remove takes c out of the queue, and reports whether it was in there.
func (p *workers) remove(c *Command) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.queued {
		return false
	}
	var prev *Command
	for x := p.head; x != c; x = x.next {
		prev = x
	}
	if prev == nil {
		p.head = c.next
	} else {
		prev.next = c.next
	}
	if p.tail == c {
		p.tail = prev
	}
	c.next, c.queued = nil, false
	return true
}

// flush takes every queued command out and finishes it. The unit is closing by
// now, so they end with BUSY.
func (p *workers) flush() {
	for {
		p.mu.Lock()
		c := p.pop()
		p.mu.Unlock()
		if c == nil {
			return
		}
		c.execBlocking()
	}
}

// close ends the idle workers; busy ones, and those that a late submit starts,
// end when they have finished.
func (p *workers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for _, w := range p.idle {
		p.running--
		w.next <- nil
	}
	p.idle = nil
}

package scsi

import (
	"sync"
	"sync/atomic"
)

// The range lock is striped: byte offset / stripeBytes modulo numStripes. 64
// KiB keeps random small I/O apart and costs a 16 MiB transfer 256 atomic
// operations; 512 stripes of 4 bytes cost an idle logical unit 2 KiB.
const (
	stripeShift = 16
	stripeBytes = 1 << stripeShift
	numStripes  = 512
)

// The word of a stripe: a count of shared holders and two flags.
const (
	stripeWriter  uint32 = 1 << 31 // held exclusively
	stripeWaiting uint32 = 1 << 30 // waiters are queued: no barging
	stripeReaders uint32 = stripeWaiting - 1
)

// lockKind is how a range is locked.
type lockKind uint8

const (
	shared lockKind = iota
	exclusive
)

// rangeLock is a striped reader-writer lock over a logical unit. Uncontended,
// a small request costs one atomic operation to lock and one to unlock, and
// allocates nothing. Waiters of a stripe are served in order of arrival, so
// neither side starves. Stripes are taken in ascending order, so requests over
// several stripes cannot deadlock.
//
// A lock belongs to a request and not to a goroutine: one may lock, another
// unlock. It is a fence as well: it is held as long as a backend call lasts.
type rangeLock struct {
	stripes [numStripes]atomic.Uint32

	mu     sync.Mutex // guards what follows, and grants to waiters
	queues map[int][]*lockWaiter
	closed bool // cancelAll was called
}

// lockWaiter is one blocked request. granted carries true when the stripe has
// been handed over, false when the wait was cancelled.
type lockWaiter struct {
	lock    *rangeLock
	kind    lockKind
	stripe  int
	granted chan bool
}

// span is a locked range, as stripes: n stripes from first, modulo numStripes.
type span struct {
	first, n int
	kind     lockKind
}

// spanOf returns the stripes of the n > 0 bytes at off.
func spanOf(off, n int64, kind lockKind) span {
	lo, hi := off>>stripeShift, (off+n-1)>>stripeShift
	if hi-lo+1 >= numStripes {
		return span{0, numStripes, kind}
	}
	return span{int(lo % numStripes), int(hi - lo + 1), kind}
}

// at returns the i-th stripe of s in ascending order: a span that wraps around
// begins with its tail.
func (s span) at(i int) int {
	wrapped := max(0, s.first+s.n-numStripes)
	if i < wrapped {
		return i
	}
	return s.first + i - wrapped
}

// try locks s if that needs no waiting.
func (l *rangeLock) try(s span) bool {
	for i := range s.n {
		if !l.tryStripe(s.at(i), s.kind) {
			l.unlockFirst(s, i)
			return false
		}
	}
	return true
}

// lock locks s, waiting where it must. before is called with each waiter
// before the wait, so that the owner can cancel it; it may return false to
// give up at once. The result is false if the wait was cancelled: nothing is
// locked then.
func (l *rangeLock) lock(s span, before func(*lockWaiter) bool) bool {
	for i := range s.n {
		stripe := s.at(i)
		if l.tryStripe(stripe, s.kind) || l.waitStripe(stripe, s.kind, before) {
			continue
		}
		l.unlockFirst(s, i)
		return false
	}
	return true
}

// unlock releases s.
func (l *rangeLock) unlock(s span) { l.unlockFirst(s, s.n) }

func (l *rangeLock) unlockFirst(s span, n int) {
	for i := range n {
		l.unlockStripe(s.at(i), s.kind)
	}
}

func (l *rangeLock) tryStripe(i int, kind lockKind) bool {
	w := &l.stripes[i]
	if kind == exclusive {
		return w.CompareAndSwap(0, stripeWriter)
	}
	for {
		old := w.Load()
		if old&(stripeWriter|stripeWaiting) != 0 {
			return false
		}
		if w.CompareAndSwap(old, old+1) {
			return true
		}
	}
}

func (l *rangeLock) unlockStripe(i int, kind lockKind) {
	w := &l.stripes[i]
	var left uint32
	if kind == exclusive {
		left = w.And(^stripeWriter) &^ stripeWriter // And returns the old word
	} else {
		left = w.Add(^uint32(0))
	}
	if left == stripeWaiting {
		l.mu.Lock()
		l.grant(i)
		l.mu.Unlock()
	}
}

func (l *rangeLock) waitStripe(i int, kind lockKind, before func(*lockWaiter) bool) bool {
	w := &lockWaiter{lock: l, kind: kind, stripe: i, granted: make(chan bool, 1)}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	if l.queues == nil {
		l.queues = make(map[int][]*lockWaiter)
	}
	l.queues[i] = append(l.queues[i], w)
	// From here on every unlock of the stripe comes to grant, which needs mu.
	l.stripes[i].Or(stripeWaiting)
	l.grant(i)
	l.mu.Unlock()
	if !before(w) {
		l.cancel(w)
	}
	return <-w.granted
}

// grant hands stripe i to the waiters at the head of its queue, as far as they
// go together. The caller holds mu.
func (l *rangeLock) grant(i int) {
	q := l.queues[i]
	word := &l.stripes[i]
	for len(q) > 0 {
		w := q[0]
		// With stripeWaiting set nobody else adds holders; holders only go.
		state := word.Load()
		if state&stripeWriter != 0 || w.kind == exclusive && state&stripeReaders != 0 {
			break
		}
		if w.kind == exclusive {
			word.Or(stripeWriter)
		} else {
			word.Add(1)
		}
		q[0] = nil
		q = q[1:]
		w.granted <- true
	}
	if len(q) == 0 {
		delete(l.queues, i)
		word.And(^stripeWaiting)
		return
	}
	l.queues[i] = q
}

// cancel ends the wait of w, unless it has been granted already.
func (l *rangeLock) cancel(w *lockWaiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[w.stripe]
	for i, x := range q {
		if x != w {
			continue
		}
		l.queues[w.stripe] = append(q[:i:i], q[i+1:]...)
		w.granted <- false
		l.grant(w.stripe) // w may have been what the others waited for
		return
	}
}

// cancelAll ends every wait, and refuses new ones.
func (l *rangeLock) cancelAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for i, q := range l.queues {
		for _, w := range q {
			w.granted <- false
		}
		l.queues[i] = nil
		l.grant(i)
	}
}

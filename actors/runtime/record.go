package runtime

import (
	"sync"
	"time"
)

// defaultEvents is how many events a system keeps.
const defaultEvents = 256

// A crash that repeats must not fill the disk: a burst of logBurst records with
// stack, then one per logEvery.
const (
	logBurst = 10
	logEvery = time.Second
)

// recorder keeps the last events and tells subscribers.
type recorder struct {
	mu         sync.Mutex
	seq        uint64
	ring       []Event // ring[(seq-1)%len] is the newest
	subs       map[int]func(Event)
	nextSub    int
	tokens     int
	refilled   time.Time
	suppressed int
}

// record keeps ev, logs it and calls the subscribers.
func (s *System) record(ev Event) {
	r := &s.rec
	r.mu.Lock()
	r.seq++
	ev.Seq = r.seq
	r.ring[(r.seq-1)%uint64(len(r.ring))] = ev
	subs := make([]func(Event), 0, len(r.subs))
	for _, f := range r.subs {
		subs = append(subs, f)
	}
	write, missed := r.admit(ev.Time)
	r.mu.Unlock()

	if write {
		s.logEvent(ev, missed)
	}
	for _, f := range subs {
		s.notify(f, ev)
	}
}

// admit reports whether a record may be logged at time now, and how many were
// not since the last. r.mu is held.
func (r *recorder) admit(now time.Time) (ok bool, missed int) {
	if n := int(now.Sub(r.refilled) / logEvery); n > 0 {
		r.tokens = min(r.tokens+n, logBurst)
		r.refilled = now
	}
	if r.tokens == 0 {
		r.suppressed++
		return false, 0
	}
	r.tokens--
	missed, r.suppressed = r.suppressed, 0
	return true, missed
}

func (s *System) logEvent(ev Event, missed int) {
	args := []any{
		"actor", ev.Path, "generation", ev.Generation, "message", ev.Message,
		"panic", ev.Panic, "action", ev.Action.String(),
	}
	if ev.Action == ActionRestarted {
		args = append(args, "backoff", ev.Backoff)
	}
	if missed > 0 {
		args = append(args, "suppressed", missed)
	}
	s.log.Error("panic", append(args, "stack", ev.Stack)...)
}

// notify calls a subscriber. Its panic is logged, not recorded: a record would
// call it again.
func (s *System) notify(f func(Event), ev Event) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("panic of an event subscriber", "panic", panicText(r), "stack", stack())
		}
	}()
	f(ev)
}

// Events returns the kept supervision events, oldest first.
func (s *System) Events() []Event {
	r := &s.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(r.seq, uint64(len(r.ring)))
	evs := make([]Event, 0, n)
	for i := r.seq - n; i < r.seq; i++ {
		evs = append(evs, r.ring[i%uint64(len(r.ring))])
	}
	return evs
}

// Subscribe has f called for each event from now on, on the goroutine that
// failed: f must be quick, safe for concurrent use and must not block.
func (s *System) Subscribe(f func(Event)) (cancel func()) {
	r := &s.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.nextSub
	r.nextSub++
	r.subs[id] = f
	return func() {
		r.mu.Lock()
		delete(r.subs, id)
		r.mu.Unlock()
	}
}

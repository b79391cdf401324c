package runtime

import (
	"maps"
	"runtime/debug"
	"sync"
)

// tracker counts the goroutines of a system.
type tracker struct {
	mu    sync.Mutex
	n     int            // guarded by mu
	names map[string]int // guarded by mu; those of Go
	zero  chan struct{}  // guarded by mu; closed when n falls to 0
}

// add counts a goroutine; name is "" for a worker.
func (t *tracker) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == 0 {
		t.zero = make(chan struct{})
	}
	t.n++
	if name != "" {
		t.names[name]++
	}
}

func (t *tracker) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name != "" {
		t.names[name]--
		if t.names[name] == 0 {
			delete(t.names, name)
		}
	}
	t.n--
	if t.n == 0 {
		close(t.zero)
	}
}

// idle returns a channel that is closed when no goroutine is left.
func (t *tracker) idle() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.zero == nil {
		t.zero = make(chan struct{})
		close(t.zero)
	}
	return t.zero
}

// startWorker starts the worker of m.
func (s *System) startWorker(m *mailbox) {
	s.work.add("")
	go func() {
		defer s.work.remove("")
		m.serve()
	}()
}

// Go runs f on a new goroutine: the one place that starts goroutines outside of
// actors. A panic of f ends the goroutine and becomes an event; a fault on
// mapped memory is such a panic. Shutdown waits for f. An empty name counts as
// "unnamed".
func (s *System) Go(name string, f func()) {
	if name == "" {
		name = "unnamed"
	}
	s.work.add(name)
	go func() {
		defer s.work.remove(name)
		defer func() {
			if r := recover(); r != nil {
				s.failures.Add(1)
				s.record(Event{
					Time: s.clock.Now(), Path: "go/" + name, Kind: "goroutine",
					Panic: panicText(r), Stack: stack(), Action: ActionGoroutine,
				})
			}
		}()
		debug.SetPanicOnFault(true)
		f()
	}()
}

// Goroutines returns how many functions given to Go run, by name.
func (s *System) Goroutines() map[string]int {
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	return maps.Clone(s.work.names)
}

package tcp

import (
	"runtime"
	"time"
)

// maxSpin is how long an empty socket is asked again before its goroutine
// parks, if the gap before was that short. To park and be woken costs some
// 20 µs of latency, and about as much CPU time as it saves.
const maxSpin = 50 * time.Microsecond

// spinner decides whether to ask an empty socket once more or to park. It
// spins only where the last gap between batches was shorter than maxSpin: an
// initiator that waits for each answer gets its next command taken at once,
// while one that is slow, or gone, costs nothing. Other goroutines run between
// the attempts.
type spinner struct {
	since time.Time // when the socket was first found empty; zero while busy
	quick bool      // the last gap was short
}

// busy notes that there was something to do.
func (s *spinner) busy() {
	if !s.since.IsZero() {
		s.quick = time.Since(s.since) < maxSpin
		s.since = time.Time{}
	}
}

// woken notes that the poller has woken the goroutine.
func (s *spinner) woken() { s.busy() }

// again reports whether to ask the socket again rather than to park.
func (s *spinner) again() bool {
	if s.since.IsZero() {
		s.since = time.Now()
	} else if time.Since(s.since) >= maxSpin {
		s.quick = false
	}
	if s.quick {
		runtime.Gosched()
	}
	return s.quick
}

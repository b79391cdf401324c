// Package gate counts calls into a resource and lets its owner close it: new
// calls are turned away, and Close waits for those inside. Entering and
// leaving cost one atomic operation each.
package gate

import "sync/atomic"

// closed is the bit of the state that says that Close was called; the bits
// below count the calls inside.
const closed = 1 << 62

// Gate is an open gate after Init. It must not be copied.
type Gate struct {
	state atomic.Int64
	// idle is closed when the gate is closed and nobody is inside.
	idle chan struct{}
	once atomic.Bool
}

// Init makes the gate usable. It is called once, before anything else.
func (g *Gate) Init() { g.idle = make(chan struct{}) }

// Enter reports whether the gate is open. If so the caller is inside and has
// to call Leave.
func (g *Gate) Enter() bool {
	if g.state.Add(1)&closed == 0 {
		return true
	}
	g.Leave()
	return false
}

// Leave ends what a successful Enter began.
func (g *Gate) Leave() {
	// Late visitors of a closed gate pass here too, so zero can be reached
	// more than once.
	if g.state.Add(-1) == closed && g.once.CompareAndSwap(false, true) {
		close(g.idle)
	}
}

// Closed reports whether Close was called.
func (g *Gate) Closed() bool { return g.state.Load()&closed != 0 }

// Close closes the gate and waits until nobody is inside. It reports whether
// this call was the one that closed it; the others wait as well.
func (g *Gate) Close() bool {
	for {
		s := g.state.Load()
		if s&closed != 0 {
			<-g.idle
			return false
		}
		// The closer counts as a visitor, so that the last to leave, be it
		// the closer itself, opens idle.
		if g.state.CompareAndSwap(s, (s+1)|closed) {
			break
		}
	}
	g.Leave()
	<-g.idle
	return true
}

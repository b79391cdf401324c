package runtime

import (
	"sync/atomic"
	"time"
)

// timer is a message that the actor sends itself later. A nil msg marks the
// wait before a restart.
type timer struct {
	c   *cell
	gen uint64 // the incarnation that set it
	msg any
	t   Timer // guarded by c.tmu
	off atomic.Bool
}

// arm starts t unless the actor is on its way out.
func (c *cell) arm(t *timer, d time.Duration) {
	c.tmu.Lock()
	defer c.tmu.Unlock()
	if c.timerEnd {
		return
	}
	if c.timers == nil {
		c.timers = make(map[*timer]struct{})
	}
	c.timers[t] = struct{}{}
	t.t = c.sys.clock.AfterFunc(d, t.fire)
}

// fire runs on the clock's goroutine.
func (t *timer) fire() {
	t.c.tmu.Lock()
	delete(t.c.timers, t)
	t.c.tmu.Unlock()
	if t.off.Load() {
		return
	}
	if t.msg == nil {
		t.c.mb.postSystem(restartNow{t.gen})
		return
	}
	t.c.mb.post(t)
}

// due reports whether t may be delivered to the incarnation that is there now.
func (t *timer) due() bool { return !t.off.Load() && t.gen == t.c.gen.Load() }

// cancel makes t never be delivered.
func (t *timer) cancel() {
	t.off.Store(true)
	t.c.tmu.Lock()
	defer t.c.tmu.Unlock()
	if _, ok := t.c.timers[t]; ok {
		delete(t.c.timers, t)
		t.t.Stop()
	}
}

// endTimers takes back all timers, those to come too if forever.
func (c *cell) endTimers(forever bool) {
	c.tmu.Lock()
	defer c.tmu.Unlock()
	for t := range c.timers {
		t.off.Store(true)
		t.t.Stop()
	}
	clear(c.timers)
	c.timerEnd = c.timerEnd || forever
}

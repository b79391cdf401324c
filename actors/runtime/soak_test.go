package runtime_test

import (
	"context"
	"errors"
	stdruntime "runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iserd/iserd/actors/runtime"
)

// soakState is what an incarnation changes without a lock: the race detector
// sees any lack of mutual exclusion, inside says so without it.
type soakState struct {
	plain  int
	inside *atomic.Int32
	bad    *atomic.Int32
}

func (s *soakState) Receive(ctx runtime.Context, msg any) {
	if s.inside.Add(1) != 1 {
		s.bad.Add(1)
	}
	defer s.inside.Add(-1)
	s.plain++
	switch m := msg.(type) {
	case *tick:
		if m.n%97 == 96 {
			panic("tick")
		}
	case int:
		switch {
		case m%101 == 100:
			panic("ctl")
		case m%50 == 0:
			ctx.After(time.Microsecond, "timer")
		case m%70 == 0:
			ctx.Send(ctx.Self(), "self")
		}
	case runtime.Stopping, runtime.Stopped, runtime.Restarting:
		if s.plain%3 == 0 {
			panic("on the way out")
		}
	}
}

// soak is what the rounds of TestPumpSoak share.
type soak struct {
	*root
	watcher                     runtime.Ref
	watched                     log
	bad                         atomic.Int32
	batches, accepted, droppedN atomic.Uint64
}

// TestPumpSoak lets owners, senders, watchers, panics, restarts and stops from
// all sides loose on pumps, over and over.
func TestPumpSoak(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 20
	}
	s := &soak{root: newRoot(t, runtime.Options{})}
	s.watcher = s.spawn(t, runtime.Spec{Name: "w", New: probe(&s.watched)})
	for n := range rounds {
		s.round(t, n)
	}
	if n := s.bad.Load(); n != 0 {
		t.Errorf("%d times two goroutines ran one actor", n)
	}
	until(t, "told of each end", func() bool { return len(terminated(s.told.get())) == rounds })
	until(t, "watcher told of each end", func() bool { return len(terminated(s.watched.get())) == rounds })
	t.Logf("%d rounds, %d batches, %d messages accepted, %d dropped, counters %+v",
		rounds, s.batches.Load(), s.accepted.Load(), s.droppedN.Load(), s.Counters())
}

// round is the life of one actor.
func (s *soak) round(t *testing.T, n int) {
	var inside atomic.Int32
	p := runtime.NewPump()
	pol := runtime.Policy{MinBackoff: time.Microsecond, MaxBackoff: 50 * time.Microsecond, MaxRestarts: 1 << 20}
	if n%5 == 0 {
		pol.MaxRestarts = 5
	}
	if n%7 == 0 {
		pol.Directive = runtime.Stop
	}
	ref := s.spawn(t, runtime.Spec{
		Name: "a" + strconv.Itoa(n), Pump: p, Policy: pol,
		New:     func() runtime.Actor { return &soakState{inside: &inside, bad: &s.bad} },
		Dropped: func(any) { s.droppedN.Add(1) },
	})
	watch := func() { in(t, s.System, s.watcher, func(ctx runtime.Context) { ctx.Watch(ref) }) }
	if n%2 == 0 {
		watch()
	}
	end := s.load(t, ref, p)
	time.Sleep(time.Duration(n%10) * 200 * time.Microsecond)
	s.Stop(ref)
	if n%3 == 0 {
		s.Stop(ref)
	}
	if n%2 == 1 { // watched on its way out, or after
		watch()
	}
	awaitGone(t, s.System, ref)
	end()
	for range 10 {
		if p.Run(&tick{}) {
			t.Fatal("Run after the stop")
		}
	}
}

// load starts the goroutines that trouble ref until end is called.
func (s *soak) load(t *testing.T, ref runtime.Ref, p *runtime.Pump) (end func()) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { // the owner
		for m := (&tick{}); ; m.n++ {
			select {
			case <-stop:
				return
			default:
			}
			if p.Run(m) {
				s.batches.Add(1)
			}
			if m.n%64 == 0 {
				stdruntime.Gosched()
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			for i := range 300 {
				if s.Send(ref, i) {
					s.accepted.Add(1)
				}
			}
		})
	}
	wg.Go(func() { // the console
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		for range 10 {
			_, err := s.Describe(ctx, ref)
			if err != nil && !errors.Is(err, runtime.ErrStopped) && !errors.Is(err, runtime.ErrFailed) {
				t.Error(err)
			}
			s.Actors()
		}
	})
	return func() {
		close(stop)
		wg.Wait()
	}
}

func terminated(told []any) (ts []runtime.Terminated) {
	for _, m := range told {
		if m, ok := m.(runtime.Terminated); ok {
			ts = append(ts, m)
		}
	}
	return ts
}

// Each accepted message is delivered once or dropped once, in order of its
// sender, whatever happens.
func TestAccounting(t *testing.T) {
	type item struct{ from, n int }
	for _, pumped := range []bool{false, true} {
		t.Run(map[bool]string{false: "worker", true: "pump"}[pumped], func(t *testing.T) {
			r := newRoot(t, runtime.Options{})
			ends := 0
			for range 30 {
				var fate log
				spec := runtime.Spec{Name: "a", Dropped: fate.add, Policy: runtime.Policy{MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond, MaxRestarts: 1000}, New: func() runtime.Actor {
					return runtime.Func(func(_ runtime.Context, msg any) {
						if m, ok := msg.(item); ok {
							fate.add(m)
							if m.n%37 == 0 {
								panic("boom")
							}
						}
					})
				}}
				if pumped {
					spec.Pump = runtime.NewPump()
				}
				ref := r.spawn(t, spec)
				const senders = 3
				var accepted [senders]int
				var wg sync.WaitGroup
				for s := range senders {
					wg.Go(func() {
						for i := 1; r.Send(ref, item{s, i}); i++ {
							accepted[s] = i
							if pumped && i%10 == 0 {
								spec.Pump.Run("own")
							}
						}
					})
				}
				time.Sleep(time.Millisecond)
				r.Stop(ref)
				wg.Wait()
				ends++
				until(t, "Terminated", func() bool { return len(terminated(r.told.get())) == ends })
				var got [senders]int
				for _, m := range fate.get() {
					it := m.(item)
					if it.n != got[it.from]+1 {
						t.Fatalf("sender %d: %d after %d", it.from, it.n, got[it.from])
					}
					got[it.from] = it.n
				}
				if got != accepted {
					t.Fatalf("accepted %v, accounted for %v", accepted, got)
				}
			}
		})
	}
}

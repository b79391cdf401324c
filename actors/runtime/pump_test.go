package runtime_test

import (
	"context"
	"errors"
	stdruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/actors/runtime"
)

// tick is the batch of these tests.
type tick struct{ n int }

func TestPumpRun(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	p := runtime.NewPump()
	if p.Run("early") {
		t.Error("Run of a pump without an actor")
	}
	var seen log
	ref := r.spawn(t, runtime.Spec{Name: "a", Pump: p, New: probe(&seen)})
	goroutine := func() string {
		b := make([]byte, 64)
		b = b[:stdruntime.Stack(b, false)]
		return string(b[:len("goroutine 123456")])
	}
	var on string
	if !p.Run(do(func(runtime.Context) { on = goroutine() })) {
		t.Fatal("Run")
	}
	if on != goroutine() {
		t.Error("not run on the caller's goroutine")
	}
	r.Send(ref, "posted")
	until(t, "posted", func() bool { return len(seen.get()) == 2 })
	if !p.Run("owned") {
		t.Error("Run")
	}
	if d := cmp.Diff([]any{runtime.Started{}, "posted", "owned"}, seen.get()); d != "" {
		t.Error(d)
	}
	i, _ := info(r.System, ref)
	if i.Processed != 3 || i.LastMessage != "string" || !i.Pump || i.Depth != 0 {
		t.Errorf("info %+v", i)
	}
	var err error
	in(t, r.System, r.ref, func(ctx runtime.Context) {
		_, err = ctx.Spawn(runtime.Spec{Name: "b", Pump: p, New: probe(&log{})})
	})
	if !errors.Is(err, runtime.ErrPumpInUse) {
		t.Errorf("second use of a pump: %v", err)
	}
}

// What the actor sends itself during Run is done before Run returns.
func TestPumpRunsWhatIsQueued(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	p := runtime.NewPump()
	var seen log
	r.spawn(t, runtime.Spec{Name: "a", Pump: p, New: probe(&seen)})
	ok := p.Run(do(func(ctx runtime.Context) {
		for i := range 5 {
			ctx.Send(ctx.Self(), i)
		}
	}))
	if !ok {
		t.Error("Run")
	}
	if d := cmp.Diff([]any{runtime.Started{}, 0, 1, 2, 3, 4}, seen.get()); d != "" {
		t.Error(d)
	}
}

func TestPumpEnds(t *testing.T) {
	for name, end := range map[string]func(ctx runtime.Context){
		"stop":   func(ctx runtime.Context) { ctx.StopSelf() },
		"panic":  boom,
		"parent": func(ctx runtime.Context) { ctx.Stop(ctx.Parent()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoot(t, runtime.Options{})
			p := runtime.NewPump()
			var seen log
			r.spawn(t, runtime.Spec{
				Name: "a", Pump: p, New: probe(&seen),
				Policy: runtime.Policy{Directive: runtime.Stop},
			})
			ok := p.Run(do(end))
			if ok && name != "parent" {
				t.Error("Run of the last message")
			}
			until(t, "false", func() bool { return !p.Run("x") })
			until(t, "stopped", func() bool { return len(seen.get()) > 0 && seen.get()[len(seen.get())-1] == runtime.Stopped{} })
			for range 100 {
				if p.Run("late") {
					t.Fatal("Run after the stop")
				}
			}
			for _, m := range seen.get() {
				if m == "late" {
					t.Error("delivered after the stop")
				}
			}
		})
	}
}

func TestPumpRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoot(t, runtime.Options{Jitter: noJitter})
		p := runtime.NewPump()
		var seen log
		r.spawn(t, runtime.Spec{Name: "a", Pump: p, New: probe(&seen)})
		if p.Run(do(boom)) {
			t.Error("Run of a panic")
		}
		if p.Run("dropped") {
			t.Error("Run while failed")
		}
		time.Sleep(runtime.DefaultMinBackoff)
		synctest.Wait()
		if !p.Run("again") {
			t.Error("Run after the restart")
		}
		want := []any{runtime.Started{}, runtime.Restarting{}, runtime.Started{}, "again"}
		if d := cmp.Diff(want, seen.get()); d != "" {
			t.Error(d)
		}
	})
}

// A Run that waits for the worker is let go when the worker stops the actor.
func TestPumpRunWaitingAtStop(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	p := runtime.NewPump()
	ref, gate := blocked(t, r, runtime.Spec{Name: "a", Pump: p, New: probe(&log{})})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for p.Run("x") {
			}
		})
	}
	r.Stop(ref)
	close(gate)
	wg.Wait()
	r.told.await(t, 1)
}

// Somebody who floods the actor holds up neither its owner nor the flood.
func TestPumpFairness(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	p := runtime.NewPump()
	var posted atomic.Int64
	ref := r.spawn(t, runtime.Spec{Name: "a", Pump: p, New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			if msg == "flood" {
				posted.Add(1)
				ctx.Send(ctx.Self(), msg) // the queue is never empty
			}
		})
	}})
	r.Send(ref, "flood")
	for range 200 {
		if !p.Run("own") {
			t.Fatal("Run")
		}
	}
	n := posted.Load()
	until(t, "flood going on", func() bool { return posted.Load() > n })
}

// Goexit on the owner's goroutine does not leave the actor locked.
func TestPumpGoexit(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	p := runtime.NewPump()
	r.spawn(t, runtime.Spec{Name: "a", Pump: p, New: probe(&log{}), Policy: fast})
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(do(func(runtime.Context) { stdruntime.Goexit() }))
	}()
	<-done
	until(t, "restart", func() bool { return p.Run("x") })
}

func TestPumpAllocs(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	p := runtime.NewPump()
	r.spawn(t, runtime.Spec{Name: "a", Pump: p, New: func() runtime.Actor { return runtime.Func(func(runtime.Context, any) {}) }})
	msg := any(&tick{})
	p.Run(msg)
	if n := testing.AllocsPerRun(1000, func() { p.Run(msg) }); n != 0 {
		t.Errorf("%v allocations per Run", n)
	}
}

func TestWorkerAllocs(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	ack := make(chan struct{}, 1)
	ref := r.spawn(t, runtime.Spec{Name: "a", New: func() runtime.Actor {
		return runtime.Func(func(_ runtime.Context, msg any) {
			if _, ok := msg.(*tick); ok {
				ack <- struct{}{}
			}
		})
	}})
	msg := any(&tick{})
	send := func() {
		r.Send(ref, msg)
		<-ack
	}
	send()
	if n := testing.AllocsPerRun(1000, send); n != 0 {
		t.Errorf("%v allocations per message", n)
	}
}

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

// TestPumpSoak lets owners, senders, watchers, panics, restarts and stops from
// all sides loose on pumps, over and over.
func TestPumpSoak(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 20
	}
	r := newRoot(t, runtime.Options{})
	var bad atomic.Int32
	var batches, accepted, processed uint64
	var watched log
	w := r.spawn(t, runtime.Spec{Name: "w", New: probe(&watched)})
	for round := range rounds {
		var inside atomic.Int32
		var dropped atomic.Uint64
		p := runtime.NewPump()
		pol := runtime.Policy{MinBackoff: time.Microsecond, MaxBackoff: 50 * time.Microsecond, MaxRestarts: 1 << 20}
		if round%5 == 0 {
			pol.MaxRestarts = 5
		}
		if round%7 == 0 {
			pol.Directive = runtime.Stop
		}
		ref := r.spawn(t, runtime.Spec{
			Name: "a", Pump: p, Policy: pol,
			New:     func() runtime.Actor { return &soakState{inside: &inside, bad: &bad} },
			Dropped: func(any) { dropped.Add(1) },
		})
		if round%2 == 0 {
			in(t, r.System, w, func(ctx runtime.Context) { ctx.Watch(ref) })
		}
		var wg sync.WaitGroup
		stop := make(chan struct{})
		var ok, sent atomic.Uint64
		wg.Go(func() { // the owner
			m := &tick{}
			for {
				select {
				case <-stop:
					return
				default:
				}
				m.n++
				if p.Run(m) {
					ok.Add(1)
				}
				if m.n%64 == 0 {
					stdruntime.Gosched()
				}
			}
		})
		for range 2 {
			wg.Go(func() {
				for i := range 300 {
					if r.Send(ref, i) {
						sent.Add(1)
					}
				}
			})
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			for range 10 {
				_, err := r.Describe(ctx, ref)
				if err != nil && !errors.Is(err, runtime.ErrStopped) && !errors.Is(err, runtime.ErrFailed) {
					t.Error(err)
				}
				r.Actors()
			}
		})
		time.Sleep(time.Duration(round%10) * 200 * time.Microsecond)
		r.Stop(ref)
		if round%3 == 0 {
			r.Stop(ref)
		}
		if round%2 == 1 { // watched on its way out, or after
			in(t, r.System, w, func(ctx runtime.Context) { ctx.Watch(ref) })
		}
		awaitGone(t, r.System, ref)
		close(stop)
		wg.Wait()
		for range 10 {
			if p.Run(&tick{}) {
				t.Fatal("Run after the stop")
			}
		}
		batches += ok.Load()
		accepted += sent.Load()
		processed += sent.Load() - min(dropped.Load(), sent.Load())
	}
	if n := bad.Load(); n != 0 {
		t.Errorf("%d times two goroutines ran one actor", n)
	}
	until(t, "told of each end", func() bool { return len(terminated(r.told.get())) == rounds })
	until(t, "watcher told of each end", func() bool { return len(terminated(watched.get())) == rounds })
	t.Logf("%d rounds, %d batches, %d messages accepted, %d delivered, counters %+v", rounds, batches, accepted, processed, r.Counters())
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

package runtime_test

import (
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

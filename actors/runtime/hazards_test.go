package runtime_test

import (
	"errors"
	stdruntime "runtime"
	"slices"
	"sync/atomic"
	"testing"
	"weak"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/actors/runtime"
)

// The tests TestH… are about the faults of the library that this package must
// not pass on.

// blocked spawns a probe that waits in its first do until the gate opens.
func blocked(t *testing.T, r *root, spec runtime.Spec) (ref runtime.Ref, gate chan struct{}) {
	t.Helper()
	gate = make(chan struct{})
	entered := make(chan struct{})
	ref = r.spawn(t, spec)
	r.Send(ref, do(func(runtime.Context) { close(entered); <-gate }))
	<-entered
	return ref, gate
}

// H1: a stop does not lose queued messages in silence.
func TestH1StopHandsQueuedMessagesToDropped(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen, dropped log
	ref, gate := blocked(t, r, runtime.Spec{
		Name: "a", New: probe(&seen), Dropped: dropped.add,
	})
	want := []any{}
	for i := range 100 {
		if !r.Send(ref, i) {
			t.Fatal("not accepted")
		}
		want = append(want, i)
	}
	r.Stop(ref)
	close(gate)
	r.told.await(t, 1) // Terminated comes after Dropped
	if d := cmp.Diff(want, dropped.get()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]any{runtime.Started{}, runtime.Stopping{}, runtime.Stopped{}}, seen.get()); d != "" {
		t.Error(d)
	}
	if got := r.Counters().Dropped; got != 100 {
		t.Errorf("%d dropped, want 100", got)
	}
	if r.Send(ref, 1) {
		t.Error("a stopped actor accepted a message")
	}
}

// H2: a restart keeps the mailbox and loses the message in hand only.
func TestH2RestartKeepsMailbox(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen log
	ref, gate := blocked(t, r, runtime.Spec{Name: "a", New: probe(&seen), Policy: fast})
	want := []any{runtime.Started{}}
	for i := range 100 {
		switch i {
		case 10:
			r.Send(ref, do(func(runtime.Context) { panic("boom") }))
			want = append(want, runtime.Restarting{}, runtime.Started{})
		default:
			r.Send(ref, i)
			want = append(want, i)
		}
	}
	close(gate)
	if d := cmp.Diff(want, seen.await(t, len(want))); d != "" {
		t.Error(d)
	}
}

// panicOn is an actor that panics on messages equal to m.
func panicOn(l *log, m any) func() runtime.Actor {
	return func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			l.add(msg)
			if f, ok := msg.(do); ok {
				f(ctx)
			} else if msg == m {
				panic("on purpose")
			}
		})
	}
}

// H3, H4: a panic on the way out neither raises the actor from the dead nor
// keeps its parent and watchers waiting.
func TestH3H4PanicOnTheWayOut(t *testing.T) {
	for _, m := range []any{runtime.Stopping{}, runtime.Stopped{}} {
		t.Run(typeOf(m), func(t *testing.T) {
			r := newRoot(t, runtime.Options{})
			var seen, watcher log
			ref := r.spawn(t, runtime.Spec{Name: "a", New: panicOn(&seen, m)})
			w := r.spawn(t, runtime.Spec{Name: "w", New: probe(&watcher)})
			in(t, r.System, w, func(ctx runtime.Context) { ctx.Watch(ref) })
			r.Stop(ref)
			gone := runtime.Terminated{Ref: ref}
			if d := cmp.Diff([]any{gone}, r.told.await(t, 1), refs); d != "" {
				t.Error("parent:", d)
			}
			if d := cmp.Diff([]any{runtime.Started{}, gone}, watcher.await(t, 2), refs); d != "" {
				t.Error("watcher:", d)
			}
			if d := cmp.Diff([]any{runtime.Started{}, runtime.Stopping{}, runtime.Stopped{}}, seen.get()); d != "" {
				t.Error("actor:", d)
			}
			evs := r.Events()
			if len(evs) != 1 || evs[0].Action != runtime.ActionIgnored || evs[0].Message != typeOf(m) {
				t.Errorf("events %+v", evs)
			}
		})
	}
}

// A panic in Restarting must not stop the restart.
func TestH3PanicInRestarting(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen log
	ref := r.spawn(t, runtime.Spec{Name: "a", New: panicOn(&seen, runtime.Restarting{}), Policy: fast})
	r.Send(ref, "x")
	r.Send(ref, do(func(runtime.Context) { panic("boom") }))
	r.Send(ref, "y")
	got := seen.await(t, 6)
	got = slices.DeleteFunc(got, func(m any) bool { _, ok := m.(do); return ok })
	want := []any{runtime.Started{}, "x", runtime.Restarting{}, runtime.Started{}, "y"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A panic on Terminated while stopping must not keep the actor from ending.
func TestH3PanicOnTerminatedWhileStopping(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var kid log
	ref := r.spawn(t, runtime.Spec{Name: "a", New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			switch msg.(type) {
			case runtime.Started:
				if _, err := ctx.Spawn(runtime.Spec{Name: "kid", New: probe(&kid)}); err != nil {
					t.Error(err)
				}
			case runtime.Terminated:
				panic("on purpose")
			}
		})
	}})
	kid.await(t, 1)
	r.Stop(ref)
	r.told.await(t, 1)
	awaitGone(t, r.System, ref)
}

// H5: the failure of the root ends the system, not the process.
func TestH5RootFailure(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var kid log
	r.spawn(t, runtime.Spec{Name: "a", New: probe(&kid)})
	cause := errors.New("cause")
	r.Send(r.ref, do(func(runtime.Context) { panic(cause) }))
	<-r.Done()
	var f *runtime.Failure
	if err := r.Err(); !errors.Is(err, cause) || !errors.As(err, &f) || f.Ref != r.ref {
		t.Errorf("Err: %v", err)
	}
	if evs := r.Events(); len(evs) != 1 || evs[0].Action != runtime.ActionRootStopped {
		t.Errorf("events %+v", evs)
	}
	if got := kid.get(); got[len(got)-1] != (runtime.Stopped{}) {
		t.Errorf("the child was not stopped: %v", got)
	}
}

// batch looks like a MessageBatch of the library.
type batch []any

func (b batch) GetMessages() []any { return b }

// H6: a message with a GetMessages method is a message like any other.
func TestH6NoMessageBatches(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen log
	ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&seen)})
	r.Send(ref, batch{1, 2, 3})
	r.Send(ref, "end")
	if d := cmp.Diff([]any{runtime.Started{}, batch{1, 2, 3}, "end"}, seen.await(t, 3)); d != "" {
		t.Error(d)
	}
}

// H10: a restart stops all children before the next incarnation begins.
func TestH10RestartReplacesChildren(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var order log
	note := func(who string) func(ctx runtime.Context, msg any) {
		return func(ctx runtime.Context, msg any) {
			switch m := msg.(type) {
			case do:
				m(ctx)
			default:
				order.add(who + " " + typeOf(m))
			}
		}
	}
	ref := r.spawn(t, runtime.Spec{Name: "a", Policy: fast, New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			note("parent")(ctx, msg)
			if msg != (runtime.Started{}) {
				return
			}
			if _, err := ctx.Spawn(runtime.Spec{Name: "kid", New: func() runtime.Actor {
				return runtime.Func(note("kid"))
			}}); err != nil {
				t.Error(err)
			}
		})
	}})
	order.await(t, 2)
	r.Send(ref, do(func(runtime.Context) { panic("boom") }))
	want := []any{
		"parent runtime.Started", "kid runtime.Started", "parent runtime.Restarting",
		"kid runtime.Stopping", "kid runtime.Stopped",
		"parent runtime.Started", "kid runtime.Started",
	}
	if d := cmp.Diff(want, order.await(t, len(want))); d != "" {
		t.Error(d)
	}
}

// H11: a panic of New is the child's failure, not the spawner's.
func TestH11ProducerPanics(t *testing.T) {
	for name, newActor := range map[string]func() runtime.Actor{
		"panic":   func() runtime.Actor { panic("producer") },
		"nil":     func() runtime.Actor { return nil },
		"started": panicOn(&log{}, runtime.Started{}),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoot(t, runtime.Options{})
			p := fast
			p.MaxRestarts = 2
			ref := r.spawn(t, runtime.Spec{Name: "a", New: newActor, Policy: p})
			got := r.told.await(t, 2)
			gave, ok := got[0].(runtime.GaveUp)
			if !ok || gave.Ref != ref || !gave.Reason.GaveUp {
				t.Errorf("first told %+v", got[0])
			}
			term, ok := got[1].(runtime.Terminated)
			if !ok || term.Ref != ref || term.Failure != gave.Reason {
				t.Errorf("then told %+v", got[1])
			}
			if c := r.Counters(); c.Failures != 3 || c.Restarts != 2 || c.GaveUp != 1 {
				t.Errorf("counters %+v", c)
			}
		})
	}
}

// H12: no user message is delivered while the children stop.
func TestH12NothingAfterStopping(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen, dropped log
	gate := make(chan struct{})
	ref := r.spawn(t, runtime.Spec{Name: "a", Dropped: dropped.add, New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			seen.add(typeOf(msg))
			switch msg.(type) {
			case runtime.Started:
				if _, err := ctx.Spawn(runtime.Spec{Name: "slow", New: func() runtime.Actor {
					return runtime.Func(func(_ runtime.Context, msg any) {
						if msg == (runtime.Stopping{}) {
							<-gate
						}
					})
				}}); err != nil {
					t.Error(err)
				}
			case runtime.Stopping:
				if _, err := ctx.Spawn(runtime.Spec{Name: "late", New: probe(&log{})}); !errors.Is(err, runtime.ErrStopped) {
					t.Errorf("Spawn while stopping: %v", err)
				}
			}
		})
	}})
	r.Stop(ref)
	awaitState(t, r.System, ref, runtime.StateStopping)
	if !r.Send(ref, "late") {
		t.Error("not queued")
	}
	close(gate)
	r.told.await(t, 1)
	want := []any{"runtime.Started", "runtime.Stopping", "runtime.Terminated", "runtime.Stopped"}
	if d := cmp.Diff(want, seen.get()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]any{"late"}, dropped.get()); d != "" {
		t.Error(d)
	}
}

// H15: neither the failed actor nor the record keeps the message alive.
func TestH15PanicReleasesMessage(t *testing.T) {
	type big struct{ _ [1 << 16]byte }
	r := newRoot(t, runtime.Options{})
	ref := r.spawn(t, runtime.Spec{Name: "a", Policy: fast, New: func() runtime.Actor {
		return runtime.Func(func(_ runtime.Context, msg any) {
			if _, ok := msg.(*big); ok {
				panic("boom")
			}
		})
	}})
	w := func() weak.Pointer[big] {
		msg := &big{}
		r.Send(ref, msg)
		return weak.Make(msg)
	}()
	until(t, "failure", func() bool { return r.Counters().Restarts == 1 })
	until(t, "collection", func() bool { stdruntime.GC(); return w.Value() == nil })
}

// A panic of an actor that runs as the worker does not end the worker, and
// neither does runtime.Goexit.
func TestGoexitIsAFailure(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen log
	ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&seen), Policy: fast})
	r.Send(ref, do(func(runtime.Context) { stdruntime.Goexit() }))
	r.Send(ref, "after")
	want := []any{runtime.Started{}, runtime.Restarting{}, runtime.Started{}, "after"}
	if d := cmp.Diff(want, seen.await(t, 4)); d != "" {
		t.Error(d)
	}
}

// Many actors fail at once; each is restarted, none is forgotten.
func TestManyFailuresAtOnce(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	const n = 50
	var ok atomic.Int32
	for i := range n {
		ref := r.spawn(t, runtime.Spec{Name: string(rune('A' + i)), New: probe(&log{}), Policy: fast})
		r.Send(ref, do(func(runtime.Context) { panic(i) }))
		r.Send(ref, do(func(runtime.Context) { ok.Add(1) }))
	}
	until(t, "all back", func() bool { return ok.Load() == n })
	if c := r.Counters(); c.Failures != n || c.Restarts != n {
		t.Errorf("counters %+v", c)
	}
}

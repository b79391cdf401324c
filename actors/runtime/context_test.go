package runtime_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/actors/runtime"
)

func TestSpawnErrors(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	r.spawn(t, runtime.Spec{Name: "taken", New: probe(&log{})})
	tests := []struct {
		name string
		spec runtime.Spec
		want error
	}{
		{"no name", runtime.Spec{New: probe(&log{})}, runtime.ErrName},
		{"slash", runtime.Spec{Name: "a/b", New: probe(&log{})}, runtime.ErrName},
		{"no producer", runtime.Spec{Name: "a"}, runtime.ErrNoProducer},
		{"name exists", runtime.Spec{Name: "taken", New: probe(&log{})}, runtime.ErrNameExists},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, r.System, r.ref, func(ctx runtime.Context) {
				if ref, err := ctx.Spawn(tt.spec); !errors.Is(err, tt.want) || !ref.IsZero() {
					t.Errorf("Spawn: %v, %v", ref, err)
				}
			})
		})
	}
	if _, err := r.SpawnRoot(runtime.Spec{Name: "root2", New: probe(&log{})}); !errors.Is(err, runtime.ErrRootExists) {
		t.Errorf("second root: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	ref := r.spawn(t, runtime.Spec{Name: "iqn.2026-01.org.example:a#1", New: probe(&log{}), Policy: fast})
	r.Send(ref, do(boom))
	in(t, r.System, ref, func(ctx runtime.Context) {
		if ctx.Self() != ref || ctx.Parent() != r.ref || ctx.System() != r.System {
			t.Error("self, parent or system")
		}
		if got, want := ctx.Path(), "root/iqn.2026-01.org.example:a#1"; got != want || ref.Path() != want || ref.String() != want {
			t.Errorf("path %q", got)
		}
		if ctx.Generation() != 2 {
			t.Errorf("generation %d", ctx.Generation())
		}
		if len(ctx.Children()) != 0 {
			t.Errorf("children %v", ctx.Children())
		}
		ctx.SetBehaviour("loggedIn")
	})
	in(t, r.System, r.ref, func(ctx runtime.Context) {
		if d := cmp.Diff([]runtime.Ref{ref}, ctx.Children(), refs); d != "" {
			t.Error(d)
		}
	})
	if i, _ := info(r.System, ref); i.Behaviour != "loggedIn" || i.Restarts != 1 || i.Failures != 1 {
		t.Errorf("info %+v", i)
	}
	if (runtime.Ref{}).Path() != "" || r.Send(runtime.Ref{}, 1) || r.Send(ref, nil) {
		t.Error("zero handle or nil message")
	}
	r.Stop(runtime.Ref{})
}

// The parent may use a name again as soon as it is told of the end.
func TestNameIsFreeAtTerminated(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	const n = 200
	done := make(chan struct{})
	ref := r.spawn(t, runtime.Spec{Name: "p", New: func() runtime.Actor {
		left := n
		spawn := func(ctx runtime.Context) {
			kid, err := ctx.Spawn(runtime.Spec{Name: "kid", New: probe(&log{})})
			if err != nil {
				t.Error(err)
			}
			ctx.Stop(kid)
		}
		return runtime.Func(func(ctx runtime.Context, msg any) {
			switch msg.(type) {
			case runtime.Started:
				spawn(ctx)
			case runtime.Terminated:
				if left--; left == 0 {
					close(done)
					return
				}
				spawn(ctx)
			}
		})
	}})
	<-done
	if i, _ := info(r.System, ref); i.State != runtime.StateRunning {
		t.Errorf("state %v", i.State)
	}
}

// A name used again before the end of its last bearer was told is another actor
// all the same, and is stopped with its parent.
func TestNameReusedBeforeTerminated(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var first, second log
	ref := r.spawn(t, runtime.Spec{Name: "p", New: probe(&log{})})
	in(t, r.System, ref, func(ctx runtime.Context) {
		kid, err := ctx.Spawn(runtime.Spec{Name: "kid", New: probe(&first)})
		if err != nil {
			t.Error(err)
		}
		ctx.Stop(kid)
		until(t, "end", func() bool { return !ctx.Send(kid, 1) })
		if _, err := ctx.Spawn(runtime.Spec{Name: "kid", New: probe(&second)}); err != nil {
			t.Error(err)
		}
	})
	in(t, r.System, ref, func(ctx runtime.Context) {
		if n := len(ctx.Children()); n != 1 {
			t.Errorf("%d children", n)
		}
	})
	r.Stop(ref)
	r.told.await(t, 1)
	if d := cmp.Diff([]any{runtime.Started{}, runtime.Stopping{}, runtime.Stopped{}}, second.get()); d != "" {
		t.Error(d)
	}
}

func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoot(t, runtime.Options{Jitter: noJitter})
		var seen log
		ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&seen)})
		in(t, r.System, ref, func(ctx runtime.Context) {
			ctx.After(2*time.Second, "second")
			ctx.After(time.Second, "first")
			ctx.After(time.Second, nil)
			cancel := ctx.After(time.Second, "cancelled")
			cancel()
			cancel()
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if d := cmp.Diff([]any{runtime.Started{}, "first"}, seen.get()); d != "" {
			t.Error(d)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if d := cmp.Diff([]any{runtime.Started{}, "first", "second"}, seen.get()); d != "" {
			t.Error(d)
		}
		if i, _ := info(r.System, ref); i.LastMessage != "string" {
			t.Errorf("last message %q", i.LastMessage)
		}
	})
}

// A timer that has fired and waits in the queue can still be taken back.
func TestAfterCancelledInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoot(t, runtime.Options{})
		var seen log
		ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&seen)})
		in(t, r.System, ref, func(ctx runtime.Context) {
			cancel := ctx.After(time.Second, "late")
			time.Sleep(2 * time.Second)
			cancel()
		})
		r.Send(ref, "end")
		synctest.Wait()
		if d := cmp.Diff([]any{runtime.Started{}, "end"}, seen.get()); d != "" {
			t.Error(d)
		}
	})
}

// Timers die with their incarnation, whether they fire while it is failed or
// after its successor has begun, and with the actor.
func TestAfterAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoot(t, runtime.Options{Jitter: noJitter})
		var seen, dropped log
		ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&seen), Dropped: dropped.add})
		r.Send(ref, do(func(ctx runtime.Context) {
			ctx.After(50*time.Millisecond, "while failed")
			ctx.After(150*time.Millisecond, "after the restart")
			panic("boom")
		}))
		time.Sleep(time.Second)
		synctest.Wait()
		want := []any{runtime.Started{}, runtime.Restarting{}, runtime.Started{}}
		if d := cmp.Diff(want, seen.get()); d != "" {
			t.Error(d)
		}
		in(t, r.System, ref, func(ctx runtime.Context) {
			ctx.After(time.Second, "after the stop")
			ctx.StopSelf()
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if d := cmp.Diff(append(want, runtime.Stopping{}, runtime.Stopped{}), seen.get()); d != "" {
			t.Error(d)
		}
		if len(dropped.get()) != 0 {
			t.Errorf("timers handed to Dropped: %v", dropped.get())
		}
	})
}

func TestWatch(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen log
	w := r.spawn(t, runtime.Spec{Name: "w", New: probe(&seen), Policy: fast})
	a := r.spawn(t, runtime.Spec{Name: "a", New: probe(&log{}), Policy: fast})
	watch := func(ref runtime.Ref) {
		t.Helper()
		in(t, r.System, w, func(ctx runtime.Context) {
			ctx.Watch(ref)
			ctx.Watch(ref) // twice is once
			ctx.Watch(ctx.Self())
			ctx.Watch(runtime.Ref{})
		})
	}
	watch(a)
	r.Send(a, do(boom)) // a restart is no end
	in(t, r.System, a, func(runtime.Context) {})
	if len(seen.get()) != 1 {
		t.Fatalf("told of a restart: %v", seen.get())
	}
	r.Stop(a)
	seen.await(t, 2)
	watch(a) // gone already
	want := []any{runtime.Started{}, runtime.Terminated{Ref: a}, runtime.Terminated{Ref: a}}
	if d := cmp.Diff(want, seen.await(t, 3), refs); d != "" {
		t.Error(d)
	}

	b := r.spawn(t, runtime.Spec{Name: "b", New: probe(&log{})})
	watch(b)
	in(t, r.System, w, func(ctx runtime.Context) { ctx.Unwatch(b); ctx.Unwatch(b) })
	c := r.spawn(t, runtime.Spec{Name: "c", New: probe(&log{})})
	watch(c)
	r.Send(w, do(boom)) // its watches end with the incarnation
	in(t, r.System, w, func(runtime.Context) {})
	r.Stop(b)
	r.Stop(c)
	r.told.await(t, 3)
	in(t, r.System, w, func(runtime.Context) {})
	if d := cmp.Diff(append(want, runtime.Restarting{}, runtime.Started{}), seen.get(), refs); d != "" {
		t.Error(d)
	}
}

// A watch of an actor that is stopping waits until it has stopped.
func TestWatchWhileStopping(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen log
	w := r.spawn(t, runtime.Spec{Name: "w", New: probe(&seen)})
	gate := make(chan struct{})
	a := r.spawn(t, runtime.Spec{Name: "a", New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			if msg != (runtime.Started{}) {
				return
			}
			if _, err := ctx.Spawn(runtime.Spec{Name: "kid", New: func() runtime.Actor {
				return runtime.Func(func(_ runtime.Context, msg any) {
					if msg == (runtime.Stopping{}) {
						<-gate
					}
				})
			}}); err != nil {
				t.Error(err)
			}
		})
	}})
	r.Stop(a)
	awaitState(t, r.System, a, runtime.StateStopping)
	in(t, r.System, w, func(ctx runtime.Context) { ctx.Watch(a) })
	in(t, r.System, w, func(runtime.Context) {})
	if len(seen.get()) != 1 {
		t.Errorf("told too early: %v", seen.get())
	}
	close(gate)
	if d := cmp.Diff([]any{runtime.Started{}, runtime.Terminated{Ref: a}}, seen.await(t, 2), refs); d != "" {
		t.Error(d)
	}
}

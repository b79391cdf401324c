package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/actors/runtime"
)

func TestCall(t *testing.T) {
	type ask struct {
		n     int
		reply func(int)
	}
	r := newRoot(t, runtime.Options{})
	ref := r.spawn(t, runtime.Spec{Name: "a", Policy: runtime.Policy{Directive: runtime.Stop}, New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			m, ok := msg.(ask)
			switch {
			case !ok:
			case m.n < 0:
				panic("boom")
			case m.n == 0: // no reply
			case m.n == 1:
				m.reply(2)
				m.reply(3)
			case m.n == 2: // a reply that is its last act
				m.reply(4)
				ctx.StopSelf()
			}
		})
	}})
	call := func(ctx context.Context, n int) (int, error) {
		return runtime.Call(ctx, r.System, ref, func(reply func(int)) any { return ask{n, reply} })
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if v, err := call(ctx, 1); v != 2 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	cause := errors.New("cause")
	gone, cancelGone := context.WithCancelCause(ctx)
	cancelGone(cause)
	if _, err := call(gone, 0); !errors.Is(err, cause) {
		t.Errorf("ended ctx: %v", err)
	}
	if v, err := call(ctx, 2); v != 4 || err != nil {
		t.Errorf("last reply: %d, %v", v, err)
	}
	until(t, "ErrStopped", func() bool { _, err := call(ctx, 1); return errors.Is(err, runtime.ErrStopped) })
}

// A call to an actor that panics on it and stops does not wait for ctx.
func TestCallEndsWithTheActor(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&log{}), Policy: runtime.Policy{Directive: runtime.Stop}})
	_, err := runtime.Call(context.Background(), r.System, ref, func(func(int)) any { return do(boom) })
	if !errors.Is(err, runtime.ErrStopped) {
		t.Error(err)
	}
}

// described is a Describer.
type described struct{ runtime.Func }

func (described) Describe() any { return map[string]int{"tasks": 3} }

// undescribed is a Describer that panics.
type undescribed struct{ runtime.Func }

func (undescribed) Describe() any { panic("describe") }

func TestDescribe(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	run := runtime.Func(func(ctx runtime.Context, msg any) {
		if f, ok := msg.(do); ok {
			f(ctx)
		}
	})
	slow := runtime.Policy{MinBackoff: time.Hour, MaxBackoff: time.Hour}
	a := r.spawn(t, runtime.Spec{Name: "a", Policy: slow, New: func() runtime.Actor { return described{run} }})
	b := r.spawn(t, runtime.Spec{Name: "b", New: func() runtime.Actor { return run }})
	c := r.spawn(t, runtime.Spec{Name: "c", New: func() runtime.Actor { return undescribed{run} }})

	if v, err := r.Describe(ctx, a); err != nil || cmp.Diff(map[string]int{"tasks": 3}, v) != "" {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := r.Describe(ctx, b); err != nil || v != nil {
		t.Errorf("no describer: %v, %v", v, err)
	}
	if _, err := r.Describe(ctx, c); !errors.Is(err, runtime.ErrFailed) {
		t.Errorf("panic: %v", err)
	}
	if i, _ := info(r.System, c); i.State != runtime.StateRunning {
		t.Errorf("a panic of Describe left the actor %v", i.State)
	}
	r.Send(a, do(boom))
	awaitState(t, r.System, a, runtime.StateFailed)
	if _, err := r.Describe(ctx, a); !errors.Is(err, runtime.ErrFailed) {
		t.Errorf("failed: %v", err)
	}
	r.Stop(b)
	awaitGone(t, r.System, b)
	until(t, "ErrStopped", func() bool { _, err := r.Describe(ctx, b); return errors.Is(err, runtime.ErrStopped) })
	if _, err := r.Describe(ctx, runtime.Ref{}); !errors.Is(err, runtime.ErrStopped) {
		t.Errorf("zero: %v", err)
	}
}

func TestActors(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	ref, gate := blocked(t, r, runtime.Spec{Name: "b", Kind: "session", New: probe(&log{})})
	r.spawn(t, runtime.Spec{Name: "a", New: probe(&log{})})
	for range 5 {
		r.Send(ref, "x")
	}
	var paths []string
	for _, i := range r.Actors() {
		paths = append(paths, i.Path)
	}
	if d := cmp.Diff([]string{"root", "root/a", "root/b"}, paths); d != "" {
		t.Error(d)
	}
	i, _ := info(r.System, ref)
	i.Age = 0
	want := runtime.Info{
		Ref: ref, Path: "root/b", Kind: "session", State: runtime.StateRunning, Busy: true,
		Depth: 5, MaxDepth: i.MaxDepth, Processed: 1, LastMessage: "runtime_test.do",
	}
	if d := cmp.Diff(want, i, refs); d != "" {
		t.Error(d)
	}
	close(gate)
	until(t, "idle", func() bool { i, _ := info(r.System, ref); return !i.Busy && i.Depth == 0 && i.Processed == 6 })
}

func TestGo(t *testing.T) {
	s := newSystem(t, runtime.Options{})
	gate := make(chan struct{})
	s.Go("flusher", func() { <-gate })
	s.Go("flusher", func() { <-gate })
	s.Go("", func() { <-gate })
	if d := cmp.Diff(map[string]int{"flusher": 2, "unnamed": 1}, s.Goroutines()); d != "" {
		t.Error(d)
	}
	s.Go("bad", func() { panic("boom") })
	s.Go("fault", func() { // a fault on memory is a panic like any other
		var p *int
		*p = 1 //nolint:govet // the fault is what is tested
	})
	until(t, "events", func() bool { return len(s.Events()) == 2 })
	for _, ev := range s.Events() {
		if ev.Action != runtime.ActionGoroutine || ev.Kind != "goroutine" || !strings.HasPrefix(ev.Path, "go/") || ev.Stack == "" {
			t.Errorf("event %+v", ev)
		}
	}
	close(gate)
	until(t, "end", func() bool { return len(s.Goroutines()) == 0 })
}

func TestShutdownWithoutRoot(t *testing.T) {
	s := newSystem(t, runtime.Options{})
	shutdown(t, s)
	shutdown(t, s)
	<-s.Done()
	if _, err := s.SpawnRoot(runtime.Spec{Name: "root", New: probe(&log{})}); !errors.Is(err, runtime.ErrStopped) {
		t.Error(err)
	}
}

func TestShutdownTree(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var order log
	var grow func(depth int) func() runtime.Actor
	grow = func(depth int) func() runtime.Actor {
		return func() runtime.Actor {
			return runtime.Func(func(ctx runtime.Context, msg any) {
				switch msg.(type) {
				case runtime.Started:
					if depth > 0 {
						for _, n := range []string{"l", "r"} {
							if _, err := ctx.Spawn(runtime.Spec{Name: n, New: grow(depth - 1)}); err != nil {
								t.Error(err)
							}
						}
					}
					order.add("started")
				case runtime.Stopped:
					order.add(ctx.Path())
				}
			})
		}
	}
	r.spawn(t, runtime.Spec{Name: "t", New: grow(3)})
	order.await(t, 15)
	shutdown(t, r.System)
	seen := map[string]int{}
	for i, p := range order.get() {
		seen[p.(string)] = i
	}
	for p, i := range seen {
		for q, j := range seen {
			if strings.HasPrefix(q, p+"/") && j > i {
				t.Errorf("%s stopped before %s", p, q)
			}
		}
	}
	if len(r.Actors()) != 0 || r.Err() != nil {
		t.Errorf("%v, %v", r.Actors(), r.Err())
	}
	if c := r.Counters(); c.Spawned != 16 || c.Stopped != 16 {
		t.Errorf("counters %+v", c)
	}
}

func TestShutdownStuck(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	_, gate := blocked(t, r, runtime.Spec{Name: "hung", New: probe(&log{})})
	release := make(chan struct{})
	r.Go("slow", func() { <-release })
	short := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		err := r.Shutdown(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
	short("root/hung")
	close(gate)
	<-r.Done()
	short("slow")
	close(release)
}

// Spawning, stopping and shutting down at once leaves nobody behind.
func TestShutdownWhileSpawning(t *testing.T) {
	for range 30 {
		s := runtime.NewSystem(runtime.Options{})
		var started, stopped atomic.Int32
		leaf := func() runtime.Actor {
			return runtime.Func(func(_ runtime.Context, msg any) {
				switch msg.(type) {
				case runtime.Started:
					started.Add(1)
				case runtime.Stopped:
					stopped.Add(1)
				}
			})
		}
		ref, err := s.SpawnRoot(runtime.Spec{Name: "root", New: func() runtime.Actor {
			n := 0
			return runtime.Func(func(ctx runtime.Context, msg any) {
				if _, ok := msg.(int); !ok {
					return
				}
				n++
				kid, err := ctx.Spawn(runtime.Spec{Name: strings.Repeat("x", n), New: leaf})
				if err != nil {
					t.Error(err)
				}
				if n%2 == 0 {
					ctx.Stop(kid) // its end crosses the stop from above
				}
				ctx.Send(ctx.Self(), n)
			})
		}})
		if err != nil {
			t.Fatal(err)
		}
		s.Send(ref, 1)
		for n := 0; n < 20; n = int(s.Counters().Spawned) {
			time.Sleep(10 * time.Microsecond)
		}
		shutdown(t, s)
		if started.Load() != stopped.Load() {
			t.Fatalf("%d started, %d stopped", started.Load(), stopped.Load())
		}
	}
}

// The library logs to our logger, not to stderr, and not above Debug.
func TestLogger(t *testing.T) {
	var buf bytes.Buffer
	var sync syncBuffer
	s := newSystem(t, runtime.Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &sync, Level: hclog.Debug})})
	ref, err := s.SpawnRoot(runtime.Spec{Name: "root", Kind: "boss", New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			ctx.Log().Info("got", "msg", typeOf(msg))
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Send(ref, 1)
	until(t, "record", func() bool { return strings.Contains(sync.String(), "boss: got: actor=root msg=int") })
	buf.WriteString(sync.String())
	for line := range strings.Lines(buf.String()) {
		if strings.Contains(line, "protoactor") && !strings.Contains(line, "[DEBUG]") {
			t.Error(line)
		}
	}
	if !strings.Contains(buf.String(), "protoactor") {
		t.Error("nothing from the library")
	}
}

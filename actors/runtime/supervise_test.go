package runtime_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/actors/runtime"
)

func typeOf(x any) string { return reflect.TypeOf(x).String() }

// refs lets cmp compare handles.
var refs = cmp.Comparer(func(a, b runtime.Ref) bool { return a == b })

func noJitter(time.Duration) time.Duration { return 0 }

func boom(runtime.Context) { panic("boom") }

func TestBackoff(t *testing.T) {
	ms := func(n ...int) (ds []time.Duration) {
		for _, n := range n {
			ds = append(ds, time.Duration(n)*time.Millisecond)
		}
		return ds
	}
	tests := []struct {
		name   string
		policy runtime.Policy
		jitter func(time.Duration) time.Duration
		want   []time.Duration // between failure and restart; then it gives up
	}{
		{"default", runtime.Policy{}, noJitter, ms(100, 200, 400, 800, 1600, 3200, 6400, 10000)},
		{
			"jitter within the cap",
			runtime.Policy{MaxRestarts: 3, MinBackoff: time.Second, MaxBackoff: 3 * time.Second},
			func(d time.Duration) time.Duration { return d / 4 },
			ms(1250, 2500, 3000),
		},
		{"negative jitter", runtime.Policy{MaxRestarts: 1}, func(time.Duration) time.Duration { return -time.Hour }, ms(100)},
		{"no restarts", runtime.Policy{MaxRestarts: -1}, noJitter, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoot(t, runtime.Options{Jitter: tt.jitter})
				var got []time.Duration
				var failed time.Time
				ref := r.spawn(t, runtime.Spec{Name: "a", Policy: tt.policy, New: func() runtime.Actor {
					return runtime.Func(func(ctx runtime.Context, msg any) {
						switch msg.(type) {
						case runtime.Started:
							if !failed.IsZero() {
								got = append(got, time.Since(failed))
							}
						case string:
							failed = time.Now()
							panic("boom")
						}
					})
				}})
				for range len(tt.want) + 1 {
					r.Send(ref, "x")
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
				told := r.told.get()
				if len(told) != 2 || typeOf(told[0]) != "runtime.GaveUp" || typeOf(told[1]) != "runtime.Terminated" {
					t.Errorf("told %v", told)
				}
			})
		})
	}
}

// Failures older than the window are forgotten (and do not pile up).
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoot(t, runtime.Options{Jitter: noJitter})
		ref := r.spawn(t, runtime.Spec{
			Name: "a", New: probe(&log{}),
			Policy: runtime.Policy{MaxRestarts: 1, Window: time.Second},
		})
		for range 20 {
			r.Send(ref, do(boom))
			time.Sleep(1001 * time.Millisecond)
		}
		synctest.Wait()
		if c := r.Counters(); c.Restarts != 20 || c.GaveUp != 0 {
			t.Errorf("counters %+v", c)
		}
		for _, ev := range r.Events() {
			if ev.Backoff != runtime.DefaultMinBackoff {
				t.Errorf("event %d: backoff %v", ev.Seq, ev.Backoff)
			}
		}
	})
}

func TestStopDirective(t *testing.T) {
	decide := func(f *runtime.Failure) runtime.Directive {
		if f.Value == "boom" {
			return runtime.Stop
		}
		return runtime.Restart
	}
	for name, p := range map[string]runtime.Policy{
		"directive":    {Directive: runtime.Stop},
		"decide":       {Decide: decide},
		"decide fails": {Decide: func(*runtime.Failure) runtime.Directive { panic("in decide") }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoot(t, runtime.Options{})
			var seen log
			ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&seen), Policy: p})
			r.Send(ref, do(boom))
			told := r.told.await(t, 1)
			term, ok := told[0].(runtime.Terminated)
			if !ok || term.Ref != ref || term.Failure == nil || term.Failure.Value != "boom" {
				t.Fatalf("told %+v", told)
			}
			if !strings.Contains(term.Failure.Stack, "supervise_test.go") {
				t.Errorf("the stack is not that of the panic:\n%s", term.Failure.Stack)
			}
			if d := cmp.Diff([]any{runtime.Started{}, runtime.Stopping{}, runtime.Stopped{}}, seen.get()); d != "" {
				t.Error(d)
			}
		})
	}
}

// A stop during the wait for a restart wins, and the restart never reaches a
// later actor of the same name.
func TestStopDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoot(t, runtime.Options{})
		var first, second log
		ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&first)})
		r.Send(ref, do(boom))
		synctest.Wait()
		r.Stop(ref)
		synctest.Wait()
		again := r.spawn(t, runtime.Spec{Name: "a", New: probe(&second), Policy: runtime.Policy{MinBackoff: time.Hour, MaxBackoff: time.Hour}})
		r.Send(again, do(boom)) // it fails too: only the wrong timer could raise it
		time.Sleep(time.Minute)
		synctest.Wait()
		if d := cmp.Diff([]any{runtime.Started{}, runtime.Stopping{}, runtime.Stopped{}}, first.get()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]any{runtime.Started{}}, second.get()); d != "" {
			t.Error(d)
		}
		if ref == again || ref.Path() != again.Path() {
			t.Errorf("handles %v, %v", ref, again)
		}
		if d := cmp.Diff([]any{runtime.Terminated{Ref: ref}}, r.told.get(), refs); d != "" {
			t.Error(d)
		}
	})
}

// The failure of one child leaves its siblings and its parent alone.
func TestOneForOne(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var a, b log
	ra := r.spawn(t, runtime.Spec{Name: "a", New: probe(&a), Policy: fast})
	rb := r.spawn(t, runtime.Spec{Name: "b", New: probe(&b)})
	r.Send(ra, do(boom))
	r.Send(ra, "x")
	a.await(t, 4)
	r.Send(rb, "y")
	if d := cmp.Diff([]any{runtime.Started{}, "y"}, b.await(t, 2)); d != "" {
		t.Error(d)
	}
	if len(r.told.get()) != 0 {
		t.Errorf("told %v", r.told.get())
	}
}

// A parent that fails stops the children, also those waiting for a restart.
func TestParentFailsWhileChildWaits(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	var seen log
	var kid runtime.Ref
	ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&log{}), Policy: runtime.Policy{Directive: runtime.Stop}})
	in(t, r.System, ref, func(ctx runtime.Context) {
		kid, _ = ctx.Spawn(runtime.Spec{Name: "kid", New: probe(&seen), Policy: runtime.Policy{MinBackoff: time.Hour, MaxBackoff: time.Hour}})
	})
	r.Send(kid, do(boom))
	awaitState(t, r.System, kid, runtime.StateFailed)
	r.Send(ref, do(boom))
	r.told.await(t, 1)
	if d := cmp.Diff([]any{runtime.Started{}, runtime.Stopping{}, runtime.Stopped{}}, seen.get()); d != "" {
		t.Error(d)
	}
}

func TestEventsAndLog(t *testing.T) {
	synctest.Test(t, testEventsAndLog) // 30 failures take no time
}

func testEventsAndLog(t *testing.T) {
	var buf syncBuffer
	r := newRoot(t, runtime.Options{
		Logger: hclog.New(&hclog.LoggerOptions{Output: &buf}), Events: 4,
	})
	var heard log
	cancel := r.Subscribe(func(ev runtime.Event) { heard.add(ev.Seq) })
	r.Subscribe(func(runtime.Event) { panic("subscriber") })
	p := fast
	p.MaxRestarts = 100
	const secret = "hunter2"
	type login struct {
		n      int
		secret string
	}
	ref := r.spawn(t, runtime.Spec{Name: "a", Kind: "lun", Policy: p, New: func() runtime.Actor {
		return runtime.Func(func(_ runtime.Context, msg any) {
			if m, ok := msg.(login); ok {
				panic(fmt.Sprint("boom ", m.n))
			}
		})
	}})
	for i := range 30 {
		if i == 20 {
			until(t, "20 events", func() bool { return len(heard.get()) == 20 })
			cancel()
		}
		r.Send(ref, login{i, secret})
	}
	until(t, "30 failures", func() bool { return r.Counters().Restarts == 30 })
	evs := r.Events()
	if len(evs) != 4 {
		t.Fatalf("%d events kept", len(evs))
	}
	for i, ev := range evs {
		checkEvent(t, ev, 27+i)
	}
	if n := len(heard.get()); n != 20 {
		t.Errorf("the subscriber heard %d", n)
	}
	out := buf.String()
	// The burst, and no second passes that would allow more.
	if n := strings.Count(out, "panic: actor=root/a"); n != 10 {
		t.Errorf("%d log records", n)
	}
	if strings.Contains(out, secret) {
		t.Error("a secret in the log")
	}
}

// checkEvent compares ev with what the n-th failure must leave.
func checkEvent(t *testing.T, ev runtime.Event, n int) {
	t.Helper()
	want := runtime.Event{
		Seq: uint64(n), Path: "root/a", Kind: "lun", Generation: uint64(n),
		Message: "runtime_test.login", Panic: fmt.Sprint("boom ", n-1),
		Action: runtime.ActionRestarted, Backoff: time.Microsecond,
	}
	if ev.Stack == "" || ev.Time.IsZero() {
		t.Errorf("event %d without stack or time", ev.Seq)
	}
	ev.Stack, ev.Time = "", time.Time{}
	if d := cmp.Diff(want, ev); d != "" {
		t.Error(d)
	}
}

// syncBuffer is a bytes.Buffer for hclog, which locks each logger, not all.
type syncBuffer struct {
	log
	b bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestLongPanicIsShortened(t *testing.T) {
	r := newRoot(t, runtime.Options{})
	ref := r.spawn(t, runtime.Spec{Name: "a", New: probe(&log{}), Policy: fast})
	r.Send(ref, do(func(runtime.Context) { panic(strings.Repeat("x", 1<<20)) }))
	until(t, "event", func() bool { return len(r.Events()) == 1 })
	if ev := r.Events()[0]; len(ev.Panic) > 600 || len(ev.Stack) > 16<<10 {
		t.Errorf("panic %d bytes, stack %d bytes", len(ev.Panic), len(ev.Stack))
	}
}

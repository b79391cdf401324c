package runtime_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd/actors/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait bounds what a test waits for; only a failing test gets near it.
const wait = 10 * time.Second

// newSystem returns a system that is shut down at the end of the test, and must
// then leave nothing running.
func newSystem(t testing.TB, o runtime.Options) *runtime.System {
	t.Helper()
	s := runtime.NewSystem(o)
	t.Cleanup(func() { shutdown(t, s) })
	return s
}

func shutdown(t testing.TB, s *runtime.System) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// do is a message that the actors of these tests execute.
type do func(ctx runtime.Context)

// root is a system whose root executes do messages and notes what it is told of
// its children.
type root struct {
	*runtime.System
	ref  runtime.Ref
	told log
}

func newRoot(t testing.TB, o runtime.Options) *root {
	t.Helper()
	r := &root{System: newSystem(t, o)}
	ref, err := r.SpawnRoot(runtime.Spec{Name: "root", New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			switch m := msg.(type) {
			case do:
				m(ctx)
			case runtime.Terminated, runtime.GaveUp:
				r.told.add(m)
			}
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.ref = ref
	return r
}

// in runs f in the context of ref and waits for it.
func in(t testing.TB, s *runtime.System, ref runtime.Ref, f func(ctx runtime.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_, err := runtime.Call(ctx, s, ref, func(reply func(struct{})) any {
		return do(func(ctx runtime.Context) {
			f(ctx)
			reply(struct{}{})
		})
	})
	if err != nil {
		t.Fatalf("in %s: %v", ref, err)
	}
}

// spawn makes a child of the root.
func (r *root) spawn(t testing.TB, spec runtime.Spec) runtime.Ref {
	t.Helper()
	var ref runtime.Ref
	var err error
	in(t, r.System, r.ref, func(ctx runtime.Context) { ref, err = ctx.Spawn(spec) })
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// log is a list that a test may wait on.
type log struct {
	mu   sync.Mutex
	list []any
}

func (l *log) add(x any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, x)
}

func (l *log) get() []any {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]any(nil), l.list...)
}

func (l *log) await(t testing.TB, n int) []any {
	t.Helper()
	until(t, "enough entries", func() bool { return len(l.get()) >= n })
	return l.get()
}

// until waits for cond.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s in %v", what, wait)
		}
	}
}

// probe is an actor that notes each message and runs do.
func probe(l *log) func() runtime.Actor {
	return func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			if f, ok := msg.(do); ok {
				f(ctx)
				return
			}
			l.add(msg)
		})
	}
}

// fast restarts without making a test wait.
var fast = runtime.Policy{MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond}

// info returns the table's entry of ref.
func info(s *runtime.System, ref runtime.Ref) (runtime.Info, bool) {
	for _, i := range s.Actors() {
		if i.Ref == ref {
			return i, true
		}
	}
	return runtime.Info{}, false
}

func awaitGone(t testing.TB, s *runtime.System, ref runtime.Ref) {
	t.Helper()
	until(t, "end of "+ref.Path(), func() bool { _, ok := info(s, ref); return !ok })
}

func awaitState(t testing.TB, s *runtime.System, ref runtime.Ref, st runtime.State) {
	t.Helper()
	until(t, st.String(), func() bool { i, ok := info(s, ref); return ok && i.State == st })
}

package runtime

import (
	"context"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func end(t *testing.T, s *System) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// A request to restart that comes too late, behind the request to stop, does
// not raise the actor.
func TestLateRestart(t *testing.T) {
	s := NewSystem(Options{})
	gate, stopping := make(chan struct{}), make(chan struct{})
	var got []string
	ref, err := s.SpawnRoot(Spec{Name: "root", New: func() Actor {
		return Func(func(ctx Context, msg any) {
			got = append(got, typeName(msg))
			if _, ok := msg.(Started); !ok {
				return
			}
			if _, err := ctx.Spawn(Spec{Name: "kid", New: func() Actor {
				return Func(func(_ Context, msg any) {
					if _, ok := msg.(Stopping); ok {
						close(stopping)
						<-gate
					}
				})
			}}); err != nil {
				t.Error(err)
			}
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Stop(ref)
	<-stopping
	ref.c.mb.postSystem(restartNow{gen: 1})
	if _, err := s.Describe(context.Background(), ref); err != nil { // behind it
		t.Error(err)
	}
	close(gate)
	end(t, s)
	want := []string{"runtime.Started", "runtime.Stopping", "runtime.Terminated", "runtime.Stopped"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A stop that comes while Spawn is still at it is kept until then.
func TestStopDuringSpawn(t *testing.T) {
	s := NewSystem(Options{})
	c, err := s.newCell(nil, Spec{Name: "root", New: func() Actor {
		return Func(func(_ Context, msg any) {})
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Stop(Ref{c})
	s.Send(Ref{c}, 1)
	if len(s.Actors()) != 0 {
		t.Error("an actor is shown that is not made yet")
	}
	time.Sleep(time.Millisecond) // a worker that had been started would fail now
	if _, err := s.as.Root.SpawnNamed(c.props(), c.id); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	end(t, s)
	if n := s.Counters(); n.Failures != 0 || n.Dropped != 1 {
		t.Errorf("counters %+v", n)
	}
}

// TestQueueModel compares the queue with a slice.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var model []any
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				n := rapid.IntRange(1, 20).Draw(t, "n")
				for range n {
					x := rapid.Int().Draw(t, "x")
					q.push(x)
					model = append(model, x)
				}
			},
			"pop": func(t *rapid.T) {
				for range min(len(model), rapid.IntRange(1, 20).Draw(t, "n")) {
					if got := q.pop(); got != model[0] {
						t.Fatalf("got %v, want %v", got, model[0])
					}
					model = model[1:]
				}
			},
			"take": func(t *rapid.T) {
				got := q.take()
				if len(got) != len(model) {
					t.Fatalf("took %d, want %d", len(got), len(model))
				}
				for i := range got {
					if got[i] != model[i] {
						t.Fatalf("%d: got %v, want %v", i, got[i], model[i])
					}
				}
				model = nil
			},
			"": func(t *rapid.T) {
				if q.len() != len(model) {
					t.Fatalf("len %d, want %d", q.len(), len(model))
				}
				for _, x := range q.buf[:q.head] {
					if x != nil {
						t.Fatal("a popped message is kept alive")
					}
				}
			},
		})
	})
}

// H7: a burst's memory is given back.
func TestQueueShrinks(t *testing.T) {
	var q queue
	for i := range 1 << 20 {
		q.push(i)
	}
	for q.len() > 0 {
		q.pop()
	}
	if cap(q.buf) > maxKept {
		t.Errorf("an empty queue keeps room for %d", cap(q.buf))
	}
}

// A queue that is never empty does not grow without end.
func TestQueueStaysSmall(t *testing.T) {
	var q queue
	q.push(0)
	for i := range 1 << 20 {
		q.push(i)
		q.pop()
	}
	if cap(q.buf) > 16 {
		t.Errorf("a queue of one takes room for %d", cap(q.buf))
	}
}

// H16: an actor that fails for ever does not gather failures for ever.
func TestFailureHistoryIsBounded(t *testing.T) {
	s := &System{jitter: func(time.Duration) time.Duration { return 0 }}
	c := &cell{sys: s, policy: Policy{MaxRestarts: 3, Window: time.Minute}.withDefaults()}
	now := time.Now()
	for range 10000 {
		now = now.Add(25 * time.Second)
		c.decide(&Failure{Time: now})
	}
	if cap(c.fails) > 16 {
		t.Errorf("room for %d failures", cap(c.fails))
	}
}

func TestStrings(t *testing.T) {
	for want, got := range map[string]string{
		"restart": Restart.String(), "stop": Stop.String(), "Directive(9)": Directive(9).String(),
		"gave up": ActionGaveUp.String(), "Action(0)": Action(0).String(), "Action(99)": Action(99).String(),
		"failed": StateFailed.String(), "State(99)": State(99).String(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

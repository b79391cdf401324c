package runtime

import (
	"context"
	"sync"
)

// Call sends ref the message that build makes and waits for the first reply.
// The actor may call reply later, from any goroutine, or pass it on; it never
// blocks, and all calls but the first are ignored. Errors: ErrStopped when ref
// has stopped, or stops without having replied; the cause of ctx. A reply to a
// message that the actor panicked on never comes: ctx should have a deadline.
//
// Call blocks, so it is not for use within an actor.
func Call[T any](ctx context.Context, s *System, ref Ref, build func(reply func(T)) any) (T, error) {
	var zero T
	answer := make(chan T, 1)
	var once sync.Once
	msg := build(func(v T) { once.Do(func() { answer <- v }) })
	if !s.Send(ref, msg) {
		return zero, ErrStopped
	}
	select {
	case v := <-answer:
		return v, nil
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	case <-ref.c.done:
	}
	select {
	case v := <-answer: // the last thing it did
		return v, nil
	default:
		return zero, ErrStopped
	}
}

// describe asks for Describer.Describe.
type describe struct {
	answerTo chan described // holds one
}

type described struct {
	v   any
	err error
}

// Describe returns what ref's Describer says, nil if it is none. It goes before
// queued messages, but waits for the one in hand. Errors: ErrStopped, ErrFailed,
// the cause of ctx. It blocks, so it is not for use within an actor.
func (s *System) Describe(ctx context.Context, ref Ref) (any, error) {
	d := &describe{answerTo: make(chan described, 1)}
	if ref.c == nil || !ref.c.mb.postSystem(d) {
		return nil, ErrStopped
	}
	select {
	case a := <-d.answerTo:
		return a.v, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// answer runs in the context of c. A panic of Describe leaves the actor running,
// for it only looked.
func (d *describe) answer(c *cell) {
	a := described{err: ErrFailed}
	defer func() {
		if r := recover(); r != nil {
			f := &Failure{
				Ref: Ref{c}, Generation: c.gen.Load(), Message: "Describe",
				Value: r, Stack: stack(), Time: c.sys.clock.Now(),
			}
			c.failures.Add(1)
			c.sys.failures.Add(1)
			c.sys.record(f.event(ActionIgnored))
			a = described{err: ErrFailed}
		}
		d.answerTo <- a
	}()
	switch {
	case c.is(StateStopped):
		a.err = ErrStopped
	case c.user != nil && !c.is(StateFailed):
		a.err = nil
		if u, ok := c.user.(Describer); ok {
			a.v = u.Describe()
		}
	}
}

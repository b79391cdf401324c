package runtime

import (
	"context"
	"errors"
)

var errNotYet = errors.New("not implemented")

// Ref is a comparable handle of an actor; the zero value is none.
type Ref struct{ c *cell }

type cell struct{ path string }

// Path returns the path of the actor, "" for the zero Ref.
func (r Ref) Path() string {
	if r.c == nil {
		return ""
	}
	return r.c.path
}

// String returns the path.
func (r Ref) String() string { return r.Path() }

// IsZero reports whether r is no actor.
func (r Ref) IsZero() bool { return r.c == nil }

// System is a tree of actors with one root.
type System struct{}

// NewSystem returns a system without actors.
func NewSystem(Options) *System { return &System{} }

// SpawnRoot starts the root actor, once in the life of a system.
func (s *System) SpawnRoot(Spec) (Ref, error) { return Ref{}, errNotYet }

// Send is Context.Send for code outside of actors.
func (s *System) Send(Ref, any) bool { return false }

// Stop is Context.Stop for code outside of actors.
func (s *System) Stop(Ref) {}

// Shutdown stops the root and waits for every actor and every goroutine of Go.
func (s *System) Shutdown(context.Context) error { return errNotYet }

// Done is closed when the root actor has stopped.
func (s *System) Done() <-chan struct{} { return nil }

// Err returns the failure of the root actor, nil if it did not fail.
func (s *System) Err() error { return nil }

// Actors returns the living actors, sorted by path.
func (s *System) Actors() []Info { return nil }

// Counters returns the totals.
func (s *System) Counters() Counters { return Counters{} }

// Events returns the kept supervision events, oldest first.
func (s *System) Events() []Event { return nil }

// Subscribe has f called for each event; f must not block.
func (s *System) Subscribe(f func(Event)) (cancel func()) { return func() {} }

// Go runs f on a new goroutine: the one place that starts goroutines outside
// of actors. A panic becomes an event.
func (s *System) Go(name string, f func()) {}

// Goroutines returns how many functions given to Go run, by name.
func (s *System) Goroutines() map[string]int { return nil }

// Describe returns the Describer's answer of ref.
func (s *System) Describe(context.Context, Ref) (any, error) { return nil, errNotYet }

// Call sends ref the message that build makes and waits for its reply, for ctx,
// or for the end of ref (ErrStopped). Not from within an actor.
func Call[T any](ctx context.Context, s *System, ref Ref, build func(reply func(T)) any) (T, error) {
	var zero T
	return zero, errNotYet
}

// Pump is a mailbox whose owner runs messages inline.
type Pump struct{}

// NewPump returns a Pump for one Spec.
func NewPump() *Pump { return &Pump{} }

// Run executes msg on the caller's goroutine in actor context; false when the
// actor failed or has stopped.
func (p *Pump) Run(msg any) bool { return false }

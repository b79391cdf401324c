package runtime

import (
	"fmt"
	"time"
)

// Directive is what becomes of an actor that panicked.
type Directive uint8

const (
	// Restart makes a new incarnation after a backoff; the mailbox is kept.
	Restart Directive = iota
	// Stop ends the actor: for state that cannot be rebuilt, such as that of an
	// iSCSI connection at ErrorRecoveryLevel 0.
	Stop
)

// String returns "restart" or "stop".
func (d Directive) String() string {
	switch d {
	case Restart:
		return "restart"
	case Stop:
		return "stop"
	}
	return fmt.Sprintf("Directive(%d)", uint8(d))
}

// Defaults of Policy.
const (
	DefaultMaxRestarts = 8
	DefaultWindow      = 60 * time.Second
	DefaultMinBackoff  = 100 * time.Millisecond
	DefaultMaxBackoff  = 10 * time.Second
)

// Policy decides on a failed actor. The n-th failure (from 0) within Window is
// followed by a restart after MinBackoff·2^n plus jitter, at most MaxBackoff.
// The root actor has no policy: its failure stops it and ends the system.
type Policy struct {
	// Directive applies when Decide is nil.
	Directive Directive
	// Decide, if not nil, chooses by the failure. It runs in the context of the
	// failed actor and must not touch its state; if it panics, the actor stops.
	Decide func(*Failure) Directive
	// MaxRestarts is how many restarts Window may see; one failure more and the
	// actor is stopped and GaveUp sent. 0 means DefaultMaxRestarts, a negative
	// number none.
	MaxRestarts int
	// Window is the time failures count for. 0 means DefaultWindow.
	Window time.Duration
	// MinBackoff is the wait before the first restart. 0 means DefaultMinBackoff.
	MinBackoff time.Duration
	// MaxBackoff caps the wait, jitter included. 0 means DefaultMaxBackoff.
	MaxBackoff time.Duration
}

// withDefaults returns p with every zero field filled in.
func (p Policy) withDefaults() Policy {
	if p.MaxRestarts == 0 {
		p.MaxRestarts = DefaultMaxRestarts
	}
	if p.MaxRestarts < 0 {
		p.MaxRestarts = 0
	}
	if p.Window <= 0 {
		p.Window = DefaultWindow
	}
	if p.MinBackoff <= 0 {
		p.MinBackoff = DefaultMinBackoff
	}
	if p.MaxBackoff <= 0 {
		p.MaxBackoff = DefaultMaxBackoff
	}
	return p
}

// backoff returns the wait before the restart that follows failure n (from 0).
func (p Policy) backoff(n int, jitter func(time.Duration) time.Duration) time.Duration {
	d := p.MinBackoff
	for ; n > 0 && d < p.MaxBackoff; n-- {
		d *= 2
	}
	d = min(d, p.MaxBackoff)
	return min(d+max(jitter(d), 0), p.MaxBackoff)
}

// Failure is one panic of an actor. It is immutable and implements error.
type Failure struct {
	// Ref is the actor, Generation its incarnation.
	Ref        Ref
	Generation uint64
	// Message is the type of the message in hand, never its contents.
	Message string
	// Value is what panic was called with.
	Value any
	// Stack is the stack of the goroutine at the panic, shortened to 16 KiB.
	Stack string
	// Time is when it happened.
	Time time.Time
	// Directive is what the policy said, GaveUp whether its limit overrode it,
	// Backoff the wait before the restart.
	Directive Directive
	GaveUp    bool
	Backoff   time.Duration
}

// Error returns path, message type and panic value, without the stack.
func (f *Failure) Error() string {
	return fmt.Sprintf("actor %s: panic on %s: %s", f.Ref.Path(), f.Message, panicText(f.Value))
}

// Unwrap returns the panic value if that is an error.
func (f *Failure) Unwrap() error {
	err, _ := f.Value.(error)
	return err
}

// maxPanicText bounds what is kept of a panic value, in bytes.
const maxPanicText = 512

// panicText formats a panic value for logs and events.
func panicText(v any) string {
	s := fmt.Sprint(v)
	if len(s) > maxPanicText {
		s = s[:maxPanicText] + "…"
	}
	return s
}

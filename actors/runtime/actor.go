package runtime

import (
	"time"

	"github.com/hashicorp/go-hclog"
)

// Actor handles the messages of one actor, one at a time.
//
// msg is one of Started, Stopping, Stopped, Restarting, Terminated, GaveUp (all
// as values) or whatever was sent. The first message of every incarnation is
// Started. An Actor may also implement [Describer].
type Actor interface {
	Receive(ctx Context, msg any)
}

// Func makes an Actor of a function.
type Func func(ctx Context, msg any)

// Receive calls f.
func (f Func) Receive(ctx Context, msg any) { f(ctx, msg) }

// Describer is an Actor that can show its state on the console.
type Describer interface {
	// Describe returns a snapshot of the state. It is called in the actor's
	// context; the value is handed to another goroutine, so it must not share
	// memory that the actor goes on changing.
	Describe() any
}

// Context is an actor's view of the system, valid as long as the actor lives.
//
// Self, Parent, Path, Generation, Log, System, Send, Stop, StopSelf and
// SetBehaviour may be called from any goroutine; everything else only from
// within Receive.
type Context interface {
	// Self returns the handle of this actor; it is the same after a restart.
	Self() Ref
	// Parent returns the handle of the parent, zero for the root.
	Parent() Ref
	// Path returns the names from the root to this actor, joined with "/".
	Path() string
	// Generation counts the incarnations: 1 at first, one more per restart.
	Generation() uint64
	// Log returns a logger named after Spec.Kind that carries the path.
	Log() hclog.Logger
	// System returns the system this actor belongs to.
	System() *System
	// Spawn starts a child. The child's Started is handled concurrently. Errors:
	// ErrName, ErrNameExists, ErrNoProducer, ErrPumpInUse, ErrStopped (this
	// actor is on its way out).
	Spawn(spec Spec) (Ref, error)
	// Children returns the children that have not yet stopped, in no order.
	Children() []Ref
	// Stop asks ref to stop. Its children stop first. Messages queued there are
	// dropped (see Spec.Dropped). A zero or stopped ref is ignored.
	Stop(ref Ref)
	// StopSelf is Stop(Self()): the message in hand is finished first.
	StopSelf()
	// Watch asks for one Terminated when ref has stopped, at once if it has
	// stopped already. The parent of an actor gets it without asking. A watch
	// ends with the incarnation that asked for it.
	Watch(ref Ref)
	// Unwatch takes Watch back.
	Unwatch(ref Ref)
	// After sends msg to this actor once, d from now, and returns the function
	// that takes it back: after cancel returned, called from within Receive, msg
	// is not delivered. A timer never reaches a later incarnation.
	After(d time.Duration, msg any) (cancel func())
	// Send puts msg into the mailbox of ref. It reports whether ref took it; if
	// not, ref has stopped (or is zero), and what msg owns stays with the caller.
	Send(ref Ref, msg any) bool
	// SetBehaviour names the state the actor is in for the console.
	SetBehaviour(name string)
}

// Spec says how to make an actor and what to do when it fails.
type Spec struct {
	// Name is the last element of the path: not empty, without "/", unique
	// among the living children of the parent.
	Name string
	// Kind is the sort of actor ("session", "lun"), from a small fixed set: it
	// names loggers and labels metrics. Empty means "actor".
	Kind string
	// New makes the state of one incarnation. It is called in the context of
	// the new actor, right before Started, never in that of the parent.
	New func() Actor
	// Policy is what the supervisor does after a panic. The zero value restarts.
	Policy Policy
	// Pump, if not nil, is the mailbox of this actor. A Pump serves one actor
	// in its life. Nil gives the actor a worker goroutine of its own.
	Pump *Pump
	// Dropped, if not nil, takes every message that was accepted by Send and
	// will never be delivered because the actor stopped. It runs after Stopped
	// on whatever goroutine finished the actor, and must not block.
	Dropped func(msg any)
}

// Started is the first message of each incarnation. Resources are opened here.
type Started struct{}

// Stopping comes before the children are stopped.
type Stopping struct{}

// Stopped is the last message of an actor; all its children are gone.
type Stopped struct{}

// Restarting is the last message of a failed incarnation, which may release its
// resources; its children are stopped next, then a new incarnation is made.
type Restarting struct{}

// Terminated says that a child or a watched actor has stopped.
type Terminated struct {
	// Ref is the actor that is gone.
	Ref Ref
	// Failure is the panic that ended it; nil when it was stopped in order.
	Failure *Failure
}

// GaveUp tells the parent, before Terminated, that a child failed more often
// than its Policy allows and is stopped for good.
type GaveUp struct {
	// Ref is the child.
	Ref Ref
	// Reason is its last failure.
	Reason *Failure
}

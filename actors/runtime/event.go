package runtime

import (
	"fmt"
	"time"
)

// Action is what the runtime did about a panic.
type Action uint8

const (
	// ActionRestarted means: a new incarnation after Event.Backoff.
	ActionRestarted Action = iota + 1
	// ActionStopped means: the policy said Stop.
	ActionStopped
	// ActionGaveUp means: too many restarts; stopped for good.
	ActionGaveUp
	// ActionIgnored means: the actor was on its way out (Stopping, Restarting,
	// Stopped) or the panic came from a callback; nothing had to be done.
	ActionIgnored
	// ActionRootStopped means: the root actor failed; the system ends.
	ActionRootStopped
	// ActionGoroutine means: a function given to System.Go ended by the panic.
	ActionGoroutine
)

// String returns a lower-case name of the action.
func (a Action) String() string {
	switch a {
	case ActionRestarted:
		return "restarted"
	case ActionStopped:
		return "stopped"
	case ActionGaveUp:
		return "gave up"
	case ActionIgnored:
		return "ignored"
	case ActionRootStopped:
		return "root stopped"
	case ActionGoroutine:
		return "goroutine ended"
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// Event is the record of one panic. It carries no message contents.
type Event struct {
	// Seq counts the events of a system from 1.
	Seq uint64
	// Time is when it happened.
	Time time.Time
	// Path and Kind are those of the actor; for System.Go the path is "go/"
	// and the name, the kind "goroutine".
	Path, Kind string
	// Generation is the incarnation that failed, 0 for a goroutine.
	Generation uint64
	// Message is the type of the message in hand.
	Message string
	// Panic is the panic value as text, Stack the stack, both shortened.
	Panic, Stack string
	// Action is what was done; Backoff the wait when it is ActionRestarted.
	Action  Action
	Backoff time.Duration
}

// State is the life cycle of an actor.
type State uint8

const (
	// StateStarting means: made, Started not yet handled.
	StateStarting State = iota
	// StateRunning means: takes messages.
	StateRunning
	// StateFailed means: panicked; waits for its supervisor. Messages queue up.
	StateFailed
	// StateRestarting means: waits for its children to stop, then begins anew.
	StateRestarting
	// StateStopping means: waits for its children to stop.
	StateStopping
	// StateStopped means: gone for ever.
	StateStopped
)

// String returns a lower-case name of the state.
func (s State) String() string {
	switch s {
	case StateStarting:
		return "starting"
	case StateRunning:
		return "running"
	case StateFailed:
		return "failed"
	case StateRestarting:
		return "restarting"
	case StateStopping:
		return "stopping"
	case StateStopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Info is a console's view of one living actor. The fields are read one after
// the other while the actor goes on.
type Info struct {
	Ref        Ref
	Path, Kind string
	// Behaviour is what the actor last gave SetBehaviour.
	Behaviour string
	State     State
	// Pump says that the mailbox is a Pump; Busy that a message is in hand now.
	Pump, Busy bool
	// Depth is the number of messages queued, MaxDepth the most there ever were.
	Depth, MaxDepth int
	// Processed counts messages since the actor was spawned; Restarts its new
	// incarnations; Failures its panics.
	Processed, Restarts, Failures uint64
	// LastMessage is the type of the last message begun.
	LastMessage string
	// Age is the time since the actor was spawned.
	Age time.Duration
}

// Counters are totals since the system began.
type Counters struct {
	Spawned, Stopped, Failures, Restarts, GaveUp, Dropped uint64
}

package actors

import (
	"fmt"
	"time"

	"github.com/iserd/iserd/actors/runtime"
)

// maxDelay bounds an injected delay: the daemon can't stop while it lasts.
const maxDelay = 30 * time.Second

// FaultKind is a kind of fault that can be injected.
type FaultKind string

// The kinds of faults.
const (
	FaultPanic FaultKind = "panic" // its supervisor decides, as after any panic
	FaultStop  FaultKind = "stop"  // it stops, and nobody makes it again
	FaultDelay FaultKind = "delay" // it takes no message for a while
)

// Inject causes a fault in the actor at path, to show what supervision does.
// Delay is for FaultDelay, at most 30 s. It needs Options.FaultInjection.
func (n *Node) Inject(path string, kind FaultKind, delay time.Duration) error {
	if !n.inject {
		return fmt.Errorf("fault injection: %w", ErrForbidden)
	}
	var msg any
	switch kind {
	case FaultPanic:
		msg = crash{why: "injected fault"}
	case FaultDelay:
		if delay <= 0 || delay > maxDelay {
			return fmt.Errorf("a delay is longer than 0 and at most %v: %w", maxDelay, ErrInvalid)
		}
		msg = stall{delay}
	case FaultStop:
	default:
		return fmt.Errorf("a fault is panic, stop or delay, not %q: %w", kind, ErrInvalid)
	}
	a, err := n.actorAt(path)
	if err != nil {
		return err
	}
	n.log.Warn("fault injected", "actor", path, "fault", string(kind))
	if kind != FaultStop {
		return n.tell(path, msg)
	}
	if a.Ref == n.root {
		return fmt.Errorf("the root actor is the daemon itself: %w", ErrForbidden)
	}
	n.sys.Stop(a.Ref)
	return nil
}

// tell sends a message of this file to the actor at path.
func (n *Node) tell(path string, msg any) error {
	a, err := n.actorAt(path)
	if err != nil {
		return err
	}
	if a.Ref == n.root {
		return fmt.Errorf("the root actor is the daemon itself: %w", ErrForbidden)
	}
	if !n.sys.Send(a.Ref, msg) {
		return fmt.Errorf("actor %s has stopped: %w", path, ErrNotFound)
	}
	return nil
}

// crash is a panic that was asked for, stall a delay.
type (
	crash struct{ why string }
	stall struct{ d time.Duration }
)

// actor wraps a producer so that faults reach every kind of actor.
func (n *Node) actor(make func() runtime.Actor) func() runtime.Actor {
	return func() runtime.Actor { return &fallible{make()} }
}

// fallible is an actor that faults can be injected into.
type fallible struct{ runtime.Actor }

// Receive implements runtime.Actor.
func (f *fallible) Receive(ctx runtime.Context, msg any) {
	switch m := msg.(type) {
	case crash:
		panic(m.why)
	case stall:
		time.Sleep(m.d) // the only place where an actor waits: that is the fault
	default:
		f.Actor.Receive(ctx, msg)
	}
}

// Describe implements runtime.Describer.
func (f *fallible) Describe() any {
	if d, ok := f.Actor.(runtime.Describer); ok {
		return d.Describe()
	}
	return nil
}

package runtime

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// errGoexit stands for the panic value when an actor called runtime.Goexit.
var errGoexit = errors.New("the actor ended its goroutine with runtime.Goexit")

// maxStack bounds what is kept of a stack, in bytes.
const maxStack = 16 << 10

// stack returns the stack of the caller, shortened.
func stack() string {
	s := debug.Stack()
	return string(s[:min(len(s), maxStack)])
}

// typeName returns the type of a message; its contents are nobody's business.
func typeName(msg any) string {
	if msg == nil {
		return "nil"
	}
	return reflect.TypeOf(msg).String()
}

// crashed handles a panic with value v, recovered while msg was in hand. It is
// called by a deferred function, so that the stack is that of the panic.
func (c *cell) crashed(v any, msg any) {
	if v == nil {
		v = errGoexit
	}
	f := &Failure{
		Ref: Ref{c}, Generation: c.gen.Load(), Message: typeName(msg),
		Value: v, Stack: stack(), Time: c.sys.clock.Now(),
	}
	c.failures.Add(1)
	c.sys.failures.Add(1)
	if !c.takes() {
		// It ends or begins anew already. Escalating would make the library
		// restart it in the middle of stopping.
		c.sys.record(f.event(ActionIgnored))
		return
	}
	c.set(StateFailed)
	if c.parent == nil {
		c.death.Store(f)
		c.sys.record(f.event(ActionRootStopped))
		c.mb.postSystem(stopMessage)
		return
	}
	c.decide(f)
	c.sys.record(f.event(f.action()))
	if f.action() != ActionRestarted {
		c.death.Store(f)
	}
	// Not EscalateFailure: that would log the failure a second time and gather
	// statistics without end.
	if !c.parent.mb.postSystem(&actor.Failure{Who: c.pid, Reason: f}) {
		c.mb.postSystem(stopMessage) // cannot be: a parent outlives its children
	}
}

// decide fills in what the policy says about f.
func (c *cell) decide(f *Failure) {
	f.Directive = c.directive(f)
	if f.Directive != Restart {
		return
	}
	p := c.policy
	kept := c.fails[:0]
	for _, t := range c.fails {
		if f.Time.Sub(t) < p.Window {
			kept = append(kept, t)
		}
	}
	n := len(kept)
	c.fails = append(kept, f.Time)
	if n >= p.MaxRestarts {
		f.Directive, f.GaveUp = Stop, true
		c.sys.gaveUp.Add(1)
		return
	}
	f.Backoff = p.backoff(n, c.sys.jitter)
}

// directive asks the policy. A policy that panics stops the actor.
func (c *cell) directive(f *Failure) (d Directive) {
	if c.policy.Decide == nil {
		return c.policy.Directive
	}
	defer func() {
		if r := recover(); r != nil {
			g := *f
			g.Value, g.Stack, g.Message = r, stack(), "Policy.Decide"
			c.sys.record(g.event(ActionIgnored))
			d = Stop
		}
	}()
	return c.policy.Decide(f)
}

// HandleFailure is the supervision of the children of c, in the context of c:
// one for one, as the child's own policy decided.
func (c *cell) HandleFailure(_ *actor.ActorSystem, _ actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	kid := c.kids[child.Id]
	f, ok := reason.(*Failure)
	if kid == nil || !ok {
		return
	}
	if f.action() == ActionRestarted {
		kid.restartAfter(f.Generation, f.Backoff)
		return
	}
	kid.mb.postSystem(stopMessage)
	if f.GaveUp && c.takes() {
		c.deliver(GaveUp{Ref: Ref{kid}, Reason: f})
	}
}

// restartAfter restarts incarnation gen, if it still waits for it after d. The
// request goes to this very actor and never to a later one of the same name.
func (c *cell) restartAfter(gen uint64, d time.Duration) {
	c.arm(&timer{c: c, gen: gen}, d)
}

// action returns what f.Directive and f.GaveUp amount to.
func (f *Failure) action() Action {
	switch {
	case f.GaveUp:
		return ActionGaveUp
	case f.Directive == Restart:
		return ActionRestarted
	}
	return ActionStopped
}

// event returns the record of f.
func (f *Failure) event(a Action) Event {
	return Event{
		Time: f.Time, Path: f.Ref.Path(), Kind: f.Ref.c.kind(), Generation: f.Generation,
		Message: f.Message, Panic: panicText(f.Value), Stack: f.Stack,
		Action: a, Backoff: f.Backoff,
	}
}

// rootError is what System.Err returns.
func rootError(f *Failure) error {
	if f == nil {
		return nil
	}
	return fmt.Errorf("root %w", f)
}

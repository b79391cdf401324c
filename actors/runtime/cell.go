package runtime

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/go-hclog"
)

// Ref is a comparable handle of an actor; the zero value is none. It names one
// spawned actor, through all its restarts, and never a later one of the same
// name. A Ref may be kept and used from any goroutine.
type Ref struct{ c *cell }

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

// cell is the part of an actor that outlives its restarts. To the library it is
// the actor itself and, as its actor.SupervisorStrategy, that of its children;
// to the user it is the Context.
type cell struct {
	sys    *System
	parent *cell
	spec   Spec
	policy Policy
	path   string
	id     string // last element of the library's process id, never reused
	mb     *mailbox
	born   time.Time
	done   chan struct{} // closed when the mailbox is

	state              atomic.Uint32
	gen                atomic.Uint64
	restarts, failures atomic.Uint64
	behaviour          atomic.Pointer[string]
	death              atomic.Pointer[Failure] // the failure that ended the actor
	logOnce            sync.Once
	log                hclog.Logger

	// The rest belongs to the actor's context, that is, to the runner.
	pid      *actor.PID
	pc       actor.Context
	user     Actor            // nil before Started and when New failed
	kids     map[string]*cell // by the library's process id
	watching map[string]*cell // likewise
	watchers map[*cell]struct{}
	fails    []time.Time // failures within the window of the policy

	tmu      sync.Mutex
	timers   map[*timer]struct{} // guarded by tmu
	timerEnd bool                // guarded by tmu: no new timers
}

func (c *cell) is(s State) bool { return State(c.state.Load()) == s }

func (c *cell) set(s State) { c.state.Store(uint32(s)) }

// takes reports whether user messages may run.
func (c *cell) takes() bool { return c.is(StateRunning) }

func (c *cell) kind() string {
	if c.spec.Kind == "" {
		return "actor"
	}
	return c.spec.Kind
}

// props tells the library how to make c. The producer does nothing: what can
// fail is done in start, under the recovery and the supervision of c itself
// and not of its parent.
func (c *cell) props() *actor.Props {
	return actor.PropsFromProducer(
		func() actor.Actor { return c },
		actor.WithMailbox(func() actor.Mailbox { return c.mb }),
		actor.WithOnInit(func(pc actor.Context) { c.pc, c.pid = pc, pc.Self() }),
	)
}

// Receive dispatches what the library delivers: not user messages, which the
// mailbox delivers itself.
func (c *cell) Receive(pc actor.Context) {
	switch msg := pc.Message().(type) {
	case *actor.Started:
		c.start()
	case *actor.Stopping:
		c.set(StateStopping)
		c.endTimers(true)
		c.deliver(Stopping{})
	case *actor.Stopped:
		c.finish()
	case *actor.Restarting:
		c.set(StateRestarting)
		c.endTimers(false)
		c.deliver(Restarting{})
		c.unwatchAll()
		c.user = nil
	case *actor.Terminated:
		c.terminated(msg.Who.Id)
	}
}

// start makes an incarnation.
func (c *cell) start() {
	if c.gen.Add(1) > 1 {
		c.restarts.Add(1)
		c.sys.restarts.Add(1)
	}
	c.set(StateRunning)
	c.guard(Started{}, func() {
		c.user = c.spec.New()
		if c.user == nil {
			panic(errors.New("Spec.New returned nil"))
		}
		c.user.Receive(c, Started{})
	})
}

// deliver hands msg to the user's actor, containing a panic.
func (c *cell) deliver(msg any) {
	if c.user == nil {
		return
	}
	normal := false
	defer func() {
		if !normal {
			c.crashed(recover(), msg)
		}
	}()
	c.user.Receive(c, msg)
	normal = true
}

// guard is deliver for anything but Receive.
func (c *cell) guard(msg any, f func()) {
	normal := false
	defer func() {
		if !normal {
			c.crashed(recover(), msg)
		}
	}()
	f()
	normal = true
}

// terminated handles the end of the actor with the library's process id.
func (c *cell) terminated(id string) {
	gone := c.kids[id]
	if gone == nil {
		gone = c.watching[id]
	}
	delete(c.kids, id)
	delete(c.watching, id)
	if gone == nil {
		return // unwatched meanwhile, or both child and watched
	}
	// A failed incarnation gets nothing more.
	if c.takes() || c.is(StateStopping) {
		c.deliver(Terminated{Ref: Ref{gone}, Failure: gone.death.Load()})
	}
}

// restartNow makes a failed incarnation give way to the next.
type restartNow struct{ gen uint64 }

// watch and unwatch add and remove a watcher. The library's own would answer
// before the actor has stopped, and would find the watcher by name.
type (
	watch   struct{ by *cell }
	unwatch struct{ by *cell }
)

// stopMessage is what the library calls a request to stop.
var stopMessage = &actor.Stop{} //nolint:gochecknoglobals // immutable

// system runs a system message on the runner's goroutine.
func (c *cell) system(inv actor.MessageInvoker, msg any) {
	switch msg := msg.(type) {
	case *actor.SuspendMailbox, *actor.ResumeMailbox:
		// The state of the cell says the same, and is set without a detour.
	case restartNow:
		// The library would raise even a stopped actor: only the incarnation
		// that failed is restarted.
		if c.is(StateFailed) && c.gen.Load() == msg.gen {
			c.guard(msg, func() { inv.InvokeSystemMessage(&actor.Restart{}) })
		}
	case *describe:
		msg.answer(c)
	case watch:
		if c.watchers == nil {
			c.watchers = make(map[*cell]struct{})
		}
		c.watchers[msg.by] = struct{}{}
	case unwatch:
		delete(c.watchers, msg.by)
	default:
		c.guard(msg, func() { inv.InvokeSystemMessage(msg) })
	}
}

// finish is the end of the actor. The library tells the parent afterwards, so
// that what was queued is accounted for when Terminated comes.
func (c *cell) finish() {
	c.deliver(Stopped{})
	c.sys.remove(c)
	c.user = nil
	c.set(StateStopped)
	user, sys := c.mb.close()
	for _, msg := range sys {
		switch msg := msg.(type) {
		case watch:
			msg.by.mb.postSystem(&actor.Terminated{Who: c.pid})
		case *describe:
			msg.answer(c)
		}
	}
	for _, msg := range user {
		if _, ok := msg.(*timer); ok {
			continue
		}
		c.sys.dropped.Add(1)
		if c.spec.Dropped != nil {
			c.guard(msg, func() { c.spec.Dropped(msg) })
		}
	}
	for w := range c.watchers {
		w.mb.postSystem(&actor.Terminated{Who: c.pid})
	}
	c.watchers = nil
	c.sys.stopped.Add(1)
	close(c.done)
	if c.parent == nil {
		close(c.sys.done)
	}
}

package runtime

import (
	"reflect"
	"runtime/debug"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// mailbox is the queue of one actor and the right to run it.
//
// Exactly one goroutine at a time is the runner (running is set): it alone
// calls the invoker and touches what belongs to the actor's context. That is
// the worker, which starts with the first message and ends with the actor, or
// a caller of Pump.Run. The library's SuspendMailbox and ResumeMailbox are not
// used: the cell's state says whether user messages may run, and only the
// runner changes it.
type mailbox struct {
	mu   sync.Mutex
	work sync.Cond // the worker waits for something to run
	free sync.Cond // callers of Run wait to become the runner

	// guarded by mu
	c         *cell // set once by attach
	inv       actor.MessageInvoker
	user, sys queue
	running   bool
	closed    bool // the actor has stopped; nothing is accepted any more
	worker    bool // the worker goroutine exists
	waiters   int  // callers waiting in Run: they go before the worker
	maxDepth  int
	processed uint64
	last      reflect.Type
}

func newMailbox() *mailbox {
	m := &mailbox{}
	m.init()
	return m
}

func (m *mailbox) init() {
	m.work.L = &m.mu
	m.free.L = &m.mu
}

// attach makes m the mailbox of c; it reports whether m was free.
func (m *mailbox) attach(c *cell) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c != nil {
		return false
	}
	m.c = c
	return true
}

// RegisterHandlers, Start, PostUserMessage, PostSystemMessage and
// UserMessageCount are the library's Mailbox interface.
func (m *mailbox) RegisterHandlers(inv actor.MessageInvoker, _ actor.Dispatcher) {
	m.mu.Lock()
	m.inv = inv
	m.mu.Unlock()
}

func (m *mailbox) Start() {}

func (m *mailbox) PostUserMessage(msg any) { m.post(msg) }

func (m *mailbox) PostSystemMessage(msg any) { m.postSystem(msg) }

func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

// post queues msg; false when the actor has stopped.
func (m *mailbox) post(msg any) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.user.push(msg)
	m.maxDepth = max(m.maxDepth, m.user.len())
	m.wake()
	return true
}

// postSystem queues msg before all user messages; false when the actor has
// stopped.
func (m *mailbox) postSystem(msg any) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.sys.push(msg)
	m.wake()
	return true
}

// wake sees to it that somebody runs what is queued. mu is held.
func (m *mailbox) wake() {
	if m.running || m.inv == nil {
		return // the runner looks again before it lets go; Started comes yet
	}
	if !m.worker {
		m.worker = true
		m.c.sys.startWorker(m)
	}
	m.work.Signal()
}

// runnable reports whether a runner would find work. mu is held.
func (m *mailbox) runnable() bool {
	return m.sys.len() > 0 || m.user.len() > 0 && m.c.takes()
}

// release gives up the right to run. mu is held.
func (m *mailbox) release() {
	m.running = false
	if m.closed {
		return
	}
	if m.waiters > 0 {
		m.free.Signal()
		return
	}
	if m.runnable() {
		m.wake()
	}
}

// serve is the worker goroutine.
func (m *mailbox) serve() {
	debug.SetPanicOnFault(true) // a fault on mapped memory is a panic
	normal := false
	defer func() {
		if !normal {
			m.respawn()
		}
	}()
	m.mu.Lock()
	for {
		for !m.closed && (m.running || m.waiters > 0 || !m.runnable()) {
			m.work.Wait()
		}
		if m.closed {
			break
		}
		m.running = true
		m.drain(-1, true)
		m.release()
	}
	m.mu.Unlock()
	normal = true
}

// respawn replaces a worker that an actor ended with runtime.Goexit.
func (m *mailbox) respawn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.worker = false
	m.release()
	if !m.closed && !m.worker {
		m.worker = true
		m.c.sys.startWorker(m)
	}
}

// drain runs system messages, then up to limit user messages (all if negative),
// until there are none, the actor no longer takes them, or, if polite, somebody
// waits in Run. The caller is the runner. mu is held, but not while a message
// runs.
func (m *mailbox) drain(limit int, polite bool) {
	for !m.closed {
		if m.sys.len() > 0 {
			msg := m.sys.pop()
			m.mu.Unlock()
			m.c.system(m.inv, msg)
			m.mu.Lock()
			continue
		}
		if m.user.len() == 0 || limit == 0 || !m.c.takes() || polite && m.waiters > 0 {
			return
		}
		m.invoke(m.user.pop())
		limit--
	}
}

// invoke runs one user message. The caller is the runner. mu is held, but not
// while the message runs. The library would only call back, on the way to looking
// for metrics, middleware and timeouts that there are not: with one command a turn
// that was a twentieth of iserd's CPU time over soft-RoCE.
func (m *mailbox) invoke(msg any) {
	t, timed := msg.(*timer)
	if timed {
		msg = t.msg
	}
	m.processed++
	m.last = reflect.TypeOf(msg)
	m.mu.Unlock()
	if !timed || t.due() {
		m.c.deliver(msg)
	}
	m.mu.Lock()
}

// close ends the mailbox and returns what was queued, which the caller, the
// runner, must see to.
func (m *mailbox) close() (user, sys []any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.work.Broadcast()
	m.free.Broadcast()
	return m.user.take(), m.sys.take()
}

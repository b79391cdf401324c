package runtime

// pumpShare is how many queued messages Run executes after its own one; the
// rest is the worker's, so that a flood from outside cannot hold up the owner.
const pumpShare = 256

// Pump is a mailbox whose owner, the goroutine that waits for a socket or a
// completion queue, runs one message per batch inline in the actor's context.
// Messages sent by others run on the worker goroutine of the actor, or on the
// owner's if that happens to be running. A Pump serves one actor in its life.
type Pump struct {
	mb mailbox
}

// NewPump returns a Pump to put into Spec.Pump.
func NewPump() *Pump {
	p := &Pump{}
	p.mb.init()
	return p
}

// Run hands msg to the actor on the caller's goroutine, borrowing it: waits
// until no other goroutine runs the actor, executes control messages that wait,
// then msg, then a bounded number of queued messages. It allocates nothing.
//
// It returns false when the actor panicked, is waiting for its restart, is
// stopping or has stopped, before msg, on it, or right after; msg may or may
// not have been seen. After a restart Run works again; after a stop it returns
// false for ever, at once. It returns false too before the Pump was given to
// Spawn. Run must not be called from within the actor's own Receive.
func (p *Pump) Run(msg any) bool {
	m := &p.mb
	m.mu.Lock()
	for m.running && !m.closed {
		m.waiters++
		m.free.Wait()
		m.waiters--
	}
	if m.closed || m.inv == nil {
		m.mu.Unlock()
		return false
	}
	m.running = true
	normal := false
	defer func() {
		if !normal { // the actor ended this goroutine with runtime.Goexit
			m.mu.Lock()
			m.release()
			m.mu.Unlock()
		}
	}()

	m.drain(0, false)
	ok := m.c.takes()
	if ok {
		m.invoke(msg)
		ok = m.c.takes()
		m.drain(pumpShare, false)
	}
	ok = ok && m.c.takes()
	m.release()
	m.mu.Unlock()
	normal = true
	return ok
}

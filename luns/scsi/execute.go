package scsi

import "runtime/debug"

// TryExec runs a decoded command to its end if that cannot block: from memory,
// from the page cache, or because it is a control command. It returns false if
// it cannot; the owner then calls Submit, or, if Contended is set, releases
// its own finished commands and tries again first.
//
// If In aliases the memory of the logical unit, the range stays locked until
// Release.
func (c *Command) TryExec() (done bool) {
	c.Contended = false
	if c.member == listed && c.Nexus.port.tasks.waits(c, false) {
		return false
	}
	if !c.enter() {
		return true
	}
	defer c.recoverInline(&done)
	if !c.op.run(c, inline) {
		return false
	}
	c.settle()
	return true
}

// recoverInline is deferred by TryExec: a panic in a handler or a backend fails
// the command and is reported to the port.
func (c *Command) recoverInline(done *bool) {
	if v := recover(); v != nil {
		c.crashed(v)
		*done = true
	}
}

// Submit hands the command to the workers of its unit, when its task attribute
// says that it may begin. Done is called when it has finished, perhaps before
// Submit returns.
func (c *Command) Submit() {
	if c.member == listed && c.Nexus.port.tasks.waits(c, true) {
		return
	}
	c.submitEnabled()
}

func (c *Command) submitEnabled() {
	if !c.enter() {
		c.Done(c)
		return
	}
	c.unit.workers.submit(c)
}

// execBlocking is the worker's part of a command.
func (c *Command) execBlocking() {
	c.started = Nanotime()
	c.Contended = false
	switch {
	case c.Aborted.Load():
		c.Status = TaskAborted
	case c.unit.closing():
		c.Status = Busy
	default:
		c.runBlocking()
	}
	c.settle()
	c.callDone()
}

// callDone keeps a panic of the owner's callback from ending the process. The
// command belongs to the owner by then and is not touched.
func (c *Command) callDone() {
	fault := c.Nexus.port.Fault
	defer func() {
		if v := recover(); v != nil && fault != nil {
			fault(v, debug.Stack())
		}
	}()
	c.Done(c)
}

func (c *Command) runBlocking() {
	defer func() {
		if v := recover(); v != nil {
			c.crashed(v)
		}
	}()
	c.op.run(c, blocking)
}

// crashed answers a command whose handler panicked, S9 of the design: HARDWARE
// ERROR, and the fault goes to the owner of the logical unit.
func (c *Command) crashed(v any) {
	stack := debug.Stack()
	c.unlock()
	c.Fail(HardwareError, InternalTargetFailure)
	c.settle()
	if f := c.Nexus.port.Fault; f != nil {
		f(v, stack)
	}
}

// Abort sets Aborted and takes the command out of the queue of the workers. It
// returns true if the command had not started: it is finished with TASK
// ABORTED, and Done will not be called. Otherwise Done is called, when the
// backend is through with the command. It may be called at any time, from any
// goroutine, on a command that has been submitted and not been released.
func (c *Command) Abort() bool {
	c.Aborted.Store(true)
	u := c.unit
	if u == nil {
		return false
	}
	if c.member == listed && c.Nexus.port.tasks.withdraw(c) || u.workers.remove(c) {
		c.Status = TaskAborted
		c.settle()
		return true
	}
	if w := c.waiter.Load(); w != nil {
		w.lock.cancel(w) // a copy waits for other units as well
	}
	if done := c.tasks.Load(); done != nil {
		tell(*done)
	}
	return false
}

// Release ends the command: it leaves the task set, and the use of In ends with the
// range lock and the reference to the unit that it may still hold. The owner calls it when the
// data-in has been sent or copied, and when it gives a command up between
// Decode and Submit. It is idempotent.
func (c *Command) Release() {
	c.unlock()
	c.leave()
	c.In = nil
	if c.member != notIn {
		c.Nexus.port.tasks.leave(c)
	}
	if cap(c.scratch) > maxKeptScratch {
		c.scratch = nil
	}
}

// enter takes a reference of the unit found by Decode; if that has been
// revoked since, the command is finished with BUSY: the initiator repeats it
// on the new incarnation.
func (c *Command) enter() bool {
	if c.entered {
		return true
	}
	if !c.unit.enter() {
		c.In = nil
		c.Status = Busy
		return false
	}
	c.entered = true
	return true
}

func (c *Command) leave() {
	if c.entered {
		c.entered = false
		c.unit.leave()
	}
}

// settle drops the reference of a finished command, unless In aliases the
// memory of the unit, which the lock says.
func (c *Command) settle() {
	if c.Status != Good && c.Status != ConditionMet {
		c.unlock()
		c.In = nil
	}
	if !c.locked {
		c.leave()
	}
}

// lock takes the range lock for n > 0 bytes at off. If it returns false, the
// handler returns m == blocking at once: inline the range is contended, on a
// worker the command has been aborted and Status says so.
func (c *Command) lock(m mode, off, n int64, kind lockKind) bool {
	if c.locked {
		return true // kept from an inline attempt
	}
	s := spanOf(off, n, kind)
	l := &c.unit.locks
	if m == inline {
		c.locked = l.try(s)
		c.Contended = !c.locked
	} else {
		c.locked = l.lock(s, c.announce)
		c.waiter.Store(nil)
		if c.locked && c.Aborted.Load() {
			// Aborted before the wait was announced, which was not needed then.
			l.unlock(s)
			c.locked = false
		}
		if !c.locked {
			c.Status = Busy
			if c.Aborted.Load() {
				c.Status = TaskAborted
			}
		}
	}
	c.span = s
	if c.locked {
		if g := rights(c.Nexus.gate.Load()); g != c.gate || g&gateDetached != 0 {
			return c.recheck(m)
		}
	}
	return c.locked
}

// announce publishes the wait for Abort; a command aborted before that does
// not wait at all.
func (c *Command) announce(w *lockWaiter) bool {
	c.waiter.Store(w)
	return !c.Aborted.Load()
}

func (c *Command) unlock() {
	if c.locked {
		c.locked = false
		c.unit.locks.unlock(c.span)
	}
}

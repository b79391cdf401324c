package scsi

// Land returns the memory of the logical unit that the data-out of a WRITE goes to,
// OutLen bytes, for a transport that can place data there (RDMA) without a copy; nil
// where that can't be done at once, or must not be: then the data goes to a buffer.
//
// The range is locked exclusively from then on, and the unit is in use, until the owner
// calls TryExec with the memory, filled, as Out, or Release, or Unland. What has come
// by then stays there: a WRITE that is given up may be torn, as no WRITE ATOMIC may be. It is called between Decode and TryExec.
func (c *Command) Land() []byte {
	u := c.unit
	if !c.op.is(opLand) || u.mapper == nil || c.OutLen == 0 || c.member == listed || !u.enter() {
		return nil
	}
	c.entered = true
	off := int64(c.lba << u.blockShift)
	if c.lock(inline, off, int64(c.OutLen), exclusive) {
		if p, err := u.mapped(off, int64(c.OutLen)); err == nil {
			c.landed = true
			return p
		}
	}
	c.Unland()
	return nil
}

// Unland takes Land back, when nothing has been put there.
func (c *Command) Unland() {
	c.Contended, c.landed = false, false
	c.unlock()
	c.leave()
}

// Unwanted reports whether a command that has memory of its unit, by Land or in In,
// holds up the unit's end.
func (c *Command) Unwanted() bool { return c.locked && c.unit.closing() }

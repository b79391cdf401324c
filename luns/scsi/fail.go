package scsi

// Fail finishes the command with CHECK CONDITION. Owners use it for errors of
// the transport, such as ABORTED COMMAND for missing data-out. It drops what
// the command had to return.
func (c *Command) Fail(key SenseKey, asc ASC) {
	c.fail(&senseInfo{key: key, asc: asc})
}

// FailInfo is Fail with a value for the INFORMATION field.
func (c *Command) FailInfo(key SenseKey, asc ASC, info uint64) {
	c.fail(&senseInfo{key: key, asc: asc, valid: true, info: info})
}

func (c *Command) fail(s *senseInfo) {
	c.Status = CheckCondition
	c.In = nil
	c.Sense = s.append(c.senseBuf[:0], c.unit != nil && c.unit.descriptorSense.Load())
}

// failField finishes the command with INVALID FIELD IN CDB or INVALID FIELD IN
// PARAMETER LIST and points at the field: offset in bytes, and bit, the
// left-most bit of the field, or -1 for whole bytes. It returns false, for
// decoders.
func (c *Command) failField(where fieldPlace, offset, bit int) bool {
	asc := InvalidFieldInParamList
	if where == inCDB {
		asc = InvalidFieldInCDB
	}
	c.fail(&senseInfo{
		key: IllegalRequest, asc: asc,
		sksv: true, sks: fieldPointer(where, offset, bit),
	})
	return false
}

// failUnknown finishes a command that the unit does not have. It returns false,
// for decoders. Where the unit has other commands of the operation code, it is
// the SERVICE ACTION field that is invalid.
func (c *Command) failUnknown() bool {
	if len(c.CDB) >= 6 {
		if g := c.unit.table[c.CDB[0]]; g != nil && g.has(c.caps()) {
			return c.failField(inCDB, 1, 4)
		}
	}
	c.Fail(IllegalRequest, InvalidOperationCode)
	return false
}

// failBackend finishes the command after an error of the backend.
func (c *Command) failBackend(err error, a access) {
	status, key, asc := backendSense(err, a)
	switch {
	case status != CheckCondition:
		c.Status = status
		c.In = nil
	case key == MediumError && c.blocks == 1:
		// SBC-4 4.18: INFORMATION is the LBA of the block in error. Of a longer
		// transfer it is not known which.
		c.FailInfo(key, asc, c.lba)
	default:
		c.Fail(key, asc)
	}
	if r := c.unit.cfg.Report; r != nil {
		r(&Error{Op: c.op.name, Key: key, ASC: asc, LBA: c.lba, Err: err})
	}
}

// failClosed finishes a command that found no unit behind its port.
func (c *Command) failClosed(s Closed) {
	switch s {
	case ClosedFailed:
		c.Fail(NotReady, ManualInterventionNeeded)
	case ClosedGone:
		c.Fail(IllegalRequest, LUNotSupported)
	default:
		c.Status = Busy
	}
}

// reply makes data the data-in, truncated to the allocation length, SPC-5
// 4.2.5.6: truncation is no error.
func (c *Command) reply(data []byte) {
	n := min(len(data), c.alloc)
	c.scratch = data
	c.In = data[:n:n]
}

// build returns the empty buffer that the data-in of a control command is
// appended to. Every byte of the result has been written by an append: nothing
// of an earlier command can show.
func (c *Command) build() []byte { return c.scratch[:0] }

// zeros appends n zero bytes.
func zeros(b []byte, n int) []byte { return append(b, make([]byte, n)...) }

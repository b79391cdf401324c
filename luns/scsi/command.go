package scsi

import "sync/atomic"

// Command is one SCSI command on its way through the device server. Its owner
// allocates it once and reuses it. The life of one use:
//
//	c.Reset()
//	c.Nexus, c.CDB = nexus, cdb
//	if c.Decode() {                 // else: finished, c.Status is set
//		… receive c.OutLen bytes into c.Out, provide c.NeedBuf bytes in c.Buf …
//		if !c.TryExec() {
//			c.Submit()      // c.Done(c) follows on another goroutine
//		}
//	}
//	… send c.In, c.Status, c.Sense …
//	c.Release()
//
// A Command must not be copied.
type Command struct {
	// Set by the owner before Decode.

	Nexus *Nexus // the I_T_L nexus, which leads to the logical unit
	CDB   []byte // 16 bytes, or more for an extended CDB; borrowed until Release
	Attr  uint8  // task attribute: AttrSimple and so on
	// Announced is how many bytes of data-out the initiator has announced, such
	// as the Expected Data Transfer Length of a write command; 0 if none, or if
	// the owner does not know. COMPARE AND WRITE and WRITE SAME refuse more
	// than their CDB takes: data that does not fit the CDB is no data to
	// write. Others ignore what is too much.
	Announced uint32

	// Owner and Done are for the owner. Done is called when a submitted
	// command has finished, on a worker goroutine or on that of
	// Port.Revoke; it must not block.
	Owner any
	Done  func(*Command)

	// Set by the owner between Decode and TryExec.

	// Out is the data-out, borrowed until the command has finished: OutLen
	// bytes, or fewer if the initiator sent fewer. A WRITE stores the whole
	// blocks that arrived; residual counts are the owner's business. Other
	// commands fail if data is missing.
	Out []byte
	// Buf takes the data-in of a READ: NeedBuf bytes or more, borrowed until
	// Release. Its content before does not matter.
	Buf []byte

	// Set by Decode, also if it returns false.

	OutLen  int // bytes the CDB takes from the initiator
	InLen   int // bytes the CDB may return at most: transfer or allocation length
	NeedBuf int // bytes of Buf the command wants

	// Results.

	Status Status
	// Sense is the sense data of CHECK CONDITION: fixed or descriptor format
	// as the D_SENSE bit says. It aliases the Command; valid until Reset or
	// the next Decode.
	Sense []byte
	// In is the data-in, at most InLen bytes. It aliases the memory of the
	// logical unit, Buf, or a buffer of the Command; valid until Release.
	In []byte
	// Contended is set when TryExec returned false because another command
	// holds a part of the range. Releasing own commands may help.
	Contended bool

	// Cleared is set with the status TASK ABORTED when another I_T nexus has
	// aborted the command and TAS is zero (Control mode page, SPC-5 7.5.10): the
	// owner sends no response then, and establishes AttentionCommandsCleared.
	Cleared bool

	// Aborted is set by the task manager. A submitted command that has not
	// started then finishes with TASK ABORTED, without touching the backend;
	// one that runs finishes in its own time. Until Done has been called, a
	// write may still land: a task management function must not be answered
	// "complete" before that. See Abort.
	Aborted atomic.Bool

	// Set by Decode for the handler.
	op     *operation
	unit   *Unit
	lba    uint64
	blocks uint64
	alloc  int      // allocation length
	flags  cdbFlags // bits of the CDB the handler asks for
	gate   rights   // the gate of the nexus when it was last looked at

	entered bool // holds a reference of unit
	locked  bool // holds span
	landed  bool // Out is the unit's memory
	span    span

	started int64 // Nanotime when a worker took it, 0 when it ran inline

	scratch  []byte // built data-in of control commands
	senseBuf [maxSense]byte

	// While submitted; guarded by the mutex of the unit's workers.
	queued bool
	next   *Command

	member membership // in the task set of the port, from Decode to Release
	// While it is listed there; guarded by the mutex of the set.
	before, after *Command
	dormant       bool // must not begin
	submitted     bool // and is to be started when it may

	// waiter is the wait for the range lock, for Abort; tasks is that for the
	// commands of preempted nexuses.
	waiter atomic.Pointer[lockWaiter]
	tasks  atomic.Pointer[chan struct{}]
}

// cdbFlags are the bits of a CDB that matter after Decode.
type cdbFlags uint16

const (
	flagFUA cdbFlags = 1 << iota
	flagUnmap
	flagNoDataOut
	flagCompare    // BYTCHK 01b
	flagCompareOne // BYTCHK 11b
	flagImmediate
)

// mode is how a handler may run.
type mode uint8

const (
	inline   mode = iota // on the owner's goroutine: never wait, rather give up
	blocking             // on a worker: wait for locks and devices
)

// maxKeptScratch bounds the buffer that an idle Command keeps.
const maxKeptScratch = 4096

// Reset prepares the Command for another use. It keeps Nexus, Owner and Done.
// The command has been released before.
func (c *Command) Reset() {
	c.CDB, c.Out, c.Buf = nil, nil, nil
	c.Attr, c.Announced = 0, 0
	c.Aborted.Store(false)
	c.clear()
}

// clear empties everything that Decode and the handlers set.
func (c *Command) clear() {
	c.OutLen, c.InLen, c.NeedBuf = 0, 0, 0
	c.Status, c.Sense, c.In, c.Contended, c.Cleared = Good, nil, nil, false, false
	c.op, c.unit, c.landed = nil, nil, false
	c.lba, c.blocks, c.alloc, c.flags, c.started = 0, 0, 0, 0, 0
}

// Name returns the name of the command in the standard, for logs. Before
// Decode, and for an unknown operation code, it is empty.
func (c *Command) Name() string {
	if c.op == nil {
		return ""
	}
	return c.op.name
}

// NameOf returns the name of the command that a CDB is, empty if it is not
// supported by any unit.
func NameOf(cdb []byte) string {
	if op := lookup(dispatch(), cdb); op != nil {
		return op.name
	}
	return ""
}

// SenseOf takes sense data in fixed or descriptor format apart, SPC-5 4.4.
func SenseOf(sense []byte) (SenseKey, ASC) {
	key := senseKeyOf(sense)
	switch {
	case len(sense) > 13 && sense[0]&0x7E == 0x70:
		return key, ASC(sense[12])<<8 | ASC(sense[13])
	case len(sense) > 3 && sense[0]&0x7E == 0x72:
		return key, ASC(sense[2])<<8 | ASC(sense[3])
	}
	return key, 0
}

// LBA returns the first logical block and the number of blocks that a medium
// access command addresses; zeros for others.
func (c *Command) LBA() (lba, blocks uint64) { return c.lba, c.blocks }

// Decode looks the command up, checks its CDB and the state of the logical
// unit, and sets OutLen, InLen and NeedBuf. It never touches the backend, does
// not block and allocates nothing. It returns false if the command is finished
// already, with Status and Sense; OutLen then still tells what the CDB would
// have taken, so that the owner can drain it. Else the command is in the task set
// of the logical unit until it is released.
//
// Conditions are reported in the order of SAM-6 5.3.3 and 5.14: BUSY,
// RESERVATION CONFLICT, unit attention, then errors in the CDB and the state
// of the logical unit.
func (c *Command) Decode() bool {
	c.clear()
	u := c.Nexus.port.unit.Load()
	if u == nil {
		c.failClosed(Closed(c.Nexus.port.closed.Load()))
		return false
	}
	c.unit = u
	op := lookup(u.table, c.CDB)
	if op == nil || op.needs != 0 && op.needs&^c.caps() != 0 {
		if c.unitAttention() {
			return false
		}
		return c.failUnknown()
	}
	c.op = op
	valid := c.decodeCDB(op)
	c.gate = rights(c.Nexus.gate.Load())
	if c.gate&(op.rights&reservationRights|gateDetached) != 0 && c.reservationConflict() {
		return false
	}
	if c.Nexus.pending.Load() != 0 && !op.is(opNoAttention) && c.unitAttention() {
		return false
	}
	if !valid || !c.checkState(op) {
		return false
	}
	if !c.Nexus.port.tasks.accept(c) {
		// SAM-6 8.6.1: a task attribute that is not supported.
		c.Fail(IllegalRequest, InvalidMessageError)
		return false
	}
	return true
}

// decodeCDB runs the decoder of op after the checks that all CDBs share.
func (c *Command) decodeCDB(op *operation) bool {
	n := len(op.usage)
	if len(c.CDB) < n {
		c.Fail(IllegalRequest, InvalidFieldInCDB)
		return false
	}
	valid := op.decode == nil || op.decode(c)
	// SAM-6 5.2: NACA set to one without support for it (NORMACA zero) is an
	// invalid field. The CONTROL byte is the last one.
	if valid && c.CDB[n-1]&0x04 != 0 {
		return c.failField(inCDB, n-1, 2)
	}
	return valid
}

// checkState applies the state of the logical unit to a valid command.
func (c *Command) checkState(op *operation) bool {
	u := c.unit
	switch {
	case c.gate&op.rights&accessRights != 0:
		c.failAccessState()
	case c.gate&op.rights&rightMedium != 0:
		c.failMedium()
	case op.is(opMedium) && u.ejected.Load():
		c.Fail(NotReady, MediumNotPresent)
	case op.is(opWrite) && (u.readOnly || c.Nexus.ReadOnly):
		c.Fail(DataProtect, WriteProtected)
	case op.is(opWrite) && u.softProtect.Load():
		c.Fail(DataProtect, SoftwareWriteProtected)
	default:
		return true
	}
	return false
}

// unitAttention reports a pending unit attention condition and clears it,
// SAM-6 5.14 with UA_INTLCK_CTRL 00b.
func (c *Command) unitAttention() bool {
	a, ok := c.Nexus.takeAttention()
	if !ok {
		return false
	}
	c.Fail(UnitAttention, a.ASC())
	return true
}

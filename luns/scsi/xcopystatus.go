package scsi

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
)

// Bounds of what one nexus can have.
const (
	maxCopies     = 64 // copies at the same time
	maxCopiesHeld = 16 // finished copies whose outcome can be asked for
)

// copyTable are the copy operations of one I_T_L nexus: those that run, and the
// outcome of the last ones. Nobody else can see or abort them.
type copyTable struct {
	mu  sync.Mutex
	ops []*copyOperation // oldest first
}

// copyOperation is one copy.
type copyOperation struct {
	list  uint32
	lid4  bool
	usage byte

	aborted  atomic.Bool
	segments atomic.Uint32 // finished
	bytes    atomic.Uint64 // written

	// Guarded by the mutex of the table.
	done   bool
	status Status
	sense  []byte
}

// begin adds a copy. It returns nil and the reason if the list identifier is in
// use or there are too many copies.
func (t *copyTable) begin(l *copyList) (*copyOperation, ASC) {
	op := &copyOperation{list: l.list, lid4: l.lid4, usage: l.usage}
	t.mu.Lock()
	defer t.mu.Unlock()
	running := 0
	for _, x := range t.ops {
		if x.done {
			continue
		}
		running++
		if x.usage == listNone || l.usage == listNone || x.list != l.list {
			continue
		}
		if x.lid4 != l.lid4 {
			return nil, InvalidFieldInParamList // SPC-4 6.4.3.2
		}
		return nil, OperationInProgress
	}
	if running >= maxCopies {
		return nil, InsufficientResources
	}
	t.ops = slices.DeleteFunc(t.ops, func(x *copyOperation) bool {
		return x.done && (x.list == l.list || l.usage == listNone)
	})
	t.ops = append(t.ops, op)
	return op, 0
}

// end records the outcome, which c has.
func (t *copyTable) end(op *copyOperation, c *Command) {
	t.mu.Lock()
	defer t.mu.Unlock()
	op.done, op.status, op.sense = true, c.Status, bytes.Clone(c.Sense)
	held := 0
	for _, x := range slices.Backward(t.ops) {
		if x.done && x.usage != listNone {
			held++
		}
	}
	t.ops = slices.DeleteFunc(t.ops, func(x *copyOperation) bool {
		if x.done && x.usage == listNone {
			return true
		}
		if x.done && held > maxCopiesHeld {
			held--
			return true
		}
		return false
	})
}

// copyState is a copy as one moment saw it.
type copyState struct {
	lid4     bool
	done     bool
	status   Status
	sense    []byte
	segments uint32
	bytes    uint64
}

// find returns the state of the copy of a list identifier.
func (t *copyTable) find(list uint32) (s copyState, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.ops {
		if x.list == list && x.usage != listNone {
			return copyState{x.lid4, x.done, x.status, x.sense, x.segments.Load(), x.bytes.Load()}, true
		}
	}
	return copyState{}, false
}

// abort ends a running copy at its next piece.
func (t *copyTable) abort(list uint32) (known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.ops {
		if x.list == list && x.usage != listNone {
			x.aborted.Store(true)
			return true
		}
	}
	return false
}

// runCopyAbort is SPC-4 6.3. The aborted command ends with TASK ABORTED.
func runCopyAbort(c *Command, _ mode) bool {
	if !c.Nexus.copies.abort(binary.BigEndian.Uint32(c.CDB[2:])) {
		c.failField(inCDB, 2, -1)
	}
	return true
}

// Values of COPY MANAGER STATUS (SPC-4 6.25) and COPY OPERATION STATUS (6.24).
const (
	copyDone        = 0x01
	copyDoneErrors  = 0x02
	copyForeground  = 0x11
	copyTerminated  = 0x60
	copyInProgress1 = 0x00
)

// transferCount returns the TRANSFER COUNT UNITS and TRANSFER COUNT fields for a
// count of at most width bits, SPC-4 table 230.
func transferCount(n uint64, width uint) (units byte, count uint64) {
	for n>>width != 0 {
		n >>= 10
		units++
	}
	return units, n
}

// runCopyStatusLID1 is SPC-4 6.25.
func runCopyStatusLID1(c *Command, _ mode) bool {
	s, ok := c.Nexus.copies.find(uint32(c.CDB[2]))
	if !ok {
		c.failField(inCDB, 2, -1)
		return true
	}
	status := byte(copyInProgress1)
	switch {
	case s.done && s.status == Good:
		status = copyDone
	case s.done:
		status = copyDoneErrors
	}
	units, count := transferCount(s.bytes, 32)
	b := binary.BigEndian.AppendUint32(c.build(), 8) // AVAILABLE DATA
	b = append(b, status)
	b = binary.BigEndian.AppendUint16(b, uint16(s.segments))
	b = append(b, units)
	c.reply(binary.BigEndian.AppendUint32(b, uint32(count)))
	return true
}

// runCopyStatusLID4 is SPC-4 6.24.
func runCopyStatusLID4(c *Command, _ mode) bool {
	s, ok := c.Nexus.copies.find(binary.BigEndian.Uint32(c.CDB[2:]))
	if !ok {
		c.failField(inCDB, 2, -1)
		return true
	}
	status := byte(copyForeground)
	switch {
	case s.done && s.status == Good:
		status = copyDone
	case s.done && s.status == TaskAborted:
		status = copyTerminated
	case s.done:
		status = copyDoneErrors
	}
	units, count := transferCount(s.bytes, 63)
	b := binary.BigEndian.AppendUint32(c.build(), uint32(28+len(s.sense))) // AVAILABLE DATA
	b = append(b, ifSet(s.lid4, 0x01), status, 0, 0)                       // RESPONSE TO SERVICE ACTION, OPERATION COUNTER
	b = binary.BigEndian.AppendUint32(b, 0xFFFFFFFF)                       // ESTIMATED STATUS UPDATE DELAY: unknown
	b = append(b, byte(s.status), byte(len(s.sense)), byte(len(s.sense)), units)
	b = binary.BigEndian.AppendUint64(b, count)
	b = binary.BigEndian.AppendUint16(b, uint16(s.segments))
	b = zeros(b, 6)
	c.reply(append(b, s.sense...))
	return true
}

// runCopyFailure is SPC-4 6.23.
func runCopyFailure(c *Command, _ mode) bool {
	s, ok := c.Nexus.copies.find(uint32(c.CDB[2]))
	if !ok || !s.done || s.status == Good {
		c.failField(inCDB, 2, -1)
		return true
	}
	b := binary.BigEndian.AppendUint32(c.build(), uint32(56+len(s.sense))) // AVAILABLE DATA
	b = zeros(b, 52)
	b = append(b, byte(s.status), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.sense)))
	c.reply(append(b, s.sense...))
	return true
}

// runCopyParameters is SPC-4 6.22.
func runCopyParameters(c *Command, _ mode) bool {
	b := zeros(c.build(), 4)
	b = append(b, 0x01, 0, 0, 0) // SNLID: LIST ID USAGE 11b is supported
	b = appendCopyLimits(b)
	b = binary.BigEndian.AppendUint32(b, maxSegmentBytes)
	b = zeros(b, 14) // no inline data, no held data, no stream devices
	b = binary.BigEndian.AppendUint16(b, maxCopies)
	b = append(b, maxCopies, byte(c.unit.blockShift), 0, 0)
	b = zeros(b, 3)
	b = append(b, 2, codeBlockToBlock, codeIdentification)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.reply(b)
	return true
}

// appendCopyLimits appends MAXIMUM CSCD DESCRIPTOR COUNT, MAXIMUM SEGMENT
// DESCRIPTOR COUNT and MAXIMUM DESCRIPTOR LIST LENGTH.
func appendCopyLimits(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, maxCSCDs)
	b = binary.BigEndian.AppendUint16(b, maxSegments)
	return binary.BigEndian.AppendUint32(b, maxDescriptorList)
}

// appendVPD8F is Third-party Copy, SPC-5 7.7.18.
func (u *Unit) appendVPD8F(b []byte, _ *Nexus) []byte {
	// Supported Commands: operation codes with their service actions.
	b = append(b, 0x00, 0x01, 0, 12, 11,
		0x83, 3, 0x00, 0x01, 0x1C,
		0x84, 4, 0x00, 0x03, 0x04, 0x05)
	// Parameter Data.
	b = append(b, 0x00, 0x04, 0, 28, 0, 0, 0, 0)
	b = appendCopyLimits(b)
	b = zeros(b, 16) // no inline data
	// Supported Descriptors.
	b = append(b, 0x00, 0x08, 0, 4, 2, codeBlockToBlock, codeIdentification, 0)
	// Supported CSCD Descriptor IDs.
	b = append(b, 0x00, 0x0C, 0, 4, 0, 2, cscdSelf>>8, cscdSelf&0xFF)
	// General Copy Operations.
	b = append(b, 0x80, 0x01, 0, 32)
	b = binary.BigEndian.AppendUint32(b, maxCopies)
	b = binary.BigEndian.AppendUint32(b, maxCopies)
	b = binary.BigEndian.AppendUint32(b, maxSegmentBytes)
	b = append(b, byte(u.blockShift), 0) // DATA SEGMENT GRANULARITY: a logical block
	return zeros(b, 18)
}

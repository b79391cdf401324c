package scsi

import "encoding/binary"

// copyRun is one EXTENDED COPY at work.
type copyRun struct {
	c    *Command
	list *copyList
	op   *copyOperation
	ends map[int]*copyEnd // by CSCD descriptor ID

	// The segment at hand.
	number          int
	length, written int64 // bytes
	dst             *copyEnd
}

// copyEnd is a logical unit that takes part in a copy, with a reference that
// keeps its unit from being replaced.
type copyEnd struct {
	nexus *Nexus
	unit  *Unit
	gate  rights // of the nexus when the copy came to it
	desc  int    // where its CSCD descriptor is in the parameter list
}

// runExtendedCopy performs the whole copy before its status, also with IMMED: a
// list that asks for an early status gets a late one.
func runExtendedCopy(c *Command, m mode) bool {
	if c.OutLen == 0 {
		return true // SPC-4 6.5: no error
	}
	if m == inline {
		return false
	}
	l, ok := c.parseCopyList()
	if !ok {
		return true
	}
	op, asc := c.Nexus.copies.begin(&l)
	if op == nil {
		c.Fail(IllegalRequest, asc)
		return true
	}
	r := copyRun{c: c, list: &l, op: op, ends: make(map[int]*copyEnd, 2)}
	// Deferred, so that a panic of a backend ends the operation as well.
	defer r.end()
	r.segments()
	return true
}

func (r *copyRun) end() {
	for _, e := range r.ends {
		e.unit.leave()
	}
	r.c.Nexus.copies.end(r.op, r.c)
}

// segments performs the segments in order; false if the command has failed.
func (r *copyRun) segments() bool {
	for segs := r.list.segs; len(segs) > 0; segs = segs[segmentLen:] {
		s := parseSegment(segs)
		r.length, r.written = 0, 0
		src, ok := r.find(s.src, 4)
		if !ok {
			return false
		}
		if r.dst, ok = r.find(s.dst, 6); !ok {
			return false
		}
		if !r.segment(&s, src) {
			return false
		}
		r.number++
		r.op.segments.Add(1)
	}
	return true
}

// find resolves a CSCD descriptor ID; at is where it stands in the segment
// descriptor. ok is false if the command has failed.
func (r *copyRun) find(index, at int) (e *copyEnd, ok bool) {
	if e := r.ends[index]; e != nil {
		return e, true
	}
	c := r.c
	e = &copyEnd{nexus: c.Nexus, unit: c.unit}
	desc := r.list.cscd(index)
	if index != cscdSelf {
		e.desc = r.list.cscdAt + index*cscdLen
		switch {
		case desc == nil:
			return nil, r.failSegment(CopyTargetNotReachable, at)
		case desc[1]&0x1F != typeDisk: // PERIPHERAL DEVICE TYPE
			return nil, r.failEnd(IncorrectCopyTargetType, e)
		}
		e.nexus, e.unit = c.Nexus.find(desc[4:])
	}
	if e.unit == nil || !e.unit.enter() {
		return nil, r.failEnd(CopyTargetNotReachable, e)
	}
	e.gate = rights(e.nexus.gate.Load())
	r.ends[index] = e
	if desc != nil {
		if size := binary.BigEndian.Uint32(desc[28:]) & 0xFFFFFF; size != uint32(e.unit.blockSize) { // DISK BLOCK LENGTH
			return nil, c.failField(inParameterList, e.desc+29, -1)
		}
	}
	return e, true
}

// find returns the logical unit that an identification descriptor designates,
// and the nexus this I_T nexus has with it. It looks at the LUN map of the I_T
// nexus and nowhere else: a logical unit that is hidden from the initiator is
// not there, CVE-2020-28374.
func (n *Nexus) find(desc []byte) (*Nexus, *Unit) {
	if n.Inventory == nil || n.Peer == nil {
		if u := n.port.unit.Load(); u != nil && u.designated(desc) {
			return n, u
		}
		return nil, nil
	}
	for _, lun := range n.Inventory() {
		peer := n.Peer(lun)
		if peer == nil {
			continue
		}
		if u := peer.port.unit.Load(); u != nil && u.designated(desc) {
			return peer, u
		}
	}
	return nil, nil
}

// designated reports whether the identification descriptor of a CSCD descriptor
// (from its CODE SET byte on) is one of the unit's own in VPD page 83h.
func (u *Unit) designated(desc []byte) bool {
	n := int(desc[3])
	if n == 0 || n > cscdLen-12 { // the last four bytes are device type specific
		return false
	}
	id, set := desc[4:4+n], desc[0]&0x0F
	switch desc[1] & 0x3F {
	case assocUnit | designatorNAA:
		return u.cfg.NAA != 0 && set == codeBinary && string(id) == string(binary.BigEndian.AppendUint64(nil, u.cfg.NAA))
	case assocUnit | designatorT10:
		return set == codeASCII && string(id) == string(u.appendT10(nil))
	default:
		return false
	}
}

// segment copies one segment piece by piece; false if the command has failed.
func (r *copyRun) segment(s *segment, src *copyEnd) bool {
	from, to := src.unit, r.dst.unit
	n := int64(s.blocks) << from.blockShift
	if s.inDestination {
		n = int64(s.blocks) << to.blockShift
	}
	switch {
	case n%from.blockSize != 0, n%to.blockSize != 0:
		// Without PAD and CAT the rest of a block has no place to go.
		return r.failSegment(UnexpectedInexactSegment, 10)
	case !from.has(s.srcLBA, n):
		// A range that is not there cannot be reached. (THIRD PARTY DEVICE
		// FAILURE would do as well; initiators look for this one.)
		return r.failSegment(CopyTargetNotReachable, 12)
	case !to.has(s.dstLBA, n):
		return r.failSegment(CopyTargetNotReachable, 20)
	}
	r.length = n
	srcOff, dstOff := int64(s.srcLBA<<from.blockShift), int64(s.dstLBA<<to.blockShift)
	// Overlapping ranges are copied as if all were read before all is written.
	backward := from == to && srcOff < dstOff && dstOff < srcOff+n
	buf := r.c.unit.chunk()
	defer r.c.unit.chunks.Put(buf)
	for done := int64(0); done < n; {
		p := (*buf)[:min(n-done, chunkBytes)]
		at := done
		if backward {
			at = n - done - int64(len(p))
		}
		if r.op.aborted.Load() || r.c.Aborted.Load() {
			r.c.Status = TaskAborted
			return false
		}
		if !r.read(src, p, srcOff+at) || !r.write(p, dstOff+at) {
			return false
		}
		done += int64(len(p))
		if !backward { // the residual counts contiguous transfers only
			r.written = done
		}
		r.op.bytes.Add(uint64(len(p)))
	}
	return true
}

// has reports whether n bytes from lba on lie within the capacity.
func (u *Unit) has(lba uint64, n int64) bool {
	capacity := u.capacity.Load()
	return lba <= capacity && uint64(n)>>u.blockShift <= capacity-lba
}

func (r *copyRun) read(e *copyEnd, p []byte, off int64) bool {
	unlock, ok := r.lock(e, off, int64(len(p)), shared)
	if !ok {
		return false
	}
	defer unlock()
	if !r.ready(e, reading) {
		return false
	}
	if err := e.unit.read(p, off); err != nil {
		return r.failBackend(err, e, reading, off)
	}
	return true
}

// write stores p. Zeros are not allocated on a thin unit, so that the copy of a
// thin disk is thin.
func (r *copyRun) write(p []byte, off int64) bool {
	e := r.dst
	unlock, ok := r.lock(e, off, int64(len(p)), exclusive)
	if !ok {
		return false
	}
	defer unlock()
	if !r.ready(e, writing) {
		return false
	}
	u, err := e.unit, error(nil)
	if u.unmap != nil && u.zero != nil && allZero(p) {
		err = u.zero.WriteZeroes(u.ctx, off, int64(len(p)), true, u.writeFlags(0))
	} else {
		err = u.write(p, off, u.writeFlags(0))
	}
	if err != nil {
		return r.failBackend(err, e, writing, off)
	}
	return true
}

// lock takes the range lock of a unit that need not be the command's own. A
// copy holds one lock at a time, so that two copies cannot wait for each other.
func (r *copyRun) lock(e *copyEnd, off, n int64, kind lockKind) (unlock func(), ok bool) {
	c, s, l := r.c, spanOf(off, n, kind), &e.unit.locks
	ok = l.lock(s, c.announce)
	c.waiter.Store(nil)
	switch {
	case ok:
		return func() { l.unlock(s) }, true
	case c.Aborted.Load():
		c.Status = TaskAborted
		return nil, false
	case e.unit == c.unit:
		c.Status = Busy // on its way out, like every command that waits
		return nil, false
	default:
		return nil, r.failEnd(ThirdPartyDeviceFailure, e)
	}
}

// ready reports whether the nexus may access the unit at this moment, which its
// own commands are asked when they are decoded. It is asked with the range
// locked: whoever fences a nexus passes the lock after that. If it returns
// false, the command has failed.
func (r *copyRun) ready(e *copyEnd, a access) bool {
	u, c := e.unit, r.c
	gate := rights(e.nexus.gate.Load())
	aborted := (gate^e.gate|rights(c.Nexus.gate.Load())^c.gate)&^gateRights != 0
	needs := rightRead | rightUnreserved | rightActive | rightMedium
	if a == writing {
		needs = rightWrite | rightUnreserved | rightActive | rightMedium
	}
	switch {
	case aborted:
		c.Status = TaskAborted
		return false
	case u.ejected.Load(), e.nexus.current(gate)&needs != 0,
		a == writing && (u.readOnly || e.nexus.ReadOnly || u.softProtect.Load()):
		return r.failEnd(ThirdPartyDeviceFailure, e)
	default:
		return true
	}
}

// failSegment finishes the command with COPY ABORTED and points into the
// segment descriptor at hand. It returns false.
func (r *copyRun) failSegment(asc ASC, at int) bool {
	sks := fieldPointer(inParameterList, at, -1)
	sks[0] |= 0x20 // SD: relative to the descriptor
	return r.fail(asc, sks)
}

// failEnd is failSegment for what a logical unit is to blame for: it points at
// its CSCD descriptor.
func (r *copyRun) failEnd(asc ASC, e *copyEnd) bool {
	return r.fail(asc, fieldPointer(inParameterList, e.desc, -1))
}

// fail is SPC-4 5.17.7.4: the number of the segment, and the residual in blocks
// of the destination if anything was written.
func (r *copyRun) fail(asc ASC, sks [3]byte) bool {
	s := senseInfo{key: CopyAborted, asc: asc, csi: uint32(r.number), sksv: true, sks: sks}
	if r.written > 0 {
		s.valid, s.info = true, uint64(r.length-r.written)>>r.dst.unit.blockShift
	}
	r.c.fail(&s)
	return false
}

// failBackend finishes the command after an error of a backend.
func (r *copyRun) failBackend(err error, e *copyEnd, a access, off int64) bool {
	r.failEnd(ThirdPartyDeviceFailure, e)
	if report := e.unit.cfg.Report; report != nil {
		_, key, asc := backendSense(err, a)
		report(&Error{Op: r.c.op.name, Key: key, ASC: asc, LBA: uint64(off) >> e.unit.blockShift, Err: err})
	}
	return false
}

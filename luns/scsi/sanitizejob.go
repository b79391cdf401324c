package scsi

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/iserd/iserd/luns"
)

// jobKind says what a mediumJob does.
type jobKind uint8

const (
	sanitizing jobKind = iota
	formatting
)

// mediumJob is a SANITIZE or FORMAT UNIT at work on the whole medium, or one
// that has failed. It belongs to the Port: a restart of the logical unit does not
// end it, the next Unit begins it anew. A restart of the process does end it.
type mediumJob struct {
	kind         jobKind
	unrestricted bool   // AUSE
	erase        bool   // zeros, then unmap
	pattern      []byte // one block
	passes       int
	invert       bool // every second pass

	done, total atomic.Int64 // bytes
	failed      atomic.Bool

	// gate is held until the job has ended: to wait for it is to wait for the
	// job, and a wait that ends without it means that the job goes on later.
	gate *rangeLock
}

// gateSpan is what of the gate is locked.
var gateSpan = span{0, 1, exclusive}

// progress is the PROGRESS INDICATION, in 65536ths.
func (j *mediumJob) progress() uint16 {
	total := j.total.Load()
	if total == 0 {
		return 0
	}
	return uint16(min(float64(j.done.Load())/float64(total)*65536, 65535))
}

// sense is what commands that need the medium get meanwhile, SBC-4 4.11.3 and
// 4.33.
func (j *mediumJob) sense() senseInfo {
	p := j.progress()
	s := senseInfo{key: NotReady, sksv: true, sks: [3]byte{0x80, byte(p >> 8), byte(p)}}
	switch failed := j.failed.Load(); {
	case j.kind == sanitizing && failed:
		return senseInfo{key: MediumError, asc: SanitizeCommandFailed}
	case j.kind == formatting && failed:
		return senseInfo{key: MediumError, asc: MediumFormatCorrupted}
	case j.kind == sanitizing:
		s.asc = SanitizeInProgress
	default:
		s.asc = FormatInProgress
	}
	return s
}

// failMedium finishes a command that finds the medium in the hands of a job.
func (c *Command) failMedium() {
	j := c.Nexus.port.medium.Load()
	if j == nil {
		c.Status = Busy // it has just ended
		return
	}
	s := j.sense()
	c.fail(&s)
}

// worksOnMedium reports whether an operation is refused while a job has the
// medium: all but those that report, that fence, and that decide for themselves.
func worksOnMedium(o *operation) bool {
	switch o.opcode() {
	case 0x03, 0x12, 0xA0, // REQUEST SENSE, INQUIRY, REPORT LUNS
		0x4D, 0xA3, // LOG SENSE, MAINTENANCE IN
		0x5E, 0x5F, 0x17, 0x57, // PERSISTENT RESERVE IN and OUT, RELEASE
		0x84,       // RECEIVE COPY …
		0x48, 0x04: // SANITIZE, FORMAT UNIT
		return false
	case 0x83:
		return o.action() != 0x1C // COPY OPERATION ABORT
	default:
		return true
	}
}

// runJob starts a job and, unless the CDB or the list says IMMED, waits for its
// end. An abort ends the wait, not the job. It returns true, for handlers.
func (c *Command) runJob(j *mediumJob) bool {
	p := c.Nexus.port
	if !p.startJob(c.unit, j) {
		c.failMedium()
		return true
	}
	if c.flags&flagImmediate != 0 {
		return true
	}
	granted := j.gate.lock(gateSpan, c.announce)
	c.waiter.Store(nil)
	switch {
	case granted:
		j.gate.unlock(gateSpan)
		if j.failed.Load() {
			s := j.sense()
			if j.kind == formatting {
				s.asc = FormatCommandFailed
			}
			c.fail(&s)
		}
	case c.Aborted.Load():
		c.Status = TaskAborted
	default:
		c.Status = Busy
	}
	return true
}

// startJob makes j the job of the port, in place of one that has failed, and
// starts it on u. It returns false if another one runs.
func (p *Port) startJob(u *Unit, j *mediumJob) bool {
	j.gate = new(rangeLock)
	j.gate.try(gateSpan)
	p.mu.Lock()
	old := p.medium.Load()
	if old != nil && !old.failed.Load() || !u.enter() {
		p.mu.Unlock()
		return false
	}
	p.medium.Store(j)
	p.refreshGates()
	p.mu.Unlock()
	u.cfg.Spawn(func() { p.runJob(u, j) })
	return true
}

// resumeJob starts the job that an earlier unit has left, if any, on u.
func (p *Port) resumeJob(u *Unit) {
	j := p.medium.Load()
	if j == nil || j.failed.Load() {
		return
	}
	next := &mediumJob{
		kind: j.kind, unrestricted: j.unrestricted, erase: j.erase,
		pattern: j.pattern, passes: j.passes, invert: j.invert, gate: new(rangeLock),
	}
	next.gate.try(gateSpan)
	if p.medium.CompareAndSwap(j, next) && u.enter() {
		u.cfg.Spawn(func() { p.runJob(u, next) })
	}
}

// endJob gives the medium back.
func (p *Port) endJob(j *mediumJob) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.medium.CompareAndSwap(j, nil) {
		p.refreshGates()
	}
}

// errLeft means that the unit is going away before the job is done.
var errLeft = errors.New("scsi: the logical unit is being replaced")

// runJob performs j on a goroutine of its own, with a reference of u.
func (p *Port) runJob(u *Unit, j *mediumJob) {
	defer u.leave()
	err := p.tryJob(u, j)
	switch {
	case errors.Is(err, errLeft):
		j.gate.cancelAll()
		return
	case err != nil:
		j.failed.Store(true)
		u.reportJob(j, err)
	default:
		p.endJob(j)
	}
	j.gate.unlock(gateSpan)
}

func (u *Unit) reportJob(j *mediumJob, err error) {
	if u.cfg.Report != nil {
		s := j.sense()
		op := "SANITIZE"
		if j.kind == formatting {
			op = "FORMAT UNIT"
		}
		u.cfg.Report(&Error{Op: op, Key: s.key, ASC: s.asc, Err: err})
	}
}

// tryJob is the body of a job; a panic of the backend is an error.
func (p *Port) tryJob(u *Unit, j *mediumJob) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("scsi: panic: %v", v)
			if p.Fault != nil {
				p.Fault(v, debug.Stack())
			}
		}
	}()
	w := jobWork{u, j}
	// Commands that were let through before the gates closed are at work
	// still. After every stripe has been free once, none is.
	for i := range numStripes {
		if err := w.locked(int64(i)<<stripeShift, 1, func() error { return nil }); err != nil {
			return err
		}
	}
	switch {
	case j.erase && u.unmap != nil:
		return w.eraseAll()
	case j.kind == formatting && u.zero != nil && allZero(j.pattern):
		return w.zeroAll()
	default:
		return w.overwriteAll()
	}
}

// jobWork is a job on one unit.
type jobWork struct {
	u *Unit
	j *mediumJob
}

func (w jobWork) size() int64 { return int64(w.u.capacity.Load() << w.u.blockShift) }

// locked calls f with a range locked.
func (w jobWork) locked(off, n int64, f func() error) error {
	s := spanOf(off, n, exclusive)
	if w.u.closing() || !w.u.locks.lock(s, func(*lockWaiter) bool { return true }) {
		return errLeft
	}
	defer w.u.locks.unlock(s)
	return f()
}

// each calls f for all of the medium, in pieces of at most step bytes.
func (w jobWork) each(step int64, f func(off, n int64) error) error {
	for off, end := int64(0), w.size(); off < end; off += step {
		n := min(step, end-off)
		if err := w.locked(off, n, func() error { return f(off, n) }); err != nil {
			return err
		}
		w.j.done.Add(n)
	}
	return nil
}

// overwriteAll writes the pattern over everything, pass by pass. Each pass is on
// stable media before the next begins.
func (w jobWork) overwriteAll() error {
	u, j := w.u, w.j
	j.total.Store(w.size() * int64(j.passes))
	buf := u.chunk()
	defer u.chunks.Put(buf)
	fill(*buf, j.pattern)
	for pass := range j.passes {
		if pass > 0 && j.invert {
			for i := range *buf {
				(*buf)[i] = ^(*buf)[i]
			}
		}
		err := w.each(chunkBytes, func(off, n int64) error { return u.write((*buf)[:n], off, 0) })
		if err != nil {
			return err
		}
		if err := u.backend.Flush(u.ctx); err != nil {
			return err
		}
	}
	return nil
}

// eraseAll gives everything back. To sanitize, what is allocated is overwritten
// with zeros before, and that made durable.
func (w jobWork) eraseAll() error {
	u := w.u
	w.j.total.Store(w.size())
	if w.j.kind == sanitizing {
		w.j.total.Store(2 * w.size())
		zero := make([]byte, chunkBytes)
		if err := w.each(chunkBytes, func(off, n int64) error { return u.zeroMapped(off, n, zero) }); err != nil {
			return err
		}
		if err := u.backend.Flush(u.ctx); err != nil {
			return err
		}
	}
	if err := w.each(unmapChunkBytes, func(off, n int64) error { return u.unmap.Unmap(u.ctx, off, n) }); err != nil {
		return err
	}
	return u.backend.Flush(u.ctx)
}

// zeroAll makes everything read as zeros, by the backend's means.
func (w jobWork) zeroAll() error {
	u := w.u
	w.j.total.Store(w.size())
	err := w.each(64*chunkBytes, func(off, n int64) error { return u.zero.WriteZeroes(u.ctx, off, n, false, 0) })
	if err != nil {
		return err
	}
	return u.backend.Flush(u.ctx)
}

// zeroMapped writes zeros over the allocated parts of a range of at most
// len(zero) bytes.
func (u *Unit) zeroMapped(off, n int64, zero []byte) error {
	if u.extents == nil {
		return u.write(zero[:n], off, 0)
	}
	// No backend call while another one yields: it may hold its locks.
	var allocated [][2]int64
	for x, err := range u.extents.Extents(u.ctx, off, n) {
		if err != nil {
			return err
		}
		if x.State == luns.Deallocated {
			continue
		}
		from := max(off, x.Off&^(u.blockSize-1))
		to := min(off+n, (x.Off+x.Len+u.blockSize-1)&^(u.blockSize-1))
		allocated = append(allocated, [2]int64{from, to})
	}
	for _, r := range allocated {
		if err := u.write(zero[:r[1]-r[0]], r[0], 0); err != nil {
			return err
		}
	}
	return nil
}

package fdio

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
)

// Health remembers that data could not be made durable. The kernel reports a
// failed write-back once and then forgets it, so we must not: everything that
// was acknowledged since the last good flush may be lost, and a flush that
// succeeds afterwards proves nothing. A zero Health is well; there is no way
// back but a new one.
type Health struct{ failure atomic.Pointer[error] }

// Err returns the first failure, wrapping luns.ErrMedium, or nil.
func (h *Health) Err() error {
	if p := h.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail records err if it is the first, and returns the first.
func (h *Health) fail(err error) error {
	h.failure.CompareAndSwap(nil, &err)
	return h.Err()
}

// Flush implements luns.Backend.
func (d *Device) Flush(ctx context.Context) error {
	if err := d.Enter(ctx); err != nil {
		return err
	}
	defer d.Leave()
	if d.cfg.Info.ReadOnly {
		return nil
	}
	return d.flush()
}

// flush makes all completed writes durable.
func (d *Device) flush() error {
	if err := d.cfg.Health.Err(); err != nil {
		return err
	}
	d.flusher.flush()
	return d.cfg.Health.Err()
}

// fdatasync flushes the descriptor and records a failure.
func (d *Device) fdatasync() {
	if err := retry(func() error { return d.sys.fdatasync(d.fd) }); err != nil {
		_ = d.lost("flush", err)
	}
}

// lost records that acknowledged data may be lost.
func (d *Device) lost(op string, err error) error {
	return d.cfg.Health.fail(fmt.Errorf("%s: %s of %s failed, no more writes until it is opened anew by the operator: %w (%w)",
		d.cfg.Kind, op, d.cfg.Path, luns.ErrMedium, err))
}

// flusher joins concurrent flushes. One descriptor's write-back error is
// reported to only one of several concurrent fdatasync calls; the others could
// return success before the failure is recorded. So there is one call at a
// time, and everybody who came before it started shares it.
type flusher struct {
	sync func()

	mu                sync.Mutex
	cond              *sync.Cond
	running           bool
	started, finished uint64
}

// flush returns when a call of sync that started after flush did is over.
func (f *flusher) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cond == nil {
		f.cond = sync.NewCond(&f.mu)
	}
	need := f.started + 1
	for f.finished < need {
		if f.running {
			f.cond.Wait()
			continue
		}
		f.started++
		f.running = true
		f.mu.Unlock()
		f.sync()
		f.mu.Lock()
		f.running = false
		f.finished = f.started
		f.cond.Broadcast()
	}
}

// writeDurably writes p and returns when it is on stable media.
func (d *Device) writeDurably(p []byte, off int64) error {
	fd, ok := d.fua.get()
	if !ok || d.noDSync.Load() {
		if ok {
			d.fua.put(fd)
		}
		return d.writeAndFlush(p, off)
	}
	defer d.fua.put(fd)
	err := d.write(fd, p, off, unix.RWF_DSYNC)
	switch {
	case err == nil:
		// A failure elsewhere may have been recorded meanwhile; this write
		// is durable all the same.
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		d.noDSync.Store(true)
		return d.writeAndFlush(p, off)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		// Either nothing could be allocated, which harms nobody but this
		// write, or writing back failed (a thin pool is full), which may
		// have lost what others wrote. A plain write tells them apart.
		if plain := d.write(d.fd, p, off, 0); plain != nil {
			return d.wrap("write", off, int64(len(p)), plain)
		}
	}
	return d.lost("durable write", err)
}

// writeAndFlush is writeDurably where RWF_DSYNC cannot be used.
func (d *Device) writeAndFlush(p []byte, off int64) error {
	if err := d.write(d.fd, p, off, 0); err != nil {
		return d.wrap("write", off, int64(len(p)), err)
	}
	return d.flush()
}

// descriptors are open file descriptions of the same file, each used by one
// durable write at a time: the kernel reports a write-back error once per
// description, so that of a concurrent writer never hides ours.
type descriptors struct {
	origin int

	mu   sync.Mutex
	idle []int
}

// keepIdle bounds the descriptors kept open between writes.
const keepIdle = 8

// get returns a descriptor for one write; put takes it back. ok is false if
// none can be opened.
func (s *descriptors) get() (fd int, ok bool) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		fd = s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return fd, true
	}
	s.mu.Unlock()
	flags, err := unix.FcntlInt(uintptr(s.origin), unix.F_GETFL, 0)
	if err != nil {
		return -1, false
	}
	path := fmt.Sprintf("/proc/self/fd/%d", s.origin)
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|flags&unix.O_DIRECT, 0)
	return fd, err == nil
}

func (s *descriptors) put(fd int) {
	s.mu.Lock()
	if len(s.idle) < keepIdle {
		s.idle = append(s.idle, fd)
		fd = -1
	}
	s.mu.Unlock()
	if fd >= 0 {
		_ = unix.Close(fd) // what it wrote is durable already
	}
}

// close closes the idle descriptors; none may be in use.
func (s *descriptors) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.idle {
		_ = unix.Close(fd)
	}
	s.idle = nil
}

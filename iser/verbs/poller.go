//go:build linux

package verbs

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Poller waits for completions of a CQ on behalf of the CQ's owner: it polls,
// spins for a while, then arms the CQ and sleeps until a completion, or Wake.
// Except for Wake, its methods belong to the owner's goroutine, which should be
// locked to its thread.
type Poller struct {
	cq   CQ
	wake int // eventfd
	// parked is set while Wake has to write to the eventfd.
	parked atomic.Bool
	woken  atomic.Bool

	maxSpin time.Duration
	quick   bool           // the last gap between completions was shorter than maxSpin
	fds     [2]unix.PollFd // of sleep; here so that it is not allocated
}

// NewPoller returns a Poller that borrows cq. It spins for up to maxSpin before it
// sleeps, but only where the last gap between completions was shorter than that: a
// peer that waits for each answer is served at once, one that is slow, or gone,
// costs nothing.
func NewPoller(cq CQ, maxSpin time.Duration) (*Poller, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("verbs: eventfd: %w", err)
	}
	return &Poller{cq: cq, wake: fd, maxSpin: maxSpin}, nil
}

// Wait fills wc and returns how many completions came. It returns 0 when
// timeout is over (not when it is negative) or Wake was called since the last
// Wait, and may return 0 without a reason. It allocates nothing.
func (p *Poller) Wait(wc []WC, timeout time.Duration) (int, error) {
	n, err := p.cq.Poll(wc)
	if n > 0 || err != nil {
		return n, err
	}
	if p.woken.Swap(false) || timeout == 0 {
		return 0, nil
	}
	var since time.Time
	if p.maxSpin > 0 {
		since = time.Now()
	}
	if p.quick {
		if n, err := p.spin(wc, since); n > 0 || err != nil || p.woken.Swap(false) {
			return n, err
		}
	}
	if n, err = p.await(wc, timeout); n > 0 && p.maxSpin > 0 {
		p.quick = time.Since(since) < p.maxSpin
	}
	return n, err
}

// spin polls until maxSpin has gone by since the queue was found empty.
func (p *Poller) spin(wc []WC, since time.Time) (int, error) {
	for time.Since(since) < p.maxSpin {
		n, err := p.cq.Poll(wc)
		if n > 0 || err != nil || p.woken.Load() {
			return n, err
		}
	}
	p.quick = false
	return 0, nil
}

// await arms the queue and sleeps until there is something.
func (p *Poller) await(wc []WC, timeout time.Duration) (int, error) {
	if err := p.cq.Arm(); err != nil {
		return 0, err
	}
	n, err := p.cq.Poll(wc)
	if n > 0 || err != nil {
		return n, err
	}
	if err := p.sleep(timeout); err != nil {
		return 0, err
	}
	return p.cq.Poll(wc)
}

// sleep waits for the CQ or Wake.
func (p *Poller) sleep(timeout time.Duration) error {
	p.fds = [2]unix.PollFd{{Fd: int32(p.cq.Fd()), Events: unix.POLLIN}, {Fd: int32(p.wake), Events: unix.POLLIN}}
	ms := -1
	if timeout > 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	p.parked.Store(true)
	if !p.woken.Load() { // a Wake from now on writes
		if _, err := unix.Poll(p.fds[:], ms); err != nil && err != unix.EINTR {
			p.parked.Store(false)
			return fmt.Errorf("verbs: poll: %w", err)
		}
	}
	p.parked.Store(false)
	p.woken.Store(false)
	if p.fds[1].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(p.wake, count[:]) // EAGAIN is all that can happen
	}
	return nil
}

// Wake makes the current or the next Wait return. Any goroutine.
func (p *Poller) Wake() {
	if p.woken.Swap(true) || !p.parked.Load() {
		return
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(p.wake, one[:])
}

// Close frees the Poller, not the CQ. No Wake may come after it.
func (p *Poller) Close() error { return unix.Close(p.wake) }

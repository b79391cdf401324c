//go:build linux

package verbs

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Waiter is a CQ of a provider whose calls are dear enough to be made as one.
type Waiter interface {
	// PollWait polls and, when there is nothing, arms the CQ, polls again and
	// sleeps until a completion comes, the eventfd wake has something, which it
	// takes, or ms milliseconds are over (never when ms is negative). It returns
	// what it found, and may return 0 without a reason.
	PollWait(wc []WC, wake, ms int) (int, error)
}

// Poller waits for completions of a CQ on behalf of the CQ's owner: it polls,
// spins for a while, then arms the CQ and sleeps until a completion, or Wake.
// Except for Wake, its methods belong to the owner's goroutine, which should be
// locked to its thread.
type Poller struct {
	cq     CQ
	waiter Waiter // cq, or what does it with cq
	wake   int    // eventfd
	// parked is set while Wake has to write to the eventfd.
	parked atomic.Bool
	woken  atomic.Bool

	maxSpin time.Duration
	quick   bool // the last gap between completions was shorter than maxSpin
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
	w, ok := cq.(Waiter)
	if !ok {
		w = &sleeper{cq: cq}
	}
	return &Poller{cq: cq, waiter: w, wake: fd, maxSpin: maxSpin}, nil
}

// Wait fills wc and returns how many completions came. It returns 0 when
// timeout is over (not when it is negative) or Wake was called since the last
// Wait, and may return 0 without a reason. It allocates nothing.
func (p *Poller) Wait(wc []WC, timeout time.Duration) (int, error) {
	if p.maxSpin == 0 && timeout != 0 {
		return p.await(wc, timeout)
	}
	n, err := p.cq.Poll(wc)
	if n > 0 || err != nil {
		return n, err
	}
	if p.woken.Swap(false) || timeout == 0 {
		return 0, nil
	}
	since := time.Now()
	if p.quick {
		if n, err := p.spin(wc, since); n > 0 || err != nil || p.woken.Swap(false) {
			return n, err
		}
	}
	if n, err = p.await(wc, timeout); n > 0 {
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

// await polls, and sleeps until there is something.
func (p *Poller) await(wc []WC, timeout time.Duration) (n int, err error) {
	ms := -1
	if timeout > 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	p.parked.Store(true)
	if p.woken.Load() {
		n, err = p.cq.Poll(wc)
	} else { // a Wake from now on writes
		n, err = p.waiter.PollWait(wc, p.wake, ms)
	}
	p.parked.Store(false)
	p.woken.Store(false)
	return n, err
}

// sleeper is the Waiter of a CQ that is none.
type sleeper struct {
	cq  CQ
	fds [2]unix.PollFd // here so that it is not allocated
}

func (s *sleeper) PollWait(wc []WC, wake, ms int) (int, error) {
	n, err := s.cq.Poll(wc)
	if n > 0 || err != nil {
		return n, err
	}
	if err := s.cq.Arm(); err != nil {
		return 0, err
	}
	if n, err = s.cq.Poll(wc); n > 0 || err != nil {
		return n, err
	}
	s.fds = [2]unix.PollFd{{Fd: int32(s.cq.Fd()), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	if _, err := unix.Poll(s.fds[:], ms); err != nil {
		if err == unix.EINTR {
			return 0, nil
		}
		return 0, fmt.Errorf("verbs: poll: %w", err)
	}
	if s.fds[1].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(wake, count[:]) // EAGAIN is all that can happen
	}
	return s.cq.Poll(wc)
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

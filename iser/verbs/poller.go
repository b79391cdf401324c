//go:build linux

package verbs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller waits for completions of a CQ on behalf of the CQ's owner: it polls,
// spins for a while, then arms the CQ and sleeps until a completion, or Wake.
// Except for Wake, its methods belong to the owner's goroutine.
//
// It sleeps in the network poller of Go, where a goroutine that is not locked to
// its thread costs no switch of threads; a system call that blocks would keep the
// scheduler's monitor busy as well.
type Poller struct {
	cq     CQ
	file   *os.File // a duplicate of the CQ's descriptor
	raw    syscall.RawConn
	parked atomic.Bool // Wake has to end a sleep
	woken  atomic.Bool

	maxSpin time.Duration
	quick   bool // the last gap between completions was shorter than maxSpin

	// Of look, during await.
	lookFn  func(fd uintptr) bool
	wc      []WC
	n       int
	err     error
	slept   bool // at least once in this await
	pfd     unix.PollFd
	zero    unix.Timespec
	expired bool // the file's deadline is over, and is to be taken off
}

// NewPoller returns a Poller that borrows cq. It spins for up to maxSpin before it
// sleeps, but only where the last gap between completions was shorter than that: a
// peer that waits for each answer is served at once, one that is slow, or gone,
// costs nothing.
func NewPoller(cq CQ, maxSpin time.Duration) (*Poller, error) {
	fd, err := unix.FcntlInt(uintptr(cq.Fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("verbs: completion queue: %w", err)
	}
	_ = unix.SetNonblock(fd, true) // makes os.File use the poller
	p := &Poller{cq: cq, maxSpin: maxSpin, file: os.NewFile(uintptr(fd), "completion queue")}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("verbs: completion queue: %w", err), p.file.Close())
	}
	p.lookFn = p.look // once: a method value allocates
	return p, nil
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

// spin polls until maxSpin has gone by since the queue was found empty. Other
// goroutines run in between.
func (p *Poller) spin(wc []WC, since time.Time) (int, error) {
	for time.Since(since) < p.maxSpin {
		runtime.Gosched()
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
	switch {
	case timeout > 0:
		_ = p.file.SetReadDeadline(time.Now().Add(timeout)) // fails for files that cannot be polled only, and so does Read
		p.expired = true
	case p.expired:
		_ = p.file.SetReadDeadline(time.Time{})
		p.expired = false
	}
	p.wc, p.n, p.err, p.slept = wc, 0, nil, false
	p.parked.Store(true) // a Wake from now on ends the sleep
	err := p.raw.Read(p.lookFn)
	p.parked.Store(false)
	p.wc = nil
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.expired = true
	} else if err != nil {
		return p.n, fmt.Errorf("verbs: completion queue: %w", err)
	}
	if p.n == 0 {
		p.woken.Store(false)
	}
	return p.n, p.err
}

// look polls when the network poller asks whether there is something: before the
// sleep, and after it. The network poller tells of changes only, so what is readable
// already ends the wait as well.
func (p *Poller) look(fd uintptr) bool {
	if p.woken.Load() {
		return true
	}
	p.n, p.err = p.cq.Poll(p.wc)
	if p.n > 0 || p.err != nil || p.slept {
		return true
	}
	p.slept = true
	return p.readable(fd)
}

// readable asks whether there is something to read at fd, without waiting: so
// Go's scheduler need not hear of it.
func (p *Poller) readable(fd uintptr) bool {
	p.pfd = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p.pfd)), 1, uintptr(unsafe.Pointer(&p.zero)), 0, 0, 0)
	return n > 0 || errno != 0
}

// Wake makes the current or the next Wait return. Any goroutine.
func (p *Poller) Wake() {
	if p.woken.Swap(true) || !p.parked.Load() {
		return
	}
	_ = p.file.SetReadDeadline(time.Unix(1, 0)) // an error means: closed
}

// Close frees the Poller, not the CQ.
func (p *Poller) Close() error { return p.file.Close() }

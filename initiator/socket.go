package initiator

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// socket does the pipeline's system calls. Writing never waits as long as
// there is something to read: a target may stop reading until its own output
// is taken.
type socket struct {
	p       *Pipeline
	n       int
	err     error
	readFn  func(fd uintptr) bool
	writeFn func(fd uintptr) bool
	waitFn  func(fd uintptr)
}

func (s *socket) init(p *Pipeline) {
	s.p = p
	s.readFn, s.writeFn, s.waitFn = s.read, s.write, s.wait // once: a method value allocates
}

// exchange sends what the socket takes and then receives something; when the
// socket is full it waits for whatever comes first, room or data.
func (s *socket) exchange() error {
	q := &s.p.tx
	for {
		if !q.empty() {
			if err := s.p.raw.Write(s.writeFn); err != nil {
				return s.lost(err)
			}
			if s.err != nil {
				return s.lost(s.err)
			}
			q.sent(s.n)
		}
		if !q.empty() {
			if err := s.p.raw.Control(s.waitFn); err != nil {
				return s.lost(err)
			}
		}
		if q.empty() && s.p.InFlight() == 0 {
			return nil
		}
		if got, err := s.receive(); got || err != nil {
			return err
		}
	}
}

// receive fills the receive buffer; it waits unless there is something to send.
func (s *socket) receive() (bool, error) {
	s.n, s.err = 0, nil
	if err := s.p.raw.Read(s.readFn); err != nil {
		return false, s.lost(err)
	}
	if s.err != nil {
		return false, s.lost(s.err)
	}
	s.p.rx.w += s.n
	return s.n > 0, nil
}

func (s *socket) lost(err error) error {
	return fmt.Errorf("initiator: connection lost: %w", err)
}

// write is one non-blocking write of the queue.
func (s *socket) write(fd uintptr) bool {
	segs := s.p.tx.segs
	for {
		if len(segs) == 1 {
			s.n, s.err = unix.Write(int(fd), segs[0])
		} else {
			s.n, s.err = unix.Writev(int(fd), segs[:min(len(segs), maxIOVecs)])
		}
		switch {
		case s.err == nil:
			return true
		case errors.Is(s.err, unix.EINTR):
			continue
		case errors.Is(s.err, unix.EAGAIN):
			s.n, s.err = 0, nil
			return true
		default:
			s.n = 0
			return true
		}
	}
}

// read is one receive; false makes the runtime wait for the socket.
func (s *socket) read(fd uintptr) bool {
	var deadline time.Time
	for {
		s.n, s.err = unix.Read(int(fd), s.p.rx.space())
		switch {
		case s.err == nil && s.n == 0:
			s.err = io.EOF
			return true
		case s.err == nil:
			return true
		case errors.Is(s.err, unix.EINTR):
			continue
		case !errors.Is(s.err, unix.EAGAIN):
			s.n = 0
			return true
		}
		s.n, s.err = 0, nil
		if !s.p.tx.empty() {
			return true
		}
		if s.p.cfg.Poll == 0 {
			return false
		}
		if now := time.Now(); deadline.IsZero() {
			deadline = now.Add(s.p.cfg.Poll)
		} else if now.After(deadline) {
			return false
		}
	}
}

// wait waits until the socket has room or data, for 10 ms at most so that a
// deadline is seen.
func (s *socket) wait(fd uintptr) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	_, _ = unix.Poll(fds[:], 10)
}

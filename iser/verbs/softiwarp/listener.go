package softiwarp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// Listener is a listening socket, or an inlet for connections that were
// accepted by somebody else.
type Listener struct {
	cm      *CM
	fd      int // -1: inlet
	addr    netip.AddrPort
	backlog int
	token   uint64

	mu      sync.Mutex
	conns   map[*Conn]struct{} // not given out yet
	stalled bool               // the socket is not watched
	closed  bool
}

var _ verbs.Inlet = (*Listener)(nil)

// kernelBacklog is how many connections may wait to be accepted.
const kernelBacklog = 1024

func (l *Listener) listen(sa unix.Sockaddr) error {
	_ = unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if sa6, ok := sa.(*unix.SockaddrInet6); ok && sa6.Addr == [16]byte{} {
		_ = unix.SetsockoptInt(l.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err := unix.Bind(l.fd, sa); err != nil {
		return err
	}
	// What is beyond the backlog waits in the kernel: a full queue there would
	// cost the peer a second.
	if err := unix.Listen(l.fd, max(l.backlog, kernelBacklog)); err != nil {
		return err
	}
	l.addr = localAddr(l.fd)
	l.conns = make(map[*Conn]struct{})
	var err error
	l.token, err = l.cm.watch(l.fd, unix.EPOLLIN, l)
	return err
}

// Inlet implements verbs.InletCM. The owner of the port tells MPA from other
// protocols by the first bytes (IsRequest).
func (m *CM) Inlet(addr netip.AddrPort, backlog int) verbs.Inlet {
	if backlog <= 0 {
		backlog = 128
	}
	return &Listener{cm: m, fd: -1, addr: addr, backlog: backlog, conns: make(map[*Conn]struct{})}
}

// IsRequest says whether first, which a connection began with, can be the
// beginning of an MPA request frame (RFC 5044 section 7.1), and whether all of
// the frame is there. An iSCSI Login Request begins with 0x43 or 0x03, never
// with 'M'.
func IsRequest(first []byte) (maybe, whole bool) {
	n := min(len(first), mpaKeyLen)
	if string(first[:n]) != mpaRequestKey[:n] {
		return false, false
	}
	if len(first) < mpaHeaderLen {
		return true, false
	}
	length, err := mpaFrameLen(first[:mpaHeaderLen], false)
	return true, err != nil || len(first) >= length
}

// Hand implements verbs.Inlet. read must not go beyond the MPA request frame,
// which no peer does before it has a reply.
func (l *Listener) Hand(c syscall.Conn, read []byte) error {
	if len(read) > mpaHeaderLen+mpaMaxPD {
		return errMPALength
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("softiwarp: hand over: %w", err)
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(s uintptr) {
		fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return fmt.Errorf("softiwarp: hand over: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("softiwarp: hand over: %w", err)
	}
	return l.begin(fd, read)
}

var errBacklog = errors.New("softiwarp: too many connection requests wait")

// begin starts the handshake on fd, which it takes.
func (l *Listener) begin(fd int, read []byte) error {
	c := &Conn{cm: l.cm, dev: l.cm.dev, fd: fd, listener: l, state: connRequest, local: localAddr(fd), peer: peerAddr(fd)}
	c.frameLen = copy(c.frame[:], read)
	setNoDelay(fd)
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		_ = unix.Close(fd)
		return fmt.Errorf("softiwarp: listener: %w", verbs.ErrClosed)
	case len(l.conns) >= l.backlog:
		l.mu.Unlock()
		_ = unix.Close(fd)
		return errBacklog
	}
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	l.cm.startTimer(c, c.dev.cfg.HandshakeTimeout)
	// Readable at once when the rest is there, and level-triggered, so Next
	// goes on from here. A frame that was read in full needs a push.
	events := uint32(unix.EPOLLIN | unix.EPOLLRDHUP)
	if c.frameLen >= mpaHeaderLen {
		events |= unix.EPOLLOUT
	}
	if err := c.watch(events); err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}

// socketReady accepts connections.
func (l *Listener) socketReady(uint32) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return
		}
		if len(l.conns) >= l.backlog {
			l.stalled = true
			l.cm.rewatch(l.fd, 0, l.token)
			l.mu.Unlock()
			return
		}
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		l.mu.Unlock()
		switch {
		case err == nil:
			_ = l.begin(fd, nil)
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM):
			l.pause()
			return
		default: // of the one connection, see accept(2)
		}
	}
}

// acceptAgain is how long a listener waits when the system has no descriptors
// or no memory.
const acceptAgain = 100 * time.Millisecond

// pause stops accepting for a while: the socket stays readable.
func (l *Listener) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.cm.rewatch(l.fd, 0, l.token)
	l.cm.startTimer(l, acceptAgain)
}

// timeout ends a pause.
func (l *Listener) timeout() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && !l.stalled {
		l.cm.rewatch(l.fd, unix.EPOLLIN, l.token)
	}
}

// release takes c out of the backlog.
func (l *Listener) release(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if l.stalled && !l.closed {
		l.stalled = false
		l.cm.rewatch(l.fd, unix.EPOLLIN, l.token)
	}
}

// Addr implements verbs.Listener.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Device implements verbs.Listener.
func (l *Listener) Device() verbs.Device {
	if l.addr.Addr().IsUnspecified() {
		return nil
	}
	return l.cm.dev
}

// Close implements verbs.Listener.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	conns := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	if l.fd < 0 {
		return nil
	}
	l.cm.unwatch(l.fd, l.token)
	l.cm.stopTimer(l)
	return unix.Close(l.fd)
}

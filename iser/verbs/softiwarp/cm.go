package softiwarp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// CM is the connection manager. Next accepts, connects and exchanges MPA
// frames.
type CM struct {
	dev        *Device
	epfd, evfd int
	file       *os.File // epfd, for Go's poller
	raw        syscall.RawConn
	tokens     atomic.Uint64

	mu      sync.Mutex // guards:
	watched map[uint64]watcher
	timed   map[timed]time.Time

	queueMu sync.Mutex // guards:
	queue   []verbs.Event
	closed  bool

	ready [64]unix.EpollEvent // of Next
}

var _ verbs.InletCM = (*CM)(nil)

// watcher is what a socket in the CM's epoll instance belongs to.
type watcher interface {
	// socketReady is called by Next, without locks.
	socketReady(events uint32)
}

// timed is what has a time limit: a Conn until its handshake is over, a
// Listener until it tries again.
type timed interface {
	// timeout is called by Next, without locks, when the time has come.
	timeout()
}

func newCM(d *Device) (*CM, error) {
	epfd, evfd, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("softiwarp: connection manager: %w", err)
	}
	m := &CM{dev: d, epfd: epfd, evfd: evfd, watched: make(map[uint64]watcher), timed: make(map[timed]time.Time)}
	_ = unix.SetNonblock(epfd, true) // makes os.File use the poller
	m.file = os.NewFile(uintptr(epfd), "softiwarp")
	if m.raw, err = m.file.SyscallConn(); err != nil {
		_ = unix.Close(evfd)
		return nil, errors.Join(err, m.file.Close())
	}
	return m, nil
}

// newToken returns a number for an epoll instance; 0 is its eventfd.
func (m *CM) newToken() uint64 { return m.tokens.Add(1) }

// Next implements verbs.CM.
func (m *CM) Next(ctx context.Context) (verbs.Event, error) {
	stop := context.AfterFunc(ctx, m.wake)
	defer stop()
	for {
		if err := ctx.Err(); err != nil {
			return verbs.Event{}, err
		}
		ev, ok, err := m.pop()
		if ok || err != nil {
			return ev, err
		}
		m.wait()
	}
}

var errClosed = fmt.Errorf("softiwarp: connection manager: %w", verbs.ErrClosed)

func (m *CM) pop() (ev verbs.Event, ok bool, err error) {
	m.queueMu.Lock()
	defer m.queueMu.Unlock()
	if m.closed {
		return ev, false, errClosed
	}
	if len(m.queue) == 0 {
		return ev, false, nil
	}
	ev = m.queue[0]
	m.queue[0] = verbs.Event{}
	m.queue = m.queue[1:]
	if ev.Kind == verbs.EventConnectRequest {
		ev.Conn.(*Conn).given()
	}
	return ev, true, nil
}

// post queues an event.
func (m *CM) post(ev verbs.Event) {
	m.queueMu.Lock()
	m.queue = append(m.queue, ev)
	m.queueMu.Unlock()
	m.wake()
}

// forget removes the events of c.
func (m *CM) forget(c *Conn) {
	m.queueMu.Lock()
	defer m.queueMu.Unlock()
	kept := m.queue[:0]
	for _, ev := range m.queue {
		if ev.Conn != verbs.Conn(c) {
			kept = append(kept, ev)
		}
	}
	clear(m.queue[len(kept):])
	m.queue = kept
}

func (m *CM) wake() {
	m.queueMu.Lock()
	defer m.queueMu.Unlock()
	if !m.closed {
		signalEvent(m.evfd)
	}
}

// wait waits for sockets, wake or the next deadline, and does what there is to
// do.
func (m *CM) wait() {
	_ = m.file.SetReadDeadline(m.nextDeadline())
	n := 0
	err := m.raw.Read(func(fd uintptr) bool {
		n = epollWait(int(fd), m.ready[:])
		return n > 0
	})
	if err != nil { // deadline, or closed
		m.expire(time.Now())
		return
	}
	for i := range n {
		token := epollToken(&m.ready[i])
		if token == 0 {
			drainEvent(m.evfd)
			continue
		}
		m.mu.Lock()
		w := m.watched[token]
		m.mu.Unlock()
		if w != nil {
			w.socketReady(m.ready[i].Events)
		}
	}
	m.expire(time.Now())
}

func (m *CM) nextDeadline() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first time.Time
	for _, t := range m.timed {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first
}

func (m *CM) expire(now time.Time) {
	m.mu.Lock()
	var late []timed
	for c, t := range m.timed {
		if !now.Before(t) {
			late = append(late, c)
			delete(m.timed, c)
		}
	}
	m.mu.Unlock()
	for _, c := range late {
		c.timeout()
	}
}

func (m *CM) startTimer(c timed, d time.Duration) {
	m.mu.Lock()
	m.timed[c] = time.Now().Add(d)
	m.mu.Unlock()
	m.wake() // Next may be waiting longer
}

func (m *CM) stopTimer(c timed) {
	m.mu.Lock()
	delete(m.timed, c)
	m.mu.Unlock()
}

func (m *CM) watch(fd int, events uint32, w watcher) (token uint64, err error) {
	token = m.newToken()
	m.mu.Lock()
	m.watched[token] = w
	m.mu.Unlock()
	ev := epollEvent(events, token)
	if err := unix.EpollCtl(m.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		m.mu.Lock()
		delete(m.watched, token)
		m.mu.Unlock()
		return 0, fmt.Errorf("softiwarp: %w", err)
	}
	return token, nil
}

func (m *CM) rewatch(fd int, events uint32, token uint64) {
	ev := epollEvent(events, token)
	_ = unix.EpollCtl(m.epfd, unix.EPOLL_CTL_MOD, fd, &ev)
}

func (m *CM) unwatch(fd int, token uint64) {
	if token == 0 {
		return
	}
	_ = unix.EpollCtl(m.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	m.mu.Lock()
	delete(m.watched, token)
	m.mu.Unlock()
}

// Close implements verbs.CM.
func (m *CM) Close() error {
	m.queueMu.Lock()
	if m.closed {
		m.queueMu.Unlock()
		return nil
	}
	m.closed = true
	m.queueMu.Unlock()
	err := m.file.Close() // ends Next's wait
	return errors.Join(err, unix.Close(m.evfd))
}

// Listen implements verbs.CM.
func (m *CM) Listen(addr netip.AddrPort, backlog int) (verbs.Listener, error) {
	if backlog <= 0 {
		backlog = 128
	}
	sa, family := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("softiwarp: listen on %s: %w", addr, err)
	}
	l := &Listener{cm: m, fd: fd, backlog: backlog}
	if err := l.listen(sa); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("softiwarp: listen on %s: %w", addr, noDevice(err))
	}
	return l, nil
}

// noDevice says in terms of package verbs that an address is not ours.
func noDevice(err error) error {
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: %w", verbs.ErrNoDevice, err)
	}
	return err
}

// Dial implements verbs.CM. It asks the system for the route, and never waits.
func (m *CM) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (verbs.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	source, err := route(local, remote)
	if err != nil {
		return nil, fmt.Errorf("softiwarp: dial %s: %w", remote, noDevice(err))
	}
	_, family := sockaddr(remote)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("softiwarp: dial %s: %w", remote, err)
	}
	if local.IsValid() && !local.IsUnspecified() {
		// Only the address: the port is chosen when it connects.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		sa, _ := sockaddr(netip.AddrPortFrom(local, 0))
		if err := unix.Bind(fd, sa); err != nil {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("softiwarp: dial %s from %s: %w", remote, local, noDevice(err))
		}
	}
	setNoDelay(fd)
	return &Conn{cm: m, dev: m.dev, fd: fd, active: true, local: netip.AddrPortFrom(source, 0), peer: remote}, nil
}

// route finds the address that packets to remote would have, without sending
// any.
func route(local netip.Addr, remote netip.AddrPort) (netip.Addr, error) {
	sa, family := sockaddr(remote)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	if local.IsValid() && !local.IsUnspecified() {
		from, _ := sockaddr(netip.AddrPortFrom(local, 0))
		if err := unix.Bind(fd, from); err != nil {
			return netip.Addr{}, err
		}
	}
	if err := unix.Connect(fd, sa); err != nil {
		return netip.Addr{}, err
	}
	return localAddr(fd).Addr(), nil
}

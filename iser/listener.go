package iser

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// Listener is an address that initiators connect to, or an inlet for those that
// have connected elsewhere.
type Listener struct {
	e      *Engine
	addr   netip.AddrPort
	accept func(*Request)
	inlet  bool

	mu     sync.Mutex
	vl     verbs.Listener // a verbs.Inlet for an inlet; nil while it is lost
	closed bool
}

// Listen has connections to addr given to accept, which must not block and owns
// them.
func (e *Engine) Listen(addr netip.AddrPort, accept func(*Request)) (*Listener, error) {
	l := &Listener{e: e, addr: addr, accept: accept}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

const backlog = 128

// Inlet returns a listener for connections that come in at addr, a port of
// somebody else's, who gives them to Hand. As Listen it has them given to accept.
// Only a provider in software has that.
func (e *Engine) Inlet(addr netip.AddrPort, accept func(*Request)) (*Listener, error) {
	l := &Listener{e: e, addr: addr, accept: accept, inlet: true}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Hand gives an inlet a connection whose first bytes, first, are a request of
// the transport below iSER. It borrows c, which the caller closes in any case,
// without shutting it down. Any goroutine.
func (l *Listener) Hand(c syscall.Conn, first []byte) error {
	l.mu.Lock()
	in, ok := l.vl.(verbs.Inlet)
	l.mu.Unlock()
	if !ok {
		return errors.New("iser: the listener is no inlet, or it is lost")
	}
	return in.Hand(c, first)
}

func (l *Listener) open() error {
	e := l.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	vl, err := l.listen()
	if err != nil {
		return fmt.Errorf("iser: listen on %v: %w", l.addr, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return vl.Close()
	}
	l.vl = vl
	if !l.inlet {
		l.addr = vl.Addr()
	}
	e.listeners[vl] = l
	return nil
}

// listen has e.mu held.
func (l *Listener) listen() (verbs.Listener, error) {
	if !l.inlet {
		return l.e.cm.Listen(l.addr, backlog)
	}
	cm, ok := l.e.cm.(verbs.InletCM)
	if !ok {
		return nil, fmt.Errorf("provider %s takes no connections from other ports", l.e.prov.Name())
	}
	return cm.Inlet(l.addr, backlog), nil
}

// Addr is the address with the port in use.
func (l *Listener) Addr() netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

// Close ends listening; connections stay.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	vl := l.vl
	l.vl = nil
	l.mu.Unlock()
	if vl == nil {
		return nil
	}
	l.e.mu.Lock()
	delete(l.e.listeners, vl)
	l.e.mu.Unlock()
	return vl.Close()
}

// reopen replaces a listener that the system has taken away, when its device or
// its address moved, as soon as that is possible again.
func (l *Listener) reopen(why string) {
	l.mu.Lock()
	vl := l.vl
	l.vl = nil
	l.mu.Unlock()
	if vl == nil {
		return
	}
	l.e.mu.Lock()
	delete(l.e.listeners, vl)
	l.e.mu.Unlock()
	l.e.cfg.Report("listener is lost, it is opened again", "address", l.Addr(), "reason", why)
	l.e.cfg.Start("rdma-listen", func() {
		_ = vl.Close()
		for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			l.mu.Lock()
			closed := l.closed
			l.mu.Unlock()
			if closed {
				return
			}
			err := l.open()
			if err == nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-l.e.done:
				return
			case <-time.After(wait):
			}
		}
	})
}

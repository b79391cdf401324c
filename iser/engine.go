package iser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// Config are the means and bounds of an engine. Start is required.
type Config struct {
	// Start runs a function on a goroutine of its own.
	Start func(name string, f func())
	// Report, if not nil, is told what an operator should know, as a message and
	// alternating keys and values.
	Report func(msg string, kv ...any)
	// Memories, if not nil, are what data may be sent from without a copy.
	Memories *Memories
	// PoolMemory bounds the registered memory of a device, in bytes; 256 MiB.
	PoolMemory int64
	// CommandWindow bounds the commands in flight of a connection; 128.
	CommandWindow int
	// Depth bounds the RDMA Reads under way on a connection; 16.
	Depth int
	// CQDepth is the size of a completion queue; 65536. Another one is made
	// when it can't take a further connection.
	CQDepth int
	// Spin is for how long at most a pump polls before it sleeps; by default 0
	// with less than 4 CPUs, else 50 µs. Negative: 0.
	Spin time.Duration
}

func (c Config) withDefaults() Config {
	if c.Report == nil {
		c.Report = func(string, ...any) {}
	}
	if c.PoolMemory <= 0 {
		c.PoolMemory = 256 << 20
	}
	if c.CommandWindow <= 0 {
		c.CommandWindow = 128
	}
	if c.Depth <= 0 {
		c.Depth = 16
	}
	if c.CQDepth <= 0 {
		c.CQDepth = 1 << 16
	}
	switch {
	case c.Spin < 0:
		c.Spin = 0
	case c.Spin == 0 && runtime.NumCPU() >= 4:
		c.Spin = 50 * time.Microsecond
	}
	return c
}

// Engine serves iSER over one provider: its listeners, its devices and their
// pumps. All methods are safe for concurrent use.
type Engine struct {
	cfg    Config
	prov   verbs.Provider
	cm     verbs.CM
	ctx    context.Context // until all pumps have ended
	cancel context.CancelFunc
	done   chan struct{} // closed when everything has ended

	mu        sync.Mutex // guards what follows
	closed    bool
	devices   map[verbs.Device]*Device
	conns     map[verbs.Conn]*Conn
	listeners map[verbs.Listener]*Listener
	pumps     sync.WaitGroup
}

// NewEngine returns an engine over prov, which it borrows. It takes no device
// before a connection comes. Close ends it.
func NewEngine(prov verbs.Provider, cfg Config) (*Engine, error) {
	cm, err := prov.NewCM()
	if err != nil {
		return nil, fmt.Errorf("iser: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{
		cfg: cfg.withDefaults(), prov: prov, cm: cm, ctx: ctx, cancel: cancel, done: make(chan struct{}),
		devices: make(map[verbs.Device]*Device), conns: make(map[verbs.Conn]*Conn), listeners: make(map[verbs.Listener]*Listener),
	}
	e.cfg.Start("rdma-cm", func() { e.events(ctx) })
	return e, nil
}

// Provider is the name of the provider.
func (e *Engine) Provider() string { return e.prov.Name() }

// Listener is an address that initiators connect to, or an inlet for those that
// have connected elsewhere.
type Listener struct {
	e      *Engine
	addr   netip.AddrPort
	accept func(*Request)
	inlet  verbs.Inlet // nil for a listener with a port of its own

	mu     sync.Mutex
	vl     verbs.Listener
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
	cm, ok := e.cm.(verbs.InletCM)
	if !ok {
		return nil, fmt.Errorf("iser: provider %s takes no connections from other ports", e.prov.Name())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	in := cm.Inlet(addr, backlog)
	l := &Listener{e: e, addr: addr, accept: accept, inlet: in, vl: in}
	e.listeners[in] = l
	return l, nil
}

// Hand gives an inlet a connection whose first bytes, first, are a request of
// the transport below iSER. It borrows c, which the caller closes in any case,
// without shutting it down. Any goroutine.
func (l *Listener) Hand(c syscall.Conn, first []byte) error {
	if l.inlet == nil {
		return errors.New("iser: the listener is no inlet")
	}
	return l.inlet.Hand(c, first)
}

func (l *Listener) open() error {
	e := l.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	vl, err := e.cm.Listen(l.addr, backlog)
	if err != nil {
		return fmt.Errorf("iser: listen on %v: %w", l.addr, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return vl.Close()
	}
	l.vl, l.addr = vl, vl.Addr()
	e.listeners[vl] = l
	return nil
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
func (l *Listener) reopen(why verbs.EventKind) {
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

// events is the goroutine of connection management: it must not wait for
// anything but events, for those of all connections pass here.
func (e *Engine) events(ctx context.Context) {
	defer e.finish()
	for {
		ev, err := e.cm.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				e.cfg.Report("connection management has failed", "provider", e.prov.Name(), "reason", err)
			}
			return
		}
		e.event(&ev)
	}
}

func (e *Engine) finish() {
	if err := e.cm.Close(); err != nil {
		e.cfg.Report("connection management can't be closed", "provider", e.prov.Name(), "reason", err)
	}
	e.mu.Lock()
	devices := e.devices
	e.devices = nil
	e.mu.Unlock()
	for _, d := range devices {
		d.free()
	}
	close(e.done)
}

func (e *Engine) event(ev *verbs.Event) {
	if ev.Kind == verbs.EventDeviceRemoval {
		e.removed(ev)
	}
	switch {
	case ev.Kind == verbs.EventConnectRequest:
		e.request(ev)
	case ev.Conn == nil && ev.Listener != nil:
		e.mu.Lock()
		l := e.listeners[ev.Listener]
		e.mu.Unlock()
		if l != nil {
			l.reopen(ev.Kind)
		}
	case ev.Conn != nil:
		e.mu.Lock()
		c := e.conns[ev.Conn]
		e.mu.Unlock()
		if c == nil {
			return
		}
		switch ev.Kind {
		case verbs.EventEstablished:
			c.pump.push(request{kind: reqUp, c: c})
		case verbs.EventTimewaitExit:
		default:
			c.pump.push(request{kind: reqDown, c: c})
		}
	}
}

// request hands a new connection to the listener's owner.
func (e *Engine) request(ev *verbs.Event) {
	e.mu.Lock()
	l := e.listeners[ev.Listener]
	e.mu.Unlock()
	r := &Request{e: e, vc: ev.Conn, param: ev.Param}
	if l == nil {
		r.Refuse()
		return
	}
	l.accept(r)
}

func (e *Engine) forget(vc verbs.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, vc)
}

// Request is a connection that an initiator asks for. It is answered by Open and
// Conn.Start, or by Refuse.
type Request struct {
	// NoInvalidate, set before Open, has Send with Invalidate not used although
	// both sides could.
	NoInvalidate bool

	e     *Engine
	vc    verbs.Conn
	param verbs.ConnParam
}

// RemoteAddr is the initiator's address.
func (r *Request) RemoteAddr() net.Addr { return tcpAddr(r.vc.Peer()) }

// Refuse rejects the connection.
func (r *Request) Refuse() {
	r.e.cfg.Start("rdma-reject", func() {
		_ = r.vc.Reject(nil)
		_ = r.vc.Close()
	})
}

// Open makes the connection's queue pair. When it fails the request is refused.
func (r *Request) Open() (*Conn, error) {
	d, err := r.e.device(r.vc.Device())
	if err != nil {
		r.Refuse()
		return nil, err
	}
	c, err := d.open(r)
	if err != nil {
		r.Refuse()
		return nil, err
	}
	return c, nil
}

// Close ends listening and, when all connections are closed, everything else. It
// does not wait; Done tells.
func (e *Engine) Close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	var listeners []*Listener
	for _, l := range e.listeners {
		listeners = append(listeners, l)
	}
	for _, d := range e.devices {
		d.stop()
	}
	e.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	e.cfg.Start("rdma-stop", func() {
		e.pumps.Wait()
		e.cancel()
	})
}

// Done is closed when everything has ended after Close.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Usage is what an engine holds now.
type Usage struct {
	Connections int
	Registered  int64 // bytes
	InUse       int64 // of them, handed out
}

// Usage returns what the engine holds.
func (e *Engine) Usage() Usage {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := Usage{Connections: len(e.conns)}
	for _, d := range e.devices {
		u.Registered += d.pool.Registered()
		u.InUse += d.pool.InUse()
	}
	return u
}

package iser

import (
	"context"
	"fmt"
	"maps"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
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
	// Fault, if not nil, is told of a panic, which is a defect: of what was
	// recovered and where it happened. The connections it concerns end.
	Fault func(value any, stack []byte)
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
	// Spin is for how long at most a pump polls before it sleeps (verbs.NewPoller);
	// by default 50 µs, as over TCP, but 0 for adapters of a machine with less than
	// 4 CPUs, which the kernel's side of them needs. Negative: 0.
	Spin time.Duration
}

func (c Config) withDefaults(software bool) Config {
	if c.Report == nil {
		c.Report = func(string, ...any) {}
	}
	if c.Fault == nil {
		c.Fault = func(v any, stack []byte) { c.Report("panic", "value", v, "stack", string(stack)) }
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
	case c.Spin == 0 && (software || runtime.NumCPU() >= 4):
		c.Spin = 50 * time.Microsecond
	}
	return c
}

// Engine serves iSER over one provider: its listeners, its devices and their
// pumps. All methods are safe for concurrent use.
type Engine struct {
	cfg    Config
	prov   verbs.Provider
	ctx    context.Context // until all pumps have ended
	cancel context.CancelFunc
	done   chan struct{} // closed when everything has ended

	mu        sync.Mutex // guards what follows
	cm        verbs.CM
	old       []verbs.CM // failed; connections of theirs may remain until the end
	closed    bool
	devices   map[verbs.Device]*Device
	conns     map[verbs.Conn]*Conn
	listeners map[verbs.Listener]*Listener
	pumps     sync.WaitGroup
}

// minProcs is the least GOMAXPROCS with adapters. A pump keeps its place while it
// sleeps in a system call for as long as another place is free; else the
// scheduler's monitor takes it away after 20 µs and goes on looking every 20 µs.
// With two places and one CPU the second stays taken by a thread that has nothing
// to do but does not come to saying so (ADR 9).
const minProcs = 3

// NewEngine returns an engine over prov, which it borrows. It takes no device
// before a connection comes. Close ends it.
func NewEngine(prov verbs.Provider, cfg Config) (*Engine, error) {
	cm, err := prov.NewCM()
	if err != nil {
		return nil, fmt.Errorf("iser: %w", err)
	}
	if !software(prov) && runtime.GOMAXPROCS(0) < minProcs {
		runtime.GOMAXPROCS(minProcs)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{
		cfg: cfg.withDefaults(software(prov)), prov: prov, cm: cm, ctx: ctx, cancel: cancel, done: make(chan struct{}),
		devices: make(map[verbs.Device]*Device), conns: make(map[verbs.Conn]*Conn), listeners: make(map[verbs.Listener]*Listener),
	}
	e.cfg.Start("rdma-cm", e.events)
	return e, nil
}

// software reports whether the provider is one in software.
func software(p verbs.Provider) bool { return p.Name() == "softiwarp" }

// Provider is the name of the provider.
func (e *Engine) Provider() string { return e.prov.Name() }

// events is the goroutine of connection management: it must not wait for
// anything but events, for those of all connections pass here.
func (e *Engine) events() {
	defer e.finish()
	cm := e.cm
	for {
		ev, err := cm.Next(e.ctx)
		switch {
		case e.ctx.Err() != nil:
			return
		case err != nil:
			if cm = e.renew(err); cm == nil {
				return
			}
		default:
			e.guarded(&ev)
		}
	}
}

// guarded is event, whose panic ends the connection it is about and no more.
func (e *Engine) guarded(ev *verbs.Event) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		e.cfg.Fault(v, debug.Stack())
		if ev.Kind == verbs.EventConnectRequest {
			(&Request{e: e, vc: ev.Conn}).Refuse()
		} else if ev.Conn != nil {
			e.down(func(c *Conn) bool { return c.vc == ev.Conn })
		}
	}()
	e.event(ev)
}

// renew takes another connection management after one has failed with err, and
// opens the listeners again. The connections end, for nobody would tell of their
// ends. It is nil when the engine has ended meanwhile.
func (e *Engine) renew(err error) verbs.CM {
	e.cfg.Report("connection management has failed, it is begun again", "provider", e.prov.Name(), "reason", err)
	e.down(func(*Conn) bool { return true })
	var cm verbs.CM
	for wait := 10 * time.Millisecond; cm == nil; wait = min(2*wait, time.Second) {
		select {
		case <-e.ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if cm, err = e.prov.NewCM(); err != nil {
			cm = nil
		}
	}
	e.mu.Lock()
	e.old = append(e.old, e.cm)
	e.cm = cm
	listeners := slices.Collect(maps.Values(e.listeners))
	e.mu.Unlock()
	for _, l := range listeners {
		l.reopen("connection management has failed")
	}
	return cm
}

func (e *Engine) finish() {
	e.mu.Lock()
	devices := e.devices
	e.devices = nil
	cms := append(e.old, e.cm)
	e.mu.Unlock()
	for _, cm := range cms {
		if err := cm.Close(); err != nil {
			e.cfg.Report("connection management can't be closed", "provider", e.prov.Name(), "reason", err)
		}
	}
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
		if l := e.listener(ev.Listener); l != nil {
			l.reopen(ev.Kind.String())
		}
	case ev.Conn != nil:
		c := e.conn(ev.Conn)
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
	l := e.listener(ev.Listener)
	r := &Request{e: e, vc: ev.Conn, param: ev.Param}
	if l == nil {
		r.Refuse()
		return
	}
	l.accept(r)
}

func (e *Engine) listener(vl verbs.Listener) *Listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listeners[vl]
}

func (e *Engine) conn(vc verbs.Conn) *Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conns[vc]
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

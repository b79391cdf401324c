package iserd_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/memory"
)

// frail is software iWARP to which happens what happens to adapters: events of
// connection management out of the blue, and calls that fail.
type frail struct {
	verbs.Provider
	caps func(*verbs.Caps) // changes what the device says of itself
	name string            // of the provider, "" for softiwarp's own

	mu      sync.Mutex // guards what follows
	cm      *frailCM
	dev     *frailDevice
	conns   []verbs.Conn      // asked for by initiators
	params  []verbs.ConnParam // of Accept
	qpn     uint32            // of the last queue pair
	cq      verbs.CQ          // of it
	fail    string            // the call that fails: NewQP, Inline (a NewQP with it), Accept, PostSend, PostRecv
	failing int               // how often it succeeds before
	watched []byte            // memory of a logical unit
	direct  map[verbs.Op]int  // work requests that were posted with it
	regions int               // of it, registered now
	cpus    []int             // near the device
}

// watch counts what is done with the memory of a logical unit.
func (f *frail) watch(mem []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched, f.direct = mem, make(map[verbs.Op]int)
}

// watches reports whether an address is in it; f.mu is held.
func (f *frail) watches(addr uint64) bool {
	return len(f.watched) > 0 && addr-verbs.Addr(f.watched) < uint64(len(f.watched))
}

// seen is how many work requests of a kind were posted with it, and how many regions
// of it are registered now.
func (f *frail) seen(op verbs.Op) (posted, regions int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.direct[op], f.regions
}

var errFrail = errors.New("the adapter refuses")

func newFrail(t *testing.T) *frail {
	t.Helper()
	f := &frail{Provider: softiwarp.New(softiwarp.Config{})}
	t.Cleanup(func() { // after the server's
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// Name implements verbs.Provider.
func (f *frail) Name() string {
	if f.name != "" {
		return f.name
	}
	return f.Provider.Name()
}

// fails has a call fail after it was successful n times.
func (f *frail) fails(call string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.failing = call, n
}

// broken tells whether a call fails now.
func (f *frail) broken(call string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != call {
		return false
	}
	f.failing--
	return f.failing < 0
}

// failed tells whether a call has.
func (f *frail) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failing < 0
}

// device is the only device; each call returns the same.
func (f *frail) device(d verbs.Device) *frailDevice {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dev == nil {
		f.dev = &frailDevice{Device: d, f: f, events: make(chan verbs.DeviceEvent, 8)}
	}
	return f.dev
}

// inject has the CM deliver an event to each connection, or to each listener.
func (f *frail) inject(kind verbs.EventKind, listeners bool) {
	f.mu.Lock()
	cm, conns := f.cm, append([]verbs.Conn(nil), f.conns...)
	f.mu.Unlock()
	if !listeners {
		for _, c := range conns {
			cm.events <- verbs.Event{Kind: kind, Conn: c}
		}
		return
	}
	cm.mu.Lock()
	all := append([]verbs.Listener(nil), cm.listeners...)
	cm.mu.Unlock()
	for _, l := range all {
		cm.events <- verbs.Event{Kind: kind, Listener: l}
	}
}

// accepted waits for n Accepts and returns what they said.
func (f *frail) accepted() []verbs.ConnParam {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]verbs.ConnParam(nil), f.params...)
}

// NewCM implements verbs.Provider.
func (f *frail) NewCM() (verbs.CM, error) {
	cm, err := f.Provider.NewCM()
	if err != nil {
		return nil, err
	}
	x := &frailCM{CM: cm, f: f, events: make(chan verbs.Event, 1024), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	x.stop = cancel
	go x.forward(ctx)
	f.mu.Lock()
	f.cm = x
	f.mu.Unlock()
	return x, nil
}

type frailCM struct {
	verbs.CM
	f      *frail
	events chan verbs.Event
	stop   func()
	done   chan struct{}

	mu        sync.Mutex
	listeners []verbs.Listener
}

func (x *frailCM) forward(ctx context.Context) {
	defer close(x.done)
	wrapped := make(map[verbs.Conn]verbs.Conn)
	for {
		ev, err := x.CM.Next(ctx)
		if err != nil {
			return
		}
		if ev.Kind == verbs.EventConnectRequest {
			c := &frailConn{Conn: ev.Conn, f: x.f}
			wrapped[ev.Conn] = c
			x.f.mu.Lock()
			x.f.conns = append(x.f.conns, c)
			x.f.mu.Unlock()
		}
		if c := wrapped[ev.Conn]; c != nil {
			ev.Conn = c
		}
		x.events <- ev
	}
}

func (x *frailCM) Next(ctx context.Context) (verbs.Event, error) {
	select {
	case ev := <-x.events:
		return ev, nil
	case <-ctx.Done():
		return verbs.Event{}, ctx.Err()
	}
}

func (x *frailCM) Listen(addr netip.AddrPort, backlog int) (verbs.Listener, error) {
	l, err := x.CM.Listen(addr, backlog)
	if err == nil {
		x.mu.Lock()
		x.listeners = append(x.listeners, l)
		x.mu.Unlock()
	}
	return l, err
}

func (x *frailCM) Close() error {
	x.stop()
	<-x.done
	return x.CM.Close()
}

type frailConn struct {
	verbs.Conn
	f *frail
}

func (c *frailConn) Device() verbs.Device { return c.f.device(c.Conn.Device()) }

func (c *frailConn) NewQP(cfg verbs.QPConfig) (verbs.QP, error) {
	if c.f.broken("NewQP") || cfg.MaxInline > 0 && c.f.broken("Inline") {
		return nil, errFrail
	}
	qp, err := c.Conn.NewQP(cfg)
	if err != nil {
		return nil, err
	}
	c.f.mu.Lock()
	c.f.qpn, c.f.cq = qp.Num(), cfg.RecvCQ
	c.f.mu.Unlock()
	return &frailQP{QP: qp, f: c.f}, nil
}

func (c *frailConn) Accept(p verbs.ConnParam) error {
	if c.f.broken("Accept") {
		return errFrail
	}
	c.f.mu.Lock()
	c.f.params = append(c.f.params, p)
	c.f.mu.Unlock()
	return c.Conn.Accept(p)
}

type frailQP struct {
	verbs.QP
	f *frail
}

func (q *frailQP) PostSend(wr []verbs.SendWR) (int, error) {
	if q.f.broken("PostSend") {
		return 0, errFrail
	}
	q.f.mu.Lock()
	for i := range wr {
		if sg := wr[i].SG; len(sg) > 0 && q.f.watches(sg[0].Addr) {
			q.f.direct[wr[i].Op]++
		}
	}
	q.f.mu.Unlock()
	return q.QP.PostSend(wr)
}

func (q *frailQP) PostRecv(wr []verbs.RecvWR) (int, error) {
	if q.f.broken("PostRecv") {
		return 0, errFrail
	}
	return q.QP.PostRecv(wr)
}

type frailDevice struct {
	verbs.Device
	f      *frail
	events chan verbs.DeviceEvent
}

func (d *frailDevice) Caps() verbs.Caps {
	c := d.Device.Caps()
	if d.f.caps != nil {
		d.f.caps(&c)
	}
	return c
}

func (d *frailDevice) CPUs() []int {
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	return d.f.cpus
}

func (d *frailDevice) Register(mem []byte, acc verbs.Access) (verbs.MR, error) {
	mr, err := d.Device.Register(mem, acc)
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	if err != nil || !d.f.watches(verbs.Addr(mem)) {
		return mr, err
	}
	d.f.regions++
	return &frailMR{MR: mr, f: d.f}, nil
}

// frailMR is registered memory of the logical unit that is watched.
type frailMR struct {
	verbs.MR
	f *frail
}

func (m *frailMR) Close() error {
	err := m.MR.Close()
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if err == nil {
		m.f.regions--
	}
	return err
}

func (d *frailDevice) NextEvent(ctx context.Context) (verbs.DeviceEvent, error) {
	select {
	case ev := <-d.events:
		return ev, nil
	case <-ctx.Done():
		return verbs.DeviceEvent{}, ctx.Err()
	}
}

// serveISER serves a memory LUN of 64 MiB by iSER over prov.
func serveISER(t *testing.T, prov verbs.Provider, limits iserd.Limits, opts ...iserd.TargetOption) (*iserd.Server, netip.AddrPort) {
	t.Helper()
	srv, err := iserd.NewServer(iserd.WithLimits(limits))
	if err != nil {
		t.Fatal(err)
	}
	b, err := memory.New(memory.Options{Size: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	_, addr := serveDisk(t, srv, prov, b, opts...)
	return srv, addr
}

// serveDisk serves b as LUN 0, by iSER over prov.
func serveDisk(t *testing.T, srv *iserd.Server, prov verbs.Provider, b luns.Backend, opts ...iserd.TargetOption) (*iserd.Target, netip.AddrPort) {
	t.Helper()
	opts = append([]iserd.TargetOption{iserd.AnyInitiator(), iserd.LUN(0, b, iserd.Thin())}, opts...)
	target, err := srv.AddTarget(t.Context(), testTarget, opts...)
	if err != nil {
		t.Fatal(err)
	}
	addr, _, err := srv.AddISERPortal(t.Context(), prov, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(t, srv) })
	t.Cleanup(func() { quiet(t, srv) })
	return target, addr
}

func shutdown(t *testing.T, srv *iserd.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error("shutdown:", err)
	}
	if n := srv.BuffersInUse(); n != 0 {
		t.Errorf("%d bytes of buffers still in use", n)
	}
}

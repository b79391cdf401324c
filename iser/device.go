package iser

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/iser/pool"
	"github.com/iserd/iserd/iser/verbs"
)

// Device is one RDMA device of an engine: its memory and its pumps.
type Device struct {
	engine     *Engine
	cfg        *Config
	dev        verbs.Device
	caps       verbs.Caps
	pool       *pool.Pool
	software   bool         // the CPU moves the data: WRITEs gain nothing by going direct
	access     verbs.Access // of memory that RDMA Reads go to
	direct     directory    // memory of logical units
	chunks     atomic.Int64 // of it
	refused    atomic.Bool  // no more of it can be registered
	maxMessage int
	seen       completions

	wanted         chan wanted
	quit           chan struct{} // closed by stop
	registrarEnded chan struct{}

	mu      sync.Mutex // guards what follows
	pumps   []*Pump
	running sync.WaitGroup // pumps
	stopped bool
}

// device returns the engine's part for a device of the provider.
func (e *Engine) device(vd verbs.Device) (*Device, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	if d := e.devices[vd]; d != nil {
		return d, nil
	}
	caps := vd.Caps()
	access := verbs.AccessLocalWrite
	if caps.Transport == verbs.TransportIWARP && !software(e.prov) {
		// The sink's tag goes on the wire (RFC 5040 5.2); software has one of
		// its own for each RDMA Read.
		access |= verbs.AccessRemoteWrite
	}
	d := &Device{
		engine: e, cfg: &e.cfg, dev: vd, caps: caps, software: software(e.prov), access: access,
		pool:       pool.New(vd, access, e.cfg.PoolMemory),
		maxMessage: int(min(caps.MaxMessage, 1<<30)),
		wanted:     make(chan wanted, 64), quit: make(chan struct{}), registrarEnded: make(chan struct{}),
	}
	e.devices[vd] = d
	e.cfg.Start("rdma-device", d.events)
	e.cfg.Start("rdma-registrar", d.registrar)
	return d, nil
}

// events handles what the device tells asynchronously.
func (d *Device) events() {
	for {
		ev, err := d.dev.NextEvent(d.engine.ctx)
		if err != nil {
			if d.engine.ctx.Err() == nil {
				d.engine.lose(d, err)
			}
			return
		}
		switch ev.Kind {
		case verbs.DeviceFatal:
			d.engine.lose(d, errors.New(ev.Kind.String()))
		case verbs.DeviceQPFatal, verbs.DeviceQPRequestError, verbs.DeviceQPAccessError:
			d.engine.down(func(c *Conn) bool { return c.pump.dev == d && c.qp.Num() == ev.QPN })
		case verbs.DeviceCQError:
			d.engine.down(func(c *Conn) bool { return c.pump.dev == d && c.pump.cq == ev.CQ })
		case verbs.DevicePortDown, verbs.DevicePortActive:
			// Connections outlive a short loss of the link; a long one ends them by
			// their own timeouts.
			d.report("RDMA port changed", "device", d.dev.Name(), "port", ev.Port, "event", ev.Kind)
		default:
		}
	}
}

// removed takes a device out that the system takes away, which waits until
// everything made from it is closed.
func (e *Engine) removed(ev *verbs.Event) {
	var vd verbs.Device
	switch {
	case ev.Conn != nil:
		vd = ev.Conn.Device()
	case ev.Listener != nil:
		vd = ev.Listener.Device()
	}
	e.mu.Lock()
	d := e.devices[vd]
	e.mu.Unlock()
	if vd != nil && d != nil {
		e.lose(d, errors.New(ev.Kind.String()))
	}
}

// down ends the connections that match.
func (e *Engine) down(match func(*Conn) bool) {
	e.mu.Lock()
	var conns []*Conn
	for _, c := range e.conns {
		if match(c) {
			conns = append(conns, c)
		}
	}
	e.mu.Unlock()
	for _, c := range conns {
		c.pump.push(request{kind: reqDown, c: c})
	}
}

// lose ends all connections of a device and frees what there is of it. If the
// device is there again, it is a new one.
func (e *Engine) lose(d *Device, why error) {
	e.mu.Lock()
	if e.devices[d.dev] != d {
		e.mu.Unlock()
		return
	}
	delete(e.devices, d.dev)
	e.pumps.Add(1)
	e.mu.Unlock()
	d.report("RDMA device is lost", "device", d.dev.Name(), "reason", why)
	d.stop()
	e.down(func(c *Conn) bool { return c.pump.dev == d })
	d.start("rdma-lost", func() {
		defer e.pumps.Done()
		d.running.Wait()
		d.free()
	})
}

// free gives the memory back, when nobody uses it any more: tasks on the workers
// of a logical unit may have some for a while.
func (d *Device) free() {
	<-d.registrarEnded
	d.cfg.Memories.forget(d)
	err := d.pool.Close()
	for range 500 {
		if !errors.Is(err, pool.ErrInUse) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		err = d.pool.Close()
	}
	if err != nil {
		d.report("memory stays registered", "device", d.dev.Name(), "reason", err)
	}
}

func (d *Device) report(msg string, kv ...any) { d.cfg.Report(msg, kv...) }

func (d *Device) start(name string, f func()) { d.cfg.Start(name, f) }

// maxSendWR is how many work requests a queue pair's send queue is made for.
const maxSendWR = 512

// open makes the connection of a request.
func (d *Device) open(r *Request) (*Conn, error) {
	send := min(maxSendWR, d.caps.MaxWR)
	recv := min(maxRecvs+loginRecvs, d.caps.MaxWR)
	c := &Conn{
		vc:         r.vc,
		invalidate: d.caps.SendInv && !r.NoInvalidate && acceptsInvalidate(r.param.Private),
		depth:      min(int(r.param.InitiatorDepth), d.caps.MaxInitRDAtom, d.cfg.Depth, 255),
	}
	// What is granted may be more than what is asked for: twice is enough.
	p, err := d.pump(c, 2*(send+recv))
	if err != nil {
		return nil, err
	}
	if err := c.build(p, send, recv); err != nil {
		c.release()
		p.give(c, 2*(send+recv))
		return nil, err
	}
	p.mu.Lock()
	p.room += 2*(send+recv) - c.completions()
	p.mu.Unlock()
	d.engine.mu.Lock()
	d.engine.conns[r.vc] = c
	d.engine.mu.Unlock()
	return c, nil
}

// build makes queue pair and memory of the login.
func (c *Conn) build(p *Pump, send, recv int) error {
	c.account = p.dev.pool.Open()
	cfg := verbs.QPConfig{SendCQ: p.cq, RecvCQ: p.cq, QPCap: verbs.QPCap{
		MaxSendWR: send, MaxRecvWR: recv, MaxSendSGE: 1, MaxRecvSGE: 1,
	}}
	if !software(p.dev.engine.prov) {
		cfg.MaxInline = inlineLen
	}
	qp, err := c.vc.NewQP(cfg)
	if err != nil && cfg.MaxInline > 0 {
		cfg.MaxInline = 0 // not every adapter has it, and none says so
		qp, err = c.vc.NewQP(cfg)
	}
	if err != nil {
		return fmt.Errorf("iser: %w", err)
	}
	c.qp = qp
	c.send.inline = min(qp.Cap().MaxInline, cfg.MaxInline)
	c.send.cap = send - 2 // one is for draining
	size := recvSize(maxControlData)
	b := c.account.Get(loginRecvs * size)
	if b == nil {
		return errMemory
	}
	c.memory = append(c.memory, b)
	return c.addRecvs(b.B, loginRecvs, size)
}

var errPumps = errors.New("iser: no completion queue for a further connection")

// pump finds a pump with room for c, or makes another.
func (d *Device) pump(c *Conn, n int) (*Pump, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil, net.ErrClosed
	}
	for _, p := range d.pumps {
		if p.take(c, n) {
			return p, nil
		}
	}
	p, err := newPump(d)
	if err != nil {
		return nil, err
	}
	if !p.take(c, n) {
		_ = p.poller.Close()
		return nil, errors.Join(errPumps, p.cq.Close())
	}
	d.pumps = append(d.pumps, p)
	d.engine.pumps.Add(1)
	d.running.Add(1)
	d.start("rdma-pump", p.run)
	return p, nil
}

// ended takes a pump out.
func (d *Device) ended(p *Pump) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.pumps, p); i >= 0 {
		d.pumps = slices.Delete(d.pumps, i, i+1)
	}
	d.running.Done()
	d.engine.pumps.Done()
}

func (d *Device) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stopped {
		close(d.quit)
	}
	d.stopped = true
	for _, p := range d.pumps {
		p.stop()
	}
}

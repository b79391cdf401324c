package iser

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

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
	direct     directory // memory of logical units
	maxMessage int

	mu      sync.Mutex // guards what follows
	pumps   []*Pump
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
	if caps.Transport == verbs.TransportIWARP && e.prov.Name() != "softiwarp" {
		// The sink's tag goes on the wire (RFC 5040 5.2); software has one of
		// its own for each RDMA Read.
		access |= verbs.AccessRemoteWrite
	}
	d := &Device{
		engine: e, cfg: &e.cfg, dev: vd, caps: caps,
		pool:       pool.New(vd, access, e.cfg.PoolMemory),
		maxMessage: int(min(caps.MaxMessage, 1<<30)),
	}
	e.devices[vd] = d
	return d, nil
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
		invalidate: d.caps.SendInv && acceptsInvalidate(r.param.Private),
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
	qp, err := c.vc.NewQP(verbs.QPConfig{SendCQ: p.cq, RecvCQ: p.cq, QPCap: verbs.QPCap{
		MaxSendWR: send, MaxRecvWR: recv, MaxSendSGE: 1, MaxRecvSGE: 1,
	}})
	if err != nil {
		return fmt.Errorf("iser: %w", err)
	}
	c.qp = qp
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
	d.engine.pumps.Done()
}

func (d *Device) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	for _, p := range d.pumps {
		p.stop()
	}
}

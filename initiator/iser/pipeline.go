package iser

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// MaxDepth is how many commands a Pipeline keeps in flight at most.
const MaxDepth = queueDepth - 64

const (
	// spareRecvs are the receives for what no command asks for.
	spareRecvs = 32
	// sendEvery is how many sends have one completion: the response to a command
	// says as well that it was sent, only the queue has to be told.
	sendEvery = 16
	// pipeBit marks the sends of a pipeline, recvBit and nothing other requests.
	pipeBit = 1 << 34
	// headLen is a command as it is sent, without data.
	headLen = iser.HeaderLen + pdu.BHSLen
)

// Pipeline keeps SCSI commands in flight over one iSER connection, from one
// goroutine, as initiator.Pipeline does over TCP: each turn posts all that depth
// and command window allow at once and takes all completions that are there. It
// allocates nothing for a command.
//
// The Data of an IO must be memory from Memory, or nil for a read whose data
// nobody wants.
type Pipeline struct {
	c   *Conn
	r   initiator.LoginResult
	cfg initiator.PipelineConfig

	slots     []slot
	free      []int // slots not in flight
	immediate int   // bytes of a write that go with the command at most
	sink      *region
	regions   []*region
	pong      []byte // the answer to a ping

	cmdSN, maxCmdSN, expStatSN uint32

	wr      []verbs.SendWR // to be posted
	sge     []verbs.SGE    // two for each slot
	posted  int            // sends posted since the last with a completion
	used    int            // places of the send queue in use
	recvWR  []verbs.RecvWR // to be posted again
	recvSGE []verbs.SGE    // one for each receive
	stop    atomic.Bool
}

// slot is a command of a pipeline.
type slot struct {
	io   initiator.IO
	tag  uint32
	busy bool
	head []byte
}

// region is registered memory that a workload may use.
type region struct {
	mem  []byte
	base uint64
	lkey uint32
	rkey uint32
}

// NewPipeline logs in on c, which it takes, to a normal session and returns a
// pipeline over it. No digests may be offered.
func NewPipeline(ctx context.Context, c *Conn, o initiator.Options, cfg initiator.PipelineConfig) (*Pipeline, error) {
	p, err := newPipeline(ctx, c, o, cfg)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return p, nil
}

func newPipeline(ctx context.Context, c *Conn, o initiator.Options, cfg initiator.PipelineConfig) (*Pipeline, error) {
	if cfg.Depth == 0 {
		cfg.Depth = 32
	}
	if cfg.Depth < 1 || cfg.Depth > MaxDepth {
		return nil, fmt.Errorf("initiator/iser: pipeline depth %d, want 1 to %d", cfg.Depth, MaxDepth)
	}
	r, err := c.login(ctx, o, cfg.Depth+spareRecvs)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{
		c: c, r: *r, cfg: cfg, cmdSN: r.CmdSN, maxCmdSN: r.MaxCmdSN, expStatSN: r.ExpStatSN,
		slots: make([]slot, cfg.Depth), sge: make([]verbs.SGE, 2*cfg.Depth),
	}
	if p.r.Params.ImmediateData {
		p.immediate = min(p.r.Params.FirstBurstLength, targetRecv(r))
	}
	return p, p.allocate()
}

// targetRecv is the TargetRecvDataSegmentLength that the target has answered
// with, RFC 7145 §6.4.
func targetRecv(r *initiator.LoginResult) int {
	for _, a := range r.Answers {
		if a.Key != "TargetRecvDataSegmentLength" {
			continue
		}
		if n, err := strconv.Atoi(a.Value); err == nil && n > 0 {
			return n
		}
	}
	return 8192
}

// allocate takes all memory of the pipeline.
func (p *Pipeline) allocate() error {
	heads, err := p.c.hold(len(p.slots) * headLen)
	if err != nil {
		return err
	}
	for i := range p.slots {
		s := &p.slots[i]
		s.io.Slot, s.tag, s.head = i, uint32(i), heads.B[i*headLen:(i+1)*headLen:(i+1)*headLen]
		p.free = append(p.free, len(p.slots)-1-i)
	}
	p.recvSGE = make([]verbs.SGE, len(p.c.recvs))
	for i, b := range p.c.recvs {
		lkey, _ := p.c.pool.LKey(b.B)
		p.recvSGE[i] = verbs.SGE{Addr: verbs.Addr(b.B), Len: uint32(p.c.recvLen[i]), LKey: lkey}
	}
	return nil
}

// Memory returns n bytes of registered memory, for the data of commands. They are
// valid until Close.
func (p *Pipeline) Memory(n int) ([]byte, error) {
	g, err := p.region(n)
	if err != nil {
		return nil, err
	}
	p.regions = append(p.regions, g)
	return g.mem, nil
}

func (p *Pipeline) region(n int) (*region, error) {
	b, err := p.c.hold(n)
	if err != nil {
		return nil, err
	}
	mr := p.c.pool.MR(b.B)
	return &region{mem: b.B, base: verbs.Addr(b.B), lkey: mr.LKey(), rkey: mr.RKey()}, nil
}

var errMemory = errors.New("initiator/iser: the data of a command is not in memory of the pipeline")

// regionOf finds the region that a command's data is in.
func (p *Pipeline) regionOf(io *initiator.IO) (*region, error) {
	if io.Data == nil && !io.Write {
		if p.sink == nil || len(p.sink.mem) < io.Length {
			g, err := p.region(io.Length)
			if err != nil {
				return nil, err
			}
			p.sink = g
		}
		return p.sink, nil
	}
	at := verbs.Addr(io.Data)
	for _, g := range p.regions {
		if off := at - g.base; off < uint64(len(g.mem)) && uint64(io.Length) <= uint64(len(g.mem))-off {
			return g, nil
		}
	}
	return nil, errMemory
}

// InFlight returns how many commands are in flight.
func (p *Pipeline) InFlight() int { return len(p.slots) - len(p.free) }

// Params returns what was negotiated.
func (p *Pipeline) Params() login.Params { return p.r.Params }

// Close drops the connection and frees the memory.
func (p *Pipeline) Close() error { return p.c.Close() }

// Run drives w until it has no more commands and none is in flight, or until ctx
// ends or something breaks; then the connection is of no more use.
func (p *Pipeline) Run(ctx context.Context, w initiator.Workload) error {
	if p.cfg.Origin.IsZero() {
		p.cfg.Origin = time.Now()
	}
	p.stop.Store(false)
	release := context.AfterFunc(ctx, func() {
		p.stop.Store(true)
		p.c.Wake()
	})
	defer release()
	for {
		if err := p.fill(w); err != nil {
			return err
		}
		if err := p.post(); err != nil {
			return err
		}
		if p.InFlight() == 0 && len(p.wr) == 0 {
			return nil
		}
		if p.stop.Load() {
			return context.Cause(ctx)
		}
		if err := p.turn(w); err != nil {
			return err
		}
	}
}

// turn waits for completions and handles them.
func (p *Pipeline) turn(w initiator.Workload) error {
	wcs := p.c.wc[:]
	n, err := p.c.poller.Wait(wcs, -1)
	if err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	now := time.Since(p.cfg.Origin)
	for i := range n {
		wc := &wcs[i]
		switch {
		case wc.Status != verbs.WCSuccess:
			return fmt.Errorf("%w: %v", ErrBroken, wc.Status)
		case wc.ID&pipeBit != 0:
			p.used -= sendEvery
		case wc.ID&recvBit != 0:
			if err := p.received(int(wc.ID&^recvBit), int(wc.Len), w, now); err != nil {
				return err
			}
		default: // of the login
		}
	}
	if n == 0 {
		select {
		case <-p.c.down:
			return ErrBroken
		default:
		}
	}
	return p.postRecvs()
}

// received handles the message in receive i, which is to be posted again.
func (p *Pipeline) received(i, n int, w initiator.Workload, now time.Duration) error {
	var msg iser.Message
	if err := msg.Decode(p.c.recvs[i].B[:n]); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	if err := p.handle(&msg, w, now); err != nil {
		return err
	}
	p.recvWR = append(p.recvWR, verbs.RecvWR{ID: recvBit | uint64(i), SG: p.recvSGE[i : i+1 : i+1]})
	return nil
}

func (p *Pipeline) postRecvs() error {
	if len(p.recvWR) == 0 {
		return nil
	}
	if _, err := p.c.qp.PostRecv(p.recvWR); err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	p.recvWR = p.recvWR[:0]
	return nil
}

// post gives the queue pair what is queued, as far as it has room.
func (p *Pipeline) post() error {
	n := min(len(p.wr), p.c.qp.Cap().MaxSendWR-p.used)
	if n == 0 {
		return nil
	}
	for i := range n {
		if p.posted++; p.posted == sendEvery {
			p.posted = 0
			p.wr[i].Flags |= verbs.SendSignaled
		}
	}
	done, err := p.c.qp.PostSend(p.wr[:n])
	if err != nil {
		return fmt.Errorf("initiator/iser: %w", err)
	}
	p.used += done
	rest := copy(p.wr, p.wr[done:])
	p.wr = p.wr[:rest]
	return nil
}

package initiator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// IO is one SCSI command of a [Pipeline]. The slots live as long as the
// pipeline; a Workload fills one in Next and looks at it in Done.
type IO struct {
	Slot int // 0 to depth-1, fixed

	// Filled by Workload.Next.
	LUN    pdu.LUN
	CDB    [16]byte
	Write  bool
	Length int // ExpectedDataTransferLength in bytes
	// Data is the payload of a write, or where a read's data goes; Length
	// bytes, borrowed until Done. A read with nil Data drops what comes.
	Data []byte
	User uint64 // the workload's own

	// Filled before Workload.Done.
	Issued   time.Duration // since the pipeline's start: when the batch was sent
	Response pdu.Response
	Status   uint8
	Sense    []byte // borrowed until Done returns
	Received int    // bytes of Data-In

	tag    uint32
	dataSN uint32
}

// Err is as Result.Err, and tells of GOOD reads that came short.
func (io *IO) Err() error {
	if io.Response != pdu.ResponseCompleted || io.Status != 0 {
		return &StatusError{Response: io.Response, Status: io.Status, Sense: append([]byte(nil), io.Sense...)}
	}
	if !io.Write && io.Received != io.Length {
		return fmt.Errorf("initiator: read of %d bytes gave %d", io.Length, io.Received)
	}
	return nil
}

// Workload says what a Pipeline does. Both methods run on the pipeline's
// goroutine and must not block.
type Workload interface {
	// Next fills io with the next command. False means that there is none now;
	// it is asked again after each batch of completions.
	Next(io *IO) bool
	// Done takes a finished command; now is the time since the pipeline's start
	// at which its batch was received. An error ends the run.
	Done(io *IO, now time.Duration) error
}

// PipelineConfig shapes a Pipeline.
type PipelineConfig struct {
	Depth int // commands in flight at most; default 32
	// Poll is for how long the pipeline keeps asking the socket before it goes
	// to sleep. It costs the generator's CPU and takes its wake-up out of the
	// latency.
	Poll time.Duration
	// Origin is the zero of IO.Issued and Done's now; default: Run's start.
	Origin time.Time
}

// Pipeline keeps commands in flight on one connection, from one goroutine:
// each turn sends all that depth and command window allow with one writev and
// takes all that has arrived with one recv. It allocates nothing per command.
type Pipeline struct {
	c   *Conn
	raw syscall.RawConn
	r   LoginResult
	cfg PipelineConfig

	slots []IO
	free  []int // slots not in flight
	tx    txQueue
	rx    rxStream

	cmdSN, maxCmdSN, expStatSN uint32

	sock socket
}

const slotBits = 12 // ITT: slot in the low bits, a generation above

// NewPipeline returns a pipeline over a logged-in connection, which it takes:
// the TCP connection and the login that [Negotiate] came to.
func NewPipeline(c *Conn, r *LoginResult, cfg PipelineConfig) (*Pipeline, error) {
	sc, ok := c.nc.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("initiator: a pipeline needs a socket, not %T", c.nc)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("initiator: %w", err)
	}
	if cfg.Depth == 0 {
		cfg.Depth = 32
	}
	if cfg.Depth < 1 || cfg.Depth >= 1<<slotBits {
		return nil, fmt.Errorf("initiator: pipeline depth %d, want 1 to %d", cfg.Depth, 1<<slotBits-1)
	}
	p := &Pipeline{
		c: c, raw: raw, r: *r, cfg: cfg,
		slots: make([]IO, cfg.Depth), free: make([]int, 0, cfg.Depth),
		cmdSN: r.CmdSN, maxCmdSN: r.MaxCmdSN, expStatSN: r.ExpStatSN,
	}
	p.tx = txQueue{arena: make([]byte, 0, arenaSize), headerDigest: c.headerDigest, dataDigest: c.dataDigest}
	p.rx = newRxStream(c.headerDigest, c.dataDigest, c.maxRecv)
	for i := range p.slots {
		p.slots[i].Slot, p.slots[i].tag = i, uint32(i)
		p.free = append(p.free, cfg.Depth-1-i)
	}
	if n := c.br.Buffered(); n > 0 { // the login phase may have read ahead
		b, _ := c.br.Peek(n)
		p.rx.preload(b)
		_, _ = c.br.Discard(n)
	}
	p.sock.init(p)
	return p, nil
}

// InFlight returns how many commands are in flight.
func (p *Pipeline) InFlight() int { return len(p.slots) - len(p.free) }

// Memory returns n bytes for the data of commands. Any memory will do over TCP.
func (p *Pipeline) Memory(n int) ([]byte, error) { return make([]byte, n), nil }

// Params returns what was negotiated.
func (p *Pipeline) Params() login.Params { return p.r.Params }

// Close drops the connection.
func (p *Pipeline) Close() error { return p.c.Close() }

// Run drives w until it has no more commands and none is in flight, or until
// ctx ends or something breaks; then the connection is of no more use.
func (p *Pipeline) Run(ctx context.Context, w Workload) error {
	if p.cfg.Origin.IsZero() {
		p.cfg.Origin = time.Now()
	}
	if nc, ok := p.c.nc.(*net.TCPConn); ok {
		_ = nc.SetNoDelay(true)
	}
	return p.c.interruptible(ctx, func() error {
		for {
			p.fill(w)
			if p.InFlight() == 0 && p.tx.empty() {
				return nil
			}
			if err := p.turn(w); err != nil {
				return err
			}
		}
	})
}

// turn sends what is queued, waits for something to happen and completes what
// has come.
func (p *Pipeline) turn(w Workload) error {
	if err := p.sock.exchange(); err != nil {
		return err
	}
	now := time.Since(p.cfg.Origin)
	for {
		pd, err := p.rx.next(p)
		if err != nil || pd == nil {
			return err
		}
		if err := p.handle(pd, w, now); err != nil {
			return err
		}
	}
}

// fill queues all commands that depth, window and workload give.
func (p *Pipeline) fill(w Workload) {
	var now time.Duration
	for len(p.free) > 0 && !pdu.SNLess(p.maxCmdSN, p.cmdSN) {
		io := &p.slots[p.free[len(p.free)-1]]
		if !w.Next(io) {
			return
		}
		if now == 0 {
			now = time.Since(p.cfg.Origin)
		}
		p.free = p.free[:len(p.free)-1]
		p.issue(io, now)
	}
}

// issue queues one command with its immediate and unsolicited data.
func (p *Pipeline) issue(io *IO, now time.Duration) {
	io.tag += 1 << slotBits
	if io.tag>>slotBits == 0xffffffff>>slotBits { // stay clear of the reserved tag
		io.tag = uint32(io.Slot)
	}
	io.Issued, io.Received, io.dataSN, io.Sense = now, 0, 0, nil
	io.Response, io.Status = pdu.ResponseCompleted, 0
	immediate, unsolicited := 0, 0
	if io.Write {
		first := min(io.Length, p.r.Params.FirstBurstLength)
		if p.r.Params.ImmediateData {
			immediate = min(first, p.r.Params.MaxRecvDataSegmentLength)
		}
		if !p.r.Params.InitialR2T {
			unsolicited = first - immediate
		}
	}
	c := pdu.SCSICommand{
		Final: unsolicited == 0, Read: !io.Write && io.Length > 0, Write: io.Write, Attr: pdu.AttrSimple,
		LUN: io.LUN, InitiatorTaskTag: io.tag, ExpectedDataTransferLength: uint32(io.Length),
		CmdSN: p.cmdSN, ExpStatSN: p.expStatSN, CDB: io.CDB, DataLen: immediate,
	}
	p.cmdSN++
	var h pdu.BHS
	c.Encode(&h)
	p.tx.add(&h, io.Data[:immediate])
	if unsolicited > 0 {
		p.dataOut(io, dataSequence{lun: io.LUN, ttt: pdu.ReservedTag, offset: uint32(immediate)}, unsolicited)
	}
}

// dataOut queues n bytes as a sequence of Data-Out PDUs, §11.7.
func (p *Pipeline) dataOut(io *IO, q dataSequence, n int) {
	var h pdu.BHS
	for dataSN := uint32(0); n > 0; dataSN++ {
		l := min(n, p.r.Params.MaxRecvDataSegmentLength)
		out := pdu.DataOut{
			Final: l == n, LUN: q.lun, InitiatorTaskTag: io.tag, TargetTransferTag: q.ttt,
			ExpStatSN: p.expStatSN, DataSN: dataSN, BufferOffset: q.offset, DataLen: l,
		}
		out.Encode(&h)
		p.tx.add(&h, io.Data[q.offset:][:l])
		q.offset += uint32(l)
		n -= l
	}
}

// slotOf returns the command in flight that tag names.
func (p *Pipeline) slotOf(tag uint32) *IO {
	i := int(tag & (1<<slotBits - 1))
	if i >= len(p.slots) || p.slots[i].tag != tag {
		return nil
	}
	return &p.slots[i]
}

// handle does what one received PDU calls for.
func (p *Pipeline) handle(r *rxPDU, w Workload, now time.Duration) error {
	h := &r.h
	if m := h.MaxCmdSN(); pdu.SNLess(p.maxCmdSN, m) {
		p.maxCmdSN = m
	}
	switch op := h.Opcode(); op {
	case pdu.OpDataIn:
		if r.io == nil || r.dataIn.Status != 0 && !r.dataIn.HasStatus {
			return violation("bad Data-In")
		}
		if !r.dataIn.HasStatus {
			return nil
		}
		r.io.Status = r.dataIn.Status
		return p.complete(r.io, w, now)
	case pdu.OpSCSIResponse:
		var resp pdu.SCSIResponse
		io := p.slotOf(h.InitiatorTaskTag())
		if err := resp.Decode(h); err != nil || io == nil {
			return violation("bad SCSI Response")
		}
		io.Response, io.Status = resp.Response, resp.Status
		if len(r.data) > 2 {
			io.Sense = r.data[2:]
		}
		return p.complete(io, w, now)
	case pdu.OpR2T:
		return p.r2t(h)
	case pdu.OpNOPIn:
		p.pong(h, r.data)
		return nil
	case pdu.OpAsyncMessage:
		p.expStatSN = h.StatSN() + 1
		return nil
	case pdu.OpReject:
		var rej pdu.Reject
		if err := rej.Decode(h); err != nil || len(r.data) < pdu.BHSLen {
			return violation("bad Reject")
		}
		return &RejectError{Reason: rej.Reason, Header: pdu.BHS(r.data[:pdu.BHSLen])}
	default:
		return violation("unexpected %v", op)
	}
}

var errNotInFlight = errors.New("initiator: status for a command that is not in flight")

// complete ends a command.
func (p *Pipeline) complete(io *IO, w Workload, now time.Duration) error {
	if len(p.free) == len(p.slots) {
		return errNotInFlight
	}
	p.expStatSN++
	err := w.Done(io, now)
	io.tag += 1 << slotBits // what still comes for it is wrong
	p.free = append(p.free, io.Slot)
	return err
}

func (p *Pipeline) r2t(h *pdu.BHS) error {
	var r pdu.R2T
	if err := r.Decode(h); err != nil {
		return err
	}
	io := p.slotOf(r.InitiatorTaskTag)
	if io == nil || !io.Write || r.DesiredDataTransferLength == 0 ||
		int64(r.BufferOffset)+int64(r.DesiredDataTransferLength) > int64(io.Length) {
		return violation("bad R2T")
	}
	q := dataSequence{lun: r.LUN, ttt: r.TargetTransferTag, offset: r.BufferOffset}
	p.dataOut(io, q, int(r.DesiredDataTransferLength))
	return nil
}

// pong answers a target's ping, §11.19.
func (p *Pipeline) pong(in *pdu.BHS, data []byte) {
	if in.TargetTransferTag() == pdu.ReservedTag {
		return
	}
	out := pdu.NOPOut{
		Immediate: true, LUN: in.LUN(), InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: in.TargetTransferTag(),
		CmdSN: p.cmdSN, ExpStatSN: p.expStatSN, DataLen: len(data),
	}
	var h pdu.BHS
	out.Encode(&h)
	p.tx.add(&h, append([]byte(nil), data...))
}

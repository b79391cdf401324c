package iser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// Keys are the login keys of RFC 7145 §6 that an initiator offers in a normal
// session, for initiator.Options.Extra.
func Keys() []text.Pair {
	return []text.Pair{
		{Key: "RDMAExtensions", Value: "Yes"},
		{Key: "InitiatorRecvDataSegmentLength", Value: "262144"},
		{Key: "TargetRecvDataSegmentLength", Value: "8192"},
	}
}

// Dial returns a connection to a target over iSER on which package initiator works
// as over TCP, with Keys among the options. No digests may be offered.
func Dial(ctx context.Context, prov verbs.Provider, addr netip.AddrPort, o Options) (*initiator.Conn, error) {
	c, err := Open(ctx, prov, addr, o)
	if err != nil {
		return nil, err
	}
	return c.stream(&o)
}

// stream makes c, which it takes, carry PDUs as over TCP.
func (c *Conn) stream(o *Options) (*initiator.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	s := &stream{
		c: c, app: ours, tasks: make(map[uint32]*task), burst: 262144,
		window: o.Invalidate && c.Device().Caps().Windows,
	}
	go s.read()
	go s.run()
	return initiator.NewConn(theirs), nil
}

// socketPair returns two connected sockets within this process.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("initiator/iser: %w", os.NewSyscallError("socketpair", err))
	}
	var out [2]net.Conn
	for i, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
		f := os.NewFile(uintptr(fd), "iser")
		out[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("initiator/iser: %w", err)
		}
	}
	return out[0], out[1], nil
}

// stream translates between PDUs as over TCP, on a socket, and iSER messages.
type stream struct {
	c   *Conn
	app net.Conn

	mu     sync.Mutex // guards what follows
	in     []*initiator.PDU
	inErr  error
	closed bool

	// Of run.
	tasks  map[uint32]*task
	burst  int // MaxBurstLength
	out    []byte
	last   pdu.BHS // the last PDU of the target, for its numbers
	window bool

	discovery bool
}

// task is a SCSI command.
type task struct {
	bhs     pdu.BHS
	ahs     []byte
	data    []byte // immediate
	edtl    int
	read    bool
	buf     *bufpool.Buf
	stag    uint32
	win     verbs.Window
	outs    []*initiator.PDU // unsolicited Data-Out
	unsol   int
	got     int // of a write's data
	r2tsn   uint32
	waiting bool // for unsolicited Data-Out
	sent    bool
}

// read takes PDUs from the socket.
func (s *stream) read() {
	ic := initiator.NewConn(s.app)
	ic.SetMaxRecv(1 << 24)
	for {
		p, err := ic.ReadPDU()
		s.mu.Lock()
		if err != nil {
			s.inErr = err
		} else {
			s.in = append(s.in, p)
		}
		if !s.closed {
			s.c.Wake()
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// run owns the completion queue.
func (s *stream) run() {
	for {
		s.mu.Lock()
		in, inErr := s.in, s.inErr
		s.in = nil
		s.mu.Unlock()
		var err error
		for _, p := range in {
			if err == nil {
				err = s.toTarget(p)
			}
		}
		if err == nil {
			err = s.flush()
		}
		if err == nil && len(in) == 0 && inErr != nil {
			err = io.EOF
		}
		if err == nil {
			err = s.c.Poll(-1, true, s.fromTarget)
		}
		if ferr := s.flush(); err == nil {
			err = ferr
		}
		if err != nil {
			break
		}
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.app.Close()
	for _, t := range s.tasks {
		s.end(t)
	}
	_ = s.c.Close()
}

func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.app.Write(s.out)
	s.out = s.out[:0]
	return err
}

// put queues a PDU for the application.
func (s *stream) put(h *pdu.BHS, data []byte) {
	s.out = append(s.out, h[:]...)
	s.out = append(s.out, data...)
	s.out = append(s.out, make([]byte, pdu.Pad(len(data)))...)
}

// toTarget sends a PDU of the application.
func (s *stream) toTarget(p *initiator.PDU) error {
	switch p.BHS.Opcode() {
	case pdu.OpSCSICommand:
		return s.command(p)
	case pdu.OpDataOut:
		return s.dataOut(p)
	case pdu.OpLoginRequest:
		return s.login(p)
	default:
	}
	return s.c.SendPDU(&iser.Header{}, &p.BHS, p.AHS, p.Data)
}

// login sends a Login Request.
func (s *stream) login(p *initiator.PDU) error {
	s.discovery = s.discovery || strings.Contains(string(p.Data), "SessionType=Discovery") // told in the first request
	n, size := 160, Recv
	if s.discovery {
		n, size = 2, LoginRecv+1 // posted again, unlike those of the login
	}
	return s.c.sendLogin(p, n, size)
}

// sendLogin sends a Login Request after posting the receives that the answer and
// what follows it need: n of size bytes for the full feature phase.
func (c *Conn) sendLogin(p *initiator.PDU, n, size int) error {
	var r pdu.LoginRequest
	if err := r.Decode(&p.BHS); err == nil {
		if c.posted == 0 {
			if err := c.PostRecvs(1, LoginRecv); err != nil {
				return err
			}
		}
		if r.NSG == pdu.FullFeaturePhase && r.Transit {
			if err := c.PostRecvs(n, size); err != nil {
				return err
			}
		}
	}
	return c.SendPDU(&iser.Header{}, &p.BHS, p.AHS, p.Data)
}

var errTag = errors.New("initiator/iser: InitiatorTaskTag is in use")

func (s *stream) command(p *initiator.PDU) error {
	var cmd pdu.SCSICommand
	if err := cmd.Decode(&p.BHS); err != nil {
		return s.c.SendPDU(&iser.Header{}, &p.BHS, p.AHS, p.Data)
	}
	t := &task{bhs: p.BHS, ahs: p.AHS, data: p.Data, edtl: int(cmd.ExpectedDataTransferLength), read: cmd.Read}
	if t.edtl == 0 || t.edtl > bufpool.MaxSize || !cmd.Read && !cmd.Write {
		return s.c.SendPDU(&iser.Header{}, &p.BHS, p.AHS, p.Data)
	}
	if s.tasks[cmd.InitiatorTaskTag] != nil {
		return errTag
	}
	var err error
	if t.buf, t.stag, err = s.c.Alloc(t.edtl); err != nil {
		return err
	}
	s.tasks[cmd.InitiatorTaskTag] = t
	if cmd.Write {
		t.got = copy(t.buf.B, p.Data)
		t.unsol = t.got
		t.waiting = !cmd.Final
		return s.advance(t)
	}
	clear(t.buf.B)
	return s.send(t)
}

// dataOut takes a piece of a write's data.
func (s *stream) dataOut(p *initiator.PDU) error {
	var d pdu.DataOut
	t := s.tasks[p.BHS.InitiatorTaskTag()]
	if err := d.Decode(&p.BHS); err != nil || t == nil || t.sent || int(d.BufferOffset)+len(p.Data) > t.edtl {
		return s.c.SendPDU(&iser.Header{}, &p.BHS, p.AHS, p.Data)
	}
	t.got += copy(t.buf.B[d.BufferOffset:], p.Data)
	if d.TargetTransferTag == pdu.ReservedTag {
		t.outs = append(t.outs, p)
		t.unsol += len(p.Data)
		t.waiting = !d.Final
		return s.advance(t)
	}
	if d.Final {
		return s.advance(t)
	}
	return nil
}

// advance asks for the next piece of a write's data, or sends the command when all
// is here.
func (s *stream) advance(t *task) error {
	if t.waiting {
		return nil
	}
	if t.got >= t.edtl {
		return s.send(t)
	}
	n := min(t.edtl-t.got, s.burst)
	r := pdu.R2T{
		LUN: t.bhs.LUN(), InitiatorTaskTag: t.bhs.InitiatorTaskTag(), TargetTransferTag: 1, StatSN: s.last.StatSN(),
		R2TSN: t.r2tsn, BufferOffset: uint32(t.got), DesiredDataTransferLength: uint32(n),
	}
	t.r2tsn++
	var h pdu.BHS
	r.Encode(&h)
	h.SetExpCmdSN(s.last.ExpCmdSN())
	h.SetMaxCmdSN(s.last.MaxCmdSN())
	s.put(&h, nil)
	return nil
}

// send sends the command with its buffer's name, and the unsolicited data.
func (s *stream) send(t *task) error {
	t.sent = true
	ih := iser.Header{}
	base, stag := verbs.Addr(t.buf.B), t.stag
	if s.window && (t.read || t.unsol < t.edtl) {
		acc := verbs.AccessRemoteRead
		if t.read {
			acc = verbs.AccessRemoteWrite
		}
		var err error
		if t.win, err = s.c.Device().NewWindow(); err != nil {
			return err
		}
		if stag, err = s.c.qp.Bind(t.win, s.c.MR(t.buf), t.buf.B, acc, nothing, verbs.SendSignaled); err != nil {
			return err
		}
		t.stag = stag
	}
	switch {
	case t.read:
		ih = iser.Header{RSV: true, ReadSTag: stag, ReadBase: base}
	case t.unsol < t.edtl:
		ih = iser.Header{WSV: true, WriteSTag: stag, WriteBase: base + uint64(t.unsol)}
	}
	if err := s.c.SendPDU(&ih, &t.bhs, t.ahs, t.data); err != nil {
		return err
	}
	for _, p := range t.outs {
		if err := s.c.SendPDU(&iser.Header{}, &p.BHS, nil, p.Data); err != nil {
			return err
		}
	}
	t.outs, t.data = nil, nil
	return nil
}

// Errors of a target.
var (
	errMessage    = errors.New("initiator/iser: target sends a malformed message")
	errInvalidate = errors.New("initiator/iser: target invalidates what it must not")
)

// fromTarget takes a message of the target.
func (s *stream) fromTarget(m Message) error {
	var msg iser.Message
	if err := msg.Decode(m.Data); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	if msg.Header != (iser.Header{}) {
		return fmt.Errorf("%w: with steering tags", errMessage)
	}
	h := msg.BHS
	if h.Opcode() != pdu.OpSCSIResponse {
		if m.Invalidated {
			return errInvalidate
		}
		if h.Opcode() == pdu.OpLoginResponse {
			s.limits(msg.Data)
		}
		s.last = *h
		s.put(h, msg.Data)
		return nil
	}
	return s.response(&msg, m)
}

// limits notes what the target has agreed to.
func (s *stream) limits(data []byte) {
	pairs, err := text.Parse(data)
	if err != nil {
		return
	}
	for _, p := range pairs {
		if n, err := strconv.Atoi(p.Value); err == nil && p.Key == "MaxBurstLength" {
			s.burst = n
		}
	}
}

// response ends a task: what was written to its buffer becomes Data-In PDUs.
func (s *stream) response(msg *iser.Message, m Message) error {
	h := msg.BHS
	var r pdu.SCSIResponse
	if err := r.Decode(h); err != nil {
		return err
	}
	t := s.tasks[r.InitiatorTaskTag]
	if m.Invalidated && (t == nil || t.win == nil || m.InvKey != 0 && m.InvKey != t.stag) {
		return errInvalidate
	}
	if t != nil {
		if t.read && r.Status == 0 {
			n := t.edtl
			if r.Underflow {
				n -= int(r.ResidualCount)
			}
			s.dataIn(h, t.buf.B[:max(n, 0)])
		}
		delete(s.tasks, r.InitiatorTaskTag)
		s.end(t) // which ends the access, if the target has not
	}
	s.last = *h
	s.put(h, msg.Data)
	return nil
}

func (s *stream) dataIn(resp *pdu.BHS, data []byte) {
	const segment = 8192
	for off, sn := 0, uint32(0); off < len(data); sn++ {
		n := min(segment, len(data)-off)
		d := pdu.DataIn{
			Final: off+n == len(data), LUN: resp.LUN(), InitiatorTaskTag: resp.InitiatorTaskTag(),
			TargetTransferTag: pdu.ReservedTag, DataSN: sn, BufferOffset: uint32(off), DataLen: n,
		}
		var h pdu.BHS
		d.Encode(&h)
		h.SetExpCmdSN(resp.ExpCmdSN())
		h.SetMaxCmdSN(resp.MaxCmdSN())
		s.put(&h, data[off:off+n])
		off += n
	}
}

func (s *stream) end(t *task) {
	if t.buf != nil {
		t.buf.Release()
		t.buf = nil
	}
	if t.win != nil {
		_ = t.win.Close()
	}
}

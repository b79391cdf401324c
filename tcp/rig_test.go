package tcp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
	"github.com/iserd/iserd/tcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	blk      = 512
	unitSize = 8 << 20
	patience = 10 * time.Second
)

// memory is a mapped backend, which runs everything inline.
type memory struct{ mem []byte }

func (s *memory) As(target any) bool {
	m, ok := target.(*luns.Mapper)
	if ok {
		*m = s
	}
	return ok
}

func (s *memory) Info() luns.Info             { return luns.Info{Size: unitSize, BlockSize: 1} }
func (s *memory) Close() error                { return nil }
func (s *memory) Memory() []byte              { return s.mem }
func (s *memory) Flush(context.Context) error { return nil }
func (s *memory) ReadAt(_ context.Context, p []byte, off int64) error {
	copy(p, s.mem[off:])
	return nil
}

func (s *memory) WriteAt(_ context.Context, p []byte, off int64, _ luns.Flags) error {
	copy(s.mem[off:], p)
	return nil
}

// disk is one logical unit for any number of connections.
type disk struct {
	*memory
	port *scsi.Port
	unit *scsi.Unit
}

func newDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{memory: &memory{mem: make([]byte, unitSize)}, port: scsi.NewPort()}
	u, err := scsi.NewUnit(scsi.Config{Serial: "1"}, d)
	if err != nil {
		t.Fatal(err)
	}
	d.unit = u
	d.port.Publish(u)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.port.Revoke(ctx); err != nil {
			t.Errorf("a range lock is left: %v", err)
		}
		u.Close()
	})
	return d
}

// rig is the target's side of a connection: the datamover and the iSCSI layer,
// in a context that is a mutex here.
type rig struct {
	t      testing.TB
	mu     sync.Mutex // the context
	conn   *tcp.Conn
	engine *iscsi.Conn
	seen   iscsi.Traffic
	pool   *bufpool.Pool
	rx     *bufpool.Pool
	limits login.Limits
	disk   *disk
	gone   bool
	group  sync.WaitGroup
	served chan error
	ours   tcp.Socket
	peer   tcp.Socket
}

func newRig(t testing.TB, d *disk, adjust func(*login.Limits)) *rig {
	t.Helper()
	ours, theirs, err := tcp.Pair()
	if err != nil {
		t.Fatal(err)
	}
	return newRigOver(t, d, ours, theirs, adjust)
}

func newRigOver(t testing.TB, d *disk, ours, theirs tcp.Socket, adjust func(*login.Limits)) *rig {
	t.Helper()
	r := &rig{t: t, disk: d, limits: login.DefaultLimits(), pool: bufpool.New(64 << 20), rx: bufpool.New(64 << 20), ours: ours, peer: theirs, served: make(chan error, 1)}
	if adjust != nil {
		adjust(&r.limits)
	}
	var err error
	if r.conn, err = tcp.NewConn(ours, tcp.Config{Receive: r.rx, MaxLoginData: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	r.engine = iscsi.NewConn(iscsi.Options{Datamover: r.conn, Env: r, Pool: r.pool, Login: login.NewMachine(r, login.Env{}), Traffic: &r.seen})
	r.conn.Bind(r.engine)
	t.Cleanup(func() {
		r.close()
		if r.pool.InUse() != 0 || r.rx.InUse() != 0 {
			t.Errorf("buffers in use at the end: %d and %d bytes", r.pool.InUse(), r.rx.InUse())
		}
	})
	return r
}

// serve runs the connection on goroutines, as the node does.
func (r *rig) serve() {
	run := func(turn *tcp.Turn) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.gone {
			return false
		}
		r.conn.Turn(turn)
		return true
	}
	r.group.Go(func() { r.served <- r.conn.Serve(run, func(f func()) { r.group.Go(f) }) })
}

// end stops the context, as the actor does.
func (r *rig) end() {
	r.mu.Lock()
	if !r.gone {
		r.conn.Close()
		r.engine.Close()
		r.gone = true
	}
	r.mu.Unlock()
	r.group.Wait()
}

// close ends the connection and its sockets.
func (r *rig) close() {
	r.end()
	r.ours.Close()
	r.peer.Close()
}

// loopback returns both ends of a TCP connection.
func loopback(t testing.TB) (ours, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return b.(*net.TCPConn), a.(*net.TCPConn)
}

// ended waits until Serve returns.
func (r *rig) ended() error {
	r.t.Helper()
	select {
	case err := <-r.served:
		return err
	case <-time.After(patience):
		r.t.Fatal("the connection is still served")
		return nil
	}
}

func (r *rig) Authorize(login.Identity) (*login.Grant, error) {
	return &login.Grant{Limits: r.limits, PortalGroupTag: 1}, nil
}

func (r *rig) LoginFailed(*login.Refusal) {}

func (r *rig) Admit(res login.Result) {
	s := iscsi.NewSession(64)
	s.TSIH, s.Identity, s.Nexus = 1, res.Identity, &scsi.ITNexus{InitiatorName: res.Identity.InitiatorName}
	s.Remap(func(uint16) *scsi.Port { return r.disk.port }, 0, func(n *scsi.Nexus, _ uint16) {})
	if err := r.engine.Admitted(s); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) SendTargets(*iscsi.Session, string) []iscsi.TargetRecord { return nil }
func (r *rig) Manage(m *iscsi.Management)                              { r.engine.Managed(m, pdu.FunctionRejected) }
func (r *rig) Limit(*iscsi.Management)                                 {}
func (r *rig) LoggedOut(pdu.LogoutReason)                              {}

func (r *rig) Wake() {
	r.group.Go(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.gone {
			r.engine.Completed()
			r.conn.Flush()
		}
	})
}

// turns runs the connection without goroutines until its socket is empty; the
// error is that of the turn that ended it.
func (r *rig) turns() error {
	t := &tcp.Turn{}
	for {
		r.conn.Turn(t)
		switch {
		case t.Err != nil:
			return t.Err
		case t.Parked(), t.Paused():
			return nil
		}
	}
}

// stream is the initiator's side as bytes: PDUs are collected in out.
type stream struct {
	out                    []byte
	headerDigest, dataDgst bool
	cmdSN, tag             uint32
	edges                  []int // where PDUs begin
}

type message interface{ Encode(h *pdu.BHS) }

func (s *stream) pdu(m message, ahs, data []byte) {
	var h pdu.BHS
	m.Encode(&h)
	h.SetTotalAHSLength(len(ahs))
	h.SetDataSegmentLength(len(data))
	f := initiator.Frame{BHS: h, AHS: ahs, Data: data, Padding: make([]byte, pdu.Pad(len(data)))}
	if s.headerDigest {
		f.HeaderDigest = make([]byte, 4)
	}
	if s.dataDgst && len(data) > 0 {
		f.DataDigest = make([]byte, 4)
	}
	f.Seal()
	s.edges = append(s.edges, len(s.out))
	s.out = f.Append(s.out)
}

// login appends a Login Request with everything in it. What follows has the
// digests.
func (s *stream) login(keys ...string) {
	var data []byte
	data = text.Append(data, "InitiatorName", "iqn.2026-11.com.example:i")
	data = text.Append(data, "TargetName", "iqn.2026-11.com.example:t")
	for _, kv := range keys {
		data = append(append(data, kv...), 0)
		switch kv {
		case "HeaderDigest=CRC32C":
			defer func() { s.headerDigest = true }()
		case "DataDigest=CRC32C":
			defer func() { s.dataDgst = true }()
		}
	}
	s.pdu(&pdu.LoginRequest{
		Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase, InitiatorTaskTag: 1, CmdSN: 1,
	}, nil, data)
	s.cmdSN, s.tag = 1, 10
}

func (s *stream) command(p pdu.SCSICommand, cdb, ahs, data []byte) uint32 {
	s.tag++
	p.InitiatorTaskTag, p.CmdSN, p.Attr = s.tag, s.cmdSN, pdu.AttrSimple
	s.cmdSN++
	copy(p.CDB[:], cdb)
	s.pdu(&p, ahs, data)
	return s.tag
}

func (s *stream) tur() { s.command(pdu.SCSICommand{Final: true}, make([]byte, 6), nil, nil) }

func (s *stream) take() []byte {
	b := s.out
	s.out = nil
	return b
}

// drain reads what the target has sent so far, without waiting.
func (r *rig) drain() []byte {
	raw, err := r.peer.SyscallConn()
	if err != nil {
		r.t.Fatal(err)
	}
	var all []byte
	buf := make([]byte, 256<<10)
	err = raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if n <= 0 || err != nil {
				return
			}
			all = append(all, buf[:n]...)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// send writes to the target and has it taken in.
func (r *rig) send(b []byte) error {
	r.t.Helper()
	for len(b) > 0 {
		n := min(len(b), 64<<10)
		if _, err := r.peer.Write(b[:n]); err != nil {
			r.t.Fatal(err)
		}
		if err := r.turns(); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// parse cuts what the target has sent into PDUs, with digests from the full
// feature phase on.
func parse(t testing.TB, b []byte, s *stream, loggedIn bool) []*initiator.PDU {
	t.Helper()
	a, z := net.Pipe()
	defer z.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = a.Write(b)
		a.Close()
	}()
	c := initiator.NewConn(z)
	c.SetMaxRecv(16 << 20)
	if loggedIn {
		c.SetDigests(s.headerDigest, s.dataDgst)
	}
	var out []*initiator.PDU
	for {
		p, err := c.ReadPDU()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
		if p.BHS.Opcode() == pdu.OpLoginResponse {
			c.SetDigests(s.headerDigest, s.dataDgst)
		}
	}
	<-done
	return out
}

func write10(lba, blocks int) []byte {
	return []byte{0x2a, 0, 0, 0, byte(lba >> 8), byte(lba), 0, byte(blocks >> 8), byte(blocks), 0}
}

func read10(lba, blocks int) []byte {
	c := write10(lba, blocks)
	c[0] = 0x28
	return c
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*7 + byte(i>>8) + byte(i>>16)*3 + seed
	}
	return b
}

// connect logs an initiator's session in over the rig's served connection.
func (r *rig) connect(adjust func(*initiator.Options)) *initiator.Session {
	r.t.Helper()
	r.serve()
	o := initiator.Options{TargetName: "iqn.2026-11.com.example:t"}
	if adjust != nil {
		adjust(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := initiator.Login(ctx, initiator.NewConn(r.peer), o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	if _, err := s.Exec(ctx, 0, make([]byte, 6), nil, 0); err != nil { // the unit attention
		r.t.Fatal(err)
	}
	return s
}

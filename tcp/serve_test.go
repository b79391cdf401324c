package tcp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/tcp"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestSlowReader: a peer that asks for much and reads nothing costs a bounded
// amount of memory, keeps no range locked, and in the end gets everything as it
// was when its command ran.
func TestSlowReader(t *testing.T) {
	for name, pair := range map[string]func(t *testing.T) (a, b tcp.Socket){
		"socket pair": func(t *testing.T) (a, b tcp.Socket) {
			a, b, err := tcp.Pair()
			if err != nil {
				t.Fatal(err)
			}
			return a, b
		},
		"TCP": func(t *testing.T) (a, b tcp.Socket) { return loopback(t) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t)
			old := pattern(1<<20, 1)
			copy(d.mem, old)
			a, b := pair(t)
			slow := newRigOver(t, d, a, b, nil)
			slow.serve()
			s := &stream{}
			s.login("MaxRecvDataSegmentLength=65536")
			s.tur()
			const reads = 60 // of 1 MiB: far more than sockets hold
			for range reads {
				s.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 1 << 20}, read10(0, 2048), nil, nil)
			}
			if _, err := b.Write(s.out); err != nil {
				t.Fatal(err)
			}
			quick := newRig(t, d, nil).connect(nil)
			deadline := time.Now().Add(patience)
			for stuck := false; !stuck; time.Sleep(time.Millisecond) {
				slow.mu.Lock()
				stuck = slow.conn.Unsent() > 0 && slow.conn.Sending() > 0
				slow.mu.Unlock()
				if time.Now().After(deadline) {
					t.Fatal("the socket never gets full")
				}
			}
			// A write to the blocks that the slow one reads: nobody waits.
			fresh := pattern(1<<20, 2)
			begin := time.Now()
			if r, err := quick.Exec(testContext(t), 0, write10(0, 2048), fresh, 0); err != nil || r.Err() != nil {
				t.Fatalf("write to blocks that a slow reader has asked for: %v %+v", err, r)
			}
			if d := time.Since(begin); d > 3*time.Second {
				t.Errorf("a slow reader delays others by %v", d)
			}
			slow.mu.Lock()
			if used := slow.pool.InUse() + slow.rx.InUse(); used > 4<<20 || slow.conn.Unsent() > 4<<20 {
				t.Errorf("%d bytes of buffers, %d unsent", used, slow.conn.Unsent())
			}
			slow.mu.Unlock()
			checkSlow(t, b, reads, old, fresh)
		})
	}
}

// checkSlow reads what a slow reader has asked for: whole answers, each all old
// or all new, and no old one after a new one.
func checkSlow(t *testing.T, b net.Conn, reads int, old, fresh []byte) {
	t.Helper()
	c := initiator.NewConn(b)
	_ = c.SetDeadline(time.Now().Add(patience))
	isNew := false
	var data []byte
	for done := 0; done < reads; {
		p, err := c.ReadPDU()
		if err != nil {
			t.Fatal(err)
		}
		if p.BHS.Opcode() != pdu.OpDataIn {
			continue
		}
		data = append(data, p.Data...)
		if p.BHS[1]&1 == 0 {
			continue
		}
		switch {
		case bytes.Equal(data, fresh):
			isNew = true
		case !bytes.Equal(data, old) || isNew:
			t.Fatalf("READ %d: mixed or stale data (%d bytes)", done, len(data))
		}
		data = data[:0]
		done++
	}
	if !isNew {
		t.Error("the reads were all executed before anything was sent")
	}
}

// TestHalfClose: what was commanded before the FIN is answered, then the
// connection ends.
func TestHalfClose(t *testing.T) {
	r := newRig(t, newDisk(t), nil)
	r.serve()
	s := &stream{}
	s.login()
	for range 20 {
		s.tur()
	}
	if _, err := r.peer.Write(s.take()); err != nil {
		t.Fatal(err)
	}
	if err := r.peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r.peer)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(parse(t, all, s, false)); n != 21 {
		t.Errorf("%d answers", n)
	}
	if err := r.ended(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestCutAnywhere ends the connection by FIN or RST at random points of a
// stream, while data flows both ways: no buffer, lock or goroutine is left.
func TestCutAnywhere(t *testing.T) {
	d := newDisk(t)
	s := golden(digests[3])
	for range 30 {
		s.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 1 << 20}, read10(0, 2048), nil, nil)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	n := 300
	if testing.Short() {
		n = 50
	}
	for i := range n {
		ours, theirs := loopback(t)
		r := newRigOver(t, d, ours, theirs, nil)
		r.serve()
		if _, err := theirs.Write(s.out[:rng.IntN(len(s.out))]); err != nil {
			t.Fatal(err)
		}
		if rng.IntN(2) == 0 { // read a part of the answers
			_ = theirs.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, _ = io.CopyN(io.Discard, theirs, rng.Int64N(1<<20))
		}
		if i%2 == 0 {
			_ = theirs.SetLinger(0)
		}
		theirs.Close()
		r.mu.Lock()
		r.mu.Unlock() //nolint:staticcheck // let a turn that is under way end
		_ = r.ended()
		r.close()
		if r.pool.InUse() != 0 || r.rx.InUse() != 0 {
			t.Fatalf("round %d: %d and %d bytes in use", i, r.pool.InUse(), r.rx.InUse())
		}
	}
}

// TestLinger: after a Logout the response arrives, then FIN; what the peer
// still sends is dropped, and the connection ends when the peer closes.
func TestLinger(t *testing.T) {
	for _, how := range []string{"logout", "refused login", "shutdown", "shutdown, then closed from above"} {
		t.Run(how, func(t *testing.T) {
			ours, theirs := loopback(t)
			r := newRigOver(t, newDisk(t), ours, theirs, nil)
			r.serve()
			s := &stream{}
			want := 3
			if how == "refused login" {
				s.pdu(&pdu.LoginRequest{Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase}, nil, []byte("InitiatorName=x\x00"))
				want = 1
			} else {
				s.login()
				s.tur()
			}
			if how == "logout" {
				s.pdu(&pdu.LogoutRequest{Immediate: true, InitiatorTaskTag: 99, CmdSN: s.cmdSN}, nil, nil)
			}
			if _, err := theirs.Write(s.take()); err != nil {
				t.Fatal(err)
			}
			if want == 3 && how != "logout" {
				want = 2
				c := initiator.NewConn(theirs)
				for range want {
					if _, err := c.ReadPDU(); err != nil {
						t.Fatal(err)
					}
				}
				want = 0
				r.mu.Lock()
				r.conn.Shutdown()
				r.mu.Unlock()
			}
			// The target has said all: FIN.
			_ = theirs.SetReadDeadline(time.Now().Add(patience))
			all, err := io.ReadAll(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if got := parse(t, all, s, false); len(got) != want {
				t.Errorf("%d PDUs before the end, want %d", len(got), want)
			}
			// What comes now is dropped, also when it is no PDU.
			for range 10 {
				if _, err := theirs.Write(bytes.Repeat([]byte{0xff}, 10000)); err != nil {
					t.Fatal("reset while lingering:", err)
				}
			}
			if how == "shutdown, then closed from above" {
				r.end()
			} else {
				theirs.Close()
			}
			_ = r.ended()
		})
	}
}

// TestFlusherRaces floods a connection from a reader that stops and goes on at
// random, with answers made by its own turns and from outside.
func TestFlusherRaces(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	d := newDisk(t)
	for range 10 {
		r := newRig(t, d, nil)
		r.serve()
		s := &stream{}
		s.login()
		s.tur()
		reads := 0
		for range 50 {
			n := 1 << rng.IntN(10)
			s.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: uint32(n * blk)}, read10(0, n), nil, nil)
			reads++
		}
		stop := make(chan struct{})
		r.group.Go(func() { // answers from outside of the socket's turns
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
				}
				r.mu.Lock()
				if !r.gone && r.engine.LoggedIn() {
					r.engine.RequestLogout(1)
					r.conn.Flush()
				}
				r.mu.Unlock()
			}
		})
		r.group.Go(func() { _, _ = r.peer.Write(s.out) })
		c := initiator.NewConn(r.peer)
		_ = c.SetDeadline(time.Now().Add(patience))
		for got := 0; got < reads; {
			p, err := c.ReadPDU()
			if err != nil {
				t.Fatal(err)
			}
			if p.BHS.Opcode() == pdu.OpDataIn && p.BHS[1]&1 != 0 {
				got++
			}
			if rng.IntN(8) == 0 {
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
			}
		}
		close(stop)
		r.close()
	}
}

// TestSession is an initiator's session over the datamover: data in all sizes.
func TestSession(t *testing.T) {
	for _, digest := range []string{"None", "CRC32C"} {
		s := newRig(t, newDisk(t), nil).connect(func(o *initiator.Options) { o.HeaderDigest, o.DataDigest, o.MaxOutstandingR2T = digest, digest, 8 })
		for i, blocks := range []int{1, 7, 8, 9, 127, 512, 1000, 2048, 8192} {
			data := pattern(blocks*blk, byte(i))
			if r, err := s.Exec(testContext(t), 0, write10(i, blocks), data, 0); err != nil || r.Err() != nil {
				t.Fatalf("%d blocks: %v %+v", blocks, err, r)
			}
			r, err := s.Exec(testContext(t), 0, read10(i, blocks), nil, len(data))
			if err != nil || r.Err() != nil || !bytes.Equal(r.Data, data) {
				t.Fatalf("%d blocks: %v", blocks, err)
			}
		}
		if err := s.Logout(testContext(t)); err != nil {
			t.Error(err)
		}
	}
}

// TestAsSocket joins a net.Conn that is no socket.
func TestAsSocket(t *testing.T) {
	a, b := net.Pipe()
	r := newRig(t, newDisk(t), nil)
	sock, err := tcp.AsSocket(a, func(_ string, f func()) { r.group.Go(f) })
	if err != nil {
		t.Fatal(err)
	}
	if sock.RemoteAddr() != a.RemoteAddr() || sock.LocalAddr() != a.LocalAddr() {
		t.Error("addresses of the pair instead of those of the conn")
	}
	r.group.Go(func() { _, _ = b.Write([]byte("hello")) })
	buf := make([]byte, 5)
	if _, err := io.ReadFull(sock, buf); err != nil || string(buf) != "hello" {
		t.Errorf("%q, %v", buf, err)
	}
	sock.Close()
	if _, err := io.ReadAll(b); err != nil {
		t.Error(err)
	}
	b.Close()
}

// exchange is one command and its answer on the path that a turn takes.
type exchange struct {
	r      *rig
	turn   tcp.Turn
	pdu    []byte
	answer []byte
	sn     uint32
}

func newExchange(tb testing.TB, write bool, n int) *exchange {
	tb.Helper()
	e := &exchange{r: newRig(tb, newDisk(tb), nil), sn: 1}
	s := &stream{}
	s.login("MaxRecvDataSegmentLength=262144")
	s.tur()
	if err := e.r.send(s.take()); err != nil {
		tb.Fatal(err)
	}
	e.r.drain()
	e.sn = s.cmdSN
	if write {
		s.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: uint32(n)}, write10(0, n/blk), nil, pattern(n, 1))
		e.answer = make([]byte, pdu.BHSLen)
	} else {
		s.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: uint32(n)}, read10(0, n/blk), nil, nil)
		e.answer = make([]byte, pdu.BHSLen+n)
	}
	e.pdu = s.take()
	return e
}

func (e *exchange) do(tb testing.TB) {
	h := (*pdu.BHS)(e.pdu)
	h.SetCmdSN(e.sn)
	e.sn++
	if _, err := e.r.peer.Write(e.pdu); err != nil {
		tb.Fatal(err)
	}
	for e.r.conn.Turn(&e.turn); !e.turn.Parked(); e.r.conn.Turn(&e.turn) {
		if e.turn.Err != nil {
			tb.Fatal(e.turn.Err)
		}
	}
	if _, err := io.ReadFull(e.r.peer, e.answer); err != nil || e.answer[3] != 0 {
		tb.Fatalf("%v, status %d", err, e.answer[3])
	}
}

var paths = []struct {
	name  string
	write bool
	n     int
}{
	{"read 512", false, 512},
	{"read 4k", false, 4096},
	{"read 64k", false, 64 << 10},
	{"write 512", true, 512},
	{"write 4k", true, 4096},
	{"write 64k", true, 64 << 10},
}

// TestAllocations: the path of reads and writes allocates nothing.
func TestAllocations(t *testing.T) {
	for _, tt := range paths {
		t.Run(tt.name, func(t *testing.T) {
			e := newExchange(t, tt.write, tt.n)
			for range 100 {
				e.do(t)
			}
			if n := testing.AllocsPerRun(500, func() { e.do(t) }); n >= 1 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// BenchmarkExchange is a command and its answer over a socket pair, on one
// goroutine.
func BenchmarkExchange(b *testing.B) {
	for _, tt := range paths {
		b.Run(tt.name, func(b *testing.B) {
			e := newExchange(b, tt.write, tt.n)
			b.ReportAllocs()
			b.SetBytes(int64(tt.n))
			for b.Loop() {
				e.do(b)
			}
		})
	}
}

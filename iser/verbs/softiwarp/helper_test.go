package softiwarp

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// limit is longer than anything takes that does not hang.
const limit = 10 * time.Second

// end is one side of a connection with memory of its own.
type end struct {
	t    testing.TB
	p    *Provider
	dev  *Device
	cm   *CM
	conn *Conn
	cq   *CQ
	qp   *QP
	mem  []byte
	mr   *MR
	est  verbs.Event
	got  []verbs.WC
}

const endMem = 1 << 20

func newEnd(t testing.TB, cfg Config) *end {
	t.Helper()
	e := &end{t: t, p: New(cfg)}
	e.dev = e.p.dev
	cm, err := e.p.NewCM()
	must(t, err)
	e.cm = cm.(*CM)
	cq, err := e.dev.NewCQ(4096)
	must(t, err)
	e.cq = cq.(*CQ)
	e.mem, err = verbs.Map(endMem)
	must(t, err)
	e.mr = e.register(e.mem, verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead|verbs.AccessBind)
	t.Cleanup(e.close)
	return e
}

func (e *end) register(mem []byte, acc verbs.Access) *MR {
	e.t.Helper()
	mr, err := e.dev.Register(mem, acc)
	must(e.t, err)
	return mr.(*MR)
}

func (e *end) close() {
	if e.conn != nil {
		must(e.t, e.conn.Close())
	}
	must(e.t, e.mr.Close())
	must(e.t, e.cm.Close())
	must(e.t, e.cq.Close())
	must(e.t, e.p.Close())
	must(e.t, verbs.Unmap(e.mem))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// next is the CM's next event.
func (e *end) next() verbs.Event {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ev, err := e.cm.Next(ctx)
	if err != nil {
		e.t.Fatalf("no event: %v", err)
	}
	return ev
}

func (e *end) event(kind verbs.EventKind) verbs.Event {
	e.t.Helper()
	ev := e.next()
	if ev.Kind != kind {
		e.t.Fatalf("event %v (status %d), want %v", ev.Kind, ev.Status, kind)
	}
	return ev
}

// none asserts that no event waits.
func (e *end) none() {
	e.t.Helper()
	e.noEvent(20 * time.Millisecond)
}

func (e *end) noEvent(d time.Duration) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if ev, err := e.cm.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		e.t.Fatalf("event %v, error %v; want none", ev.Kind, err)
	}
}

var testCap = verbs.QPCap{MaxSendWR: 128, MaxRecvWR: 128, MaxSendSGE: 4, MaxRecvSGE: 4, MaxInline: 256}

func (e *end) newQP() {
	e.t.Helper()
	qp, err := e.conn.NewQP(verbs.QPConfig{SendCQ: e.cq, RecvCQ: e.cq, QPCap: testCap})
	must(e.t, err)
	e.qp = qp.(*QP)
}

var param = verbs.ConnParam{ResponderResources: 4, InitiatorDepth: 4}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// dial makes the connection of the active side, before Connect.
func (e *end) dial(addr netip.AddrPort) {
	e.t.Helper()
	c, err := e.cm.Dial(context.Background(), netip.Addr{}, addr)
	must(e.t, err)
	e.conn = c.(*Conn)
}

// connect connects a and b.
func connect(t testing.TB, a, b *end) {
	t.Helper()
	l, err := b.cm.Listen(loopback, 0)
	must(t, err)
	a.dial(l.Addr())
	a.newQP()
	must(t, a.conn.Connect(param))
	connectRequest(t, a, b)
	must(t, l.Close())
}

func connectRequest(t testing.TB, a, b *end) {
	t.Helper()
	done := make(chan verbs.Event)
	go func() { done <- a.next() }()
	ev := b.event(verbs.EventConnectRequest)
	b.conn = ev.Conn.(*Conn)
	b.newQP()
	must(t, b.conn.Accept(param))
	b.est = b.event(verbs.EventEstablished)
	a.est = <-done
	if a.est.Kind != verbs.EventEstablished {
		t.Fatalf("active side: event %v (%d)", a.est.Kind, a.est.Status)
	}
}

// pair is two connected ends, a the active one.
func pair(t testing.TB, cfg Config) (a, b *end) {
	t.Helper()
	a, b = newEnd(t, cfg), newEnd(t, cfg)
	connect(t, a, b)
	return a, b
}

// opened is a pair after a first message, so that both may send.
func openPair(t testing.TB, cfg Config) (a, b *end) {
	t.Helper()
	a, b = pair(t, cfg)
	b.recv(1, 0, 64)
	a.send(verbs.SendWR{ID: 2, Op: verbs.OpSend, Flags: verbs.SendSignaled})
	a.wait(b, 1)
	b.wait(a, 1)
	a.got, b.got = nil, nil
	return a, b
}

func (e *end) sge(off, n int) []verbs.SGE {
	return []verbs.SGE{{Addr: verbs.Addr(e.mem) + uint64(off), Len: uint32(n), LKey: e.mr.LKey()}}
}

func (e *end) addr(off int) uint64 { return verbs.Addr(e.mem) + uint64(off) }

func (e *end) recv(id uint64, off, n int) {
	e.t.Helper()
	if _, err := e.qp.PostRecv([]verbs.RecvWR{{ID: id, SG: e.sge(off, n)}}); err != nil {
		e.t.Fatal(err)
	}
}

func (e *end) send(wr ...verbs.SendWR) {
	e.t.Helper()
	if _, err := e.qp.PostSend(wr); err != nil {
		e.t.Fatal(err)
	}
}

// poll polls once and keeps what came.
func (e *end) poll() int {
	e.t.Helper()
	var wc [32]verbs.WC
	n, err := e.cq.Poll(wc[:])
	must(e.t, err)
	e.got = append(e.got, wc[:n]...)
	return n
}

// wait polls both ends until e has n completions.
func (e *end) wait(other *end, n int) []verbs.WC {
	e.t.Helper()
	until(e.t, func() bool {
		e.poll()
		if other != nil {
			other.poll()
		}
		return len(e.got) >= n
	})
	return e.got
}

func until(t testing.TB, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); {
		if time.Since(start) > limit {
			t.Fatal("takes too long")
		}
		runtime.Gosched()
	}
}

func (e *end) take() []verbs.WC {
	got := e.got
	e.got = nil
	return got
}

func readable(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 1
}

func fill(b []byte, seed byte) {
	for i := range b {
		b[i] = byte(i)*7 + byte(i>>8) + seed
	}
}

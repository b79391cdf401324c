package softiwarp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// A connection of which somebody else has read the beginning, however much,
// becomes one of the inlet's.
func TestHandOver(t *testing.T) {
	request := rawRequest.append(nil)
	for read := range len(request) + 1 {
		v := newVictim(t, Config{})
		inlet := v.cm.Inlet(v.l.Addr(), 4)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		c, err := net.Dial("tcp", ln.Addr().String())
		must(t, err)
		r := &raw{t: t, c: c.(*net.TCPConn), msn: 1}
		s, err := ln.Accept()
		must(t, err)
		r.write(request)
		first := make([]byte, read)
		_, err = io.ReadFull(s, first)
		must(t, err)
		if maybe, whole := IsRequest(first); !maybe || whole != (read == len(request)) {
			t.Fatalf("IsRequest of %d bytes: %v, %v", read, maybe, whole)
		}
		must(t, inlet.Hand(s.(*net.TCPConn), first))
		must(t, s.Close())
		ev := v.event(verbs.EventConnectRequest)
		if ev.Listener != verbs.Listener(inlet) || string(ev.Param.Private) != "hello" || ev.Conn.Peer().String() != c.LocalAddr().String() {
			t.Fatalf("event %+v", ev)
		}
		v.conn = ev.Conn.(*Conn)
		v.newQP()
		v.recv(1, guardLo, 64)
		must(t, v.conn.Accept(param))
		v.event(verbs.EventEstablished)
		r.reply()
		r.write(r.fpdu(segment{op: opSend, msn: 1, last: true}, []byte("login")))
		if got := v.wait(nil, 1); got[0].Len != 5 || string(v.mem[guardLo:guardLo+5]) != "login" {
			t.Fatalf("%+v", got)
		}
		must(t, inlet.Close())
		must(t, ln.Close())
		must(t, c.Close())
	}
}

// fileOf is a syscall.Conn of any descriptor.
type fileOf struct{ syscall.Conn }

func TestHandOverErrors(t *testing.T) {
	v := newVictim(t, Config{})
	inlet := v.cm.Inlet(v.l.Addr(), 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = ln.Close() }()
	accept := func() *net.TCPConn {
		c, err := net.Dial("tcp", ln.Addr().String())
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		s, err := ln.Accept()
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s.(*net.TCPConn)
	}
	must(t, inlet.Hand(accept(), nil))
	if err := inlet.Hand(accept(), nil); !errors.Is(err, errBacklog) {
		t.Errorf("beyond the backlog: %v", err)
	}
	if err := inlet.Hand(accept(), make([]byte, 1000)); !errors.Is(err, errMPALength) {
		t.Errorf("too much: %v", err)
	}
	gone := accept()
	must(t, gone.Close())
	if err := inlet.Hand(fileOf{gone}, nil); err == nil {
		t.Error("a closed connection was taken")
	}
	must(t, inlet.Close())
	if err := inlet.Hand(accept(), nil); !errors.Is(err, verbs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	v.none()
}

// The backlog holds connections back, it loses none.
func TestBacklog(t *testing.T) {
	b := newEnd(t, Config{})
	l, err := b.cm.Listen(loopback, 2)
	must(t, err)
	defer func() { must(t, l.Close()) }()
	var clients []*raw
	for range 6 {
		r := dialRaw(t, l)
		r.write(rawRequest.append(nil))
		clients = append(clients, r)
	}
	for range clients {
		must(t, b.event(verbs.EventConnectRequest).Conn.Reject([]byte("no")))
	}
	for _, r := range clients {
		if f := r.reply(); f.flags&mpaReject == 0 || string(f.private) != "no" {
			t.Errorf("reply %+v", f)
		}
	}
}

// Addresses that are not ours, and that cannot be reached.
func TestAddresses(t *testing.T) {
	e := newEnd(t, Config{})
	foreign := netip.MustParseAddr("192.0.2.1")
	if _, err := e.cm.Dial(t.Context(), foreign, netip.MustParseAddrPort("127.0.0.1:3260")); !errors.Is(err, verbs.ErrNoDevice) {
		t.Errorf("dial from a foreign address: %v", err)
	}
	l, err := e.cm.Listen(netip.MustParseAddrPort("[::]:0"), 0)
	must(t, err)
	defer func() { must(t, l.Close()) }()
	if l.Device() != nil {
		t.Error("a listener on all addresses has a device")
	}
	a := newEnd(t, Config{})
	a.dial(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Addr().Port()))
	if got := a.conn.Local().Addr(); got != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("local address %v", got)
	}
	a.newQP()
	must(t, a.conn.Connect(param))
	connectRequest(t, a, e)
	if e.conn.Peer() != a.conn.Local() || e.conn.Local() != a.conn.Peer() {
		t.Errorf("addresses: %v %v, %v %v", e.conn.Peer(), a.conn.Local(), e.conn.Local(), a.conn.Peer())
	}
}

// Nothing happens before its time, and not twice.
func TestOrder(t *testing.T) {
	a, b := newEnd(t, Config{}), newEnd(t, Config{})
	l, err := b.cm.Listen(loopback, 0)
	must(t, err)
	a.dial(l.Addr())
	fails := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s did not fail", what)
		}
	}
	fails("Connect without queue pair", a.conn.Connect(param))
	fails("Accept on the active side", a.conn.Accept(param))
	fails("Reject on the active side", a.conn.Reject(nil))
	a.newQP()
	fails("too much private data", a.conn.Connect(verbs.ConnParam{Private: make([]byte, 300)}))
	fails("too many Reads", a.conn.Connect(verbs.ConnParam{InitiatorDepth: 200}))
	a.send(verbs.SendWR{ID: 1, Op: verbs.OpSend, Flags: verbs.SendSignaled}) // waits
	a.poll()
	must(t, a.conn.Connect(param))
	fails("second Connect", a.conn.Connect(param))
	done := make(chan verbs.Event)
	go func() { done <- a.next() }()
	b.conn = b.event(verbs.EventConnectRequest).Conn.(*Conn)
	fails("Accept without queue pair", b.conn.Accept(param))
	b.newQP()
	b.recv(1, 0, 8)
	b.send(verbs.SendWR{ID: 2, Op: verbs.OpSend, Flags: verbs.SendSignaled}) // waits for the peer
	must(t, b.conn.Accept(param))
	fails("second Accept", b.conn.Accept(param))
	fails("Reject after Accept", b.conn.Reject(nil))
	<-done
	for range 10 {
		b.poll()
	}
	if len(b.got) > 0 {
		t.Errorf("the passive side has sent first: %+v", b.got)
	}
	a.recv(3, 0, 8)
	a.wait(b, 2)
	b.wait(a, 2)
	must(t, l.Close())
	fails("CQ in use", b.cq.Close())
}

// Two sides with goroutines of their own, as in life: pumps that sleep, and
// others that disconnect meanwhile.
func TestPumps(t *testing.T) {
	a, b := openPair(t, Config{})
	var wg sync.WaitGroup
	pump := func(e *end, each func(wc verbs.WC) bool) {
		defer wg.Done()
		p, err := verbs.NewPoller(e.cq, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = p.Close() }()
		wc := make([]verbs.WC, 16)
		for {
			start := time.Now()
			n, err := p.Wait(wc, limit) // it may return 0 when something was posted
			if err != nil || n == 0 && time.Since(start) >= limit {
				t.Errorf("Wait: %d, %v", n, err)
				return
			}
			for _, w := range wc[:n] {
				if !each(w) {
					return
				}
			}
		}
	}
	const rounds = 2000
	for range 8 {
		a.recv(1, 0, 64)
		b.recv(1, 0, 64)
	}
	sendA := []verbs.SendWR{{Op: verbs.OpSend, SG: a.sge(64, 64)}}
	sendB := []verbs.SendWR{{Op: verbs.OpSend, SG: b.sge(64, 64)}}
	count := 0
	wg.Add(2)
	go pump(a, func(wc verbs.WC) bool {
		if wc.Status != verbs.WCSuccess {
			return false
		}
		if count++; count == rounds {
			time.AfterFunc(time.Millisecond, func() { _ = b.conn.Disconnect() })
			return true
		}
		_, _ = a.qp.PostRecv([]verbs.RecvWR{{SG: a.sge(0, 64)}})
		_, _ = a.qp.PostSend(sendA)
		return true
	})
	go pump(b, func(wc verbs.WC) bool {
		if wc.Status != verbs.WCSuccess {
			return false
		}
		_, _ = b.qp.PostRecv([]verbs.RecvWR{{SG: b.sge(0, 64)}})
		_, _ = b.qp.PostSend(sendB)
		return true
	})
	for range 4 {
		_, _ = a.qp.PostSend(sendA)
	}
	wg.Wait()
	if count < rounds {
		t.Errorf("%d rounds, want %d", count, rounds)
	}
}

// Send and receive queue may be on different CQs, and each alone is enough to
// wait on.
func TestTwoCQs(t *testing.T) {
	a, b := newEnd(t, Config{}), newEnd(t, Config{})
	l, err := b.cm.Listen(loopback, 0)
	must(t, err)
	defer func() { must(t, l.Close()) }()
	scq, err := a.dev.NewCQ(16)
	must(t, err)
	a.dial(l.Addr())
	qp, err := a.conn.NewQP(verbs.QPConfig{SendCQ: scq, RecvCQ: a.cq, QPCap: testCap})
	must(t, err)
	a.qp = qp.(*QP)
	must(t, a.conn.Connect(param))
	connectRequest(t, a, b)
	b.recv(1, 0, 8)
	must(t, scq.Arm())
	var wc [4]verbs.WC
	if n, err := scq.Poll(wc[:]); n != 0 || err != nil {
		t.Fatalf("Poll: %d, %v", n, err)
	}
	a.send(verbs.SendWR{ID: 5, Op: verbs.OpRead, Flags: verbs.SendSignaled, SG: a.sge(0, 8), RAddr: b.addr(0), RKey: b.mr.RKey()})
	until(t, func() bool {
		b.poll()
		if !readable(scq.Fd()) {
			return false
		}
		must(t, scq.Arm())
		n, err := scq.Poll(wc[:])
		must(t, err)
		return n == 1
	})
	if wc[0].ID != 5 || wc[0].Status != verbs.WCSuccess {
		t.Errorf("%+v", wc[0])
	}
	must(t, a.conn.Close())
	a.conn = nil
	must(t, scq.Close())
}

// More completions than the CQ was made for break it, loudly.
func TestOverrun(t *testing.T) {
	a := newEnd(t, Config{})
	l, err := a.cm.Listen(loopback, 0)
	must(t, err)
	defer func() { must(t, l.Close()) }()
	a.dial(l.Addr())
	small, err := a.dev.NewCQ(2)
	must(t, err)
	qp, err := a.conn.NewQP(verbs.QPConfig{SendCQ: a.cq, RecvCQ: small, QPCap: testCap})
	must(t, err)
	a.qp = qp.(*QP)
	for range 3 {
		a.recv(1, 0, 8)
	}
	must(t, a.qp.ToError())
	wc := make([]verbs.WC, 4)
	if n, err := small.Poll(wc); n != 2 || !errors.Is(err, errOverrun) {
		t.Errorf("Poll: %d, %v", n, err)
	}
	ev, err := a.dev.NextEvent(t.Context())
	if err != nil || ev.Kind != verbs.DeviceCQError || ev.CQ != small {
		t.Errorf("event %+v, %v", ev, err)
	}
	must(t, a.conn.Close())
	a.conn = nil
	must(t, small.Close())
}

func TestDevice(t *testing.T) {
	p := New(Config{})
	devices, err := p.Devices()
	must(t, err)
	d := devices[0]
	must(t, p.Close())
	must(t, p.Close())
	if _, err := d.NextEvent(t.Context()); !errors.Is(err, verbs.ErrClosed) {
		t.Errorf("NextEvent after Close: %v", err)
	}
	for name, reg := range map[string]func() error{
		"nothing":      func() error { _, err := d.Register(nil, 0); return err },
		"remote only":  func() error { _, err := d.Register(make([]byte, 1), verbs.AccessRemoteWrite); return err },
		"unknown bits": func() error { _, err := d.Register(make([]byte, 1), 1<<20); return err },
		"CQ of 0":      func() error { _, err := d.NewCQ(0); return err },
	} {
		if reg() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Keys change with each use of an index, and old ones are not valid.
func TestKeys(t *testing.T) {
	d := New(Config{}).dev
	mem := make([]byte, 8)
	seen := make(map[uint32]bool)
	byIndex := make(map[uint32]uint32)
	for range 5000 {
		mr, err := d.Register(mem, verbs.AccessLocalWrite)
		must(t, err)
		key := mr.RKey()
		if seen[key] {
			t.Fatalf("STag %#x came twice", key)
		}
		if old, ok := byIndex[key>>stagKeyBits]; ok && (old == key || d.stags.lookup(old) != nil) {
			t.Fatalf("STag %#x after %#x", key, old)
		}
		seen[key], byIndex[key>>stagKeyBits] = true, key
		if d.stags.lookup(key) == nil {
			t.Fatal("a STag in use is not found")
		}
		must(t, mr.Close())
		if d.stags.lookup(key) != nil {
			t.Fatal("a closed STag is found")
		}
	}
	if len(byIndex) == len(seen) {
		t.Error("no index was used again")
	}
}

// A listener that the system gives no descriptors waits, and comes back.
func TestNoDescriptors(t *testing.T) {
	a, b := newEnd(t, Config{}), newEnd(t, Config{})
	l, err := b.cm.Listen(loopback, 0)
	must(t, err)
	a.dial(l.Addr())
	a.newQP()
	must(t, a.conn.Connect(param))
	done := make(chan struct{})
	go func() { // until it is connected, a's Next must run
		defer close(done)
		a.est = a.next()
	}()
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	low := old
	low.Cur = 3
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	start := cpu()
	b.noEvent(250 * time.Millisecond)
	used := time.Duration(cpu() - start)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	if used > 200*time.Millisecond {
		t.Errorf("waiting for descriptors has used %v of CPU", used)
	}
	b.conn = b.event(verbs.EventConnectRequest).Conn.(*Conn)
	b.newQP()
	must(t, b.conn.Accept(param))
	<-done
	must(t, l.Close())
}

// What another goroutine posts while Poll runs is sent, although nothing comes
// that would wake the owner.
func TestPostBehindPoll(t *testing.T) {
	a, b := openPair(t, Config{})
	const rounds = 3000
	p, err := verbs.NewPoller(a.cq, 0)
	must(t, err)
	defer func() { _ = p.Close() }()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		wc := make([]verbs.WC, 4)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := p.Wait(wc, limit); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range rounds {
		b.recv(1, 0, 64)
		if n, err := a.qp.PostSend([]verbs.SendWR{{Op: verbs.OpSend, SG: a.sge(64, 64)}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		start := time.Now()
		until(t, func() bool { b.poll(); return len(b.got) > i })
		if time.Since(start) > limit/2 {
			t.Fatalf("round %d has waited for the owner's timeout", i)
		}
	}
	close(stop)
	p.Wake()
	<-done
}

package verbstest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// Sizes of each connection of the suite.
const (
	sendWRs  = 64
	recvWRs  = 64
	sges     = 3
	inline   = 32
	slot     = 4096 // bytes of a receive
	bulk     = 256 << 10
	bulkAt   = recvWRs * slot // where the memory for RDMA begins
	memSize  = bulkAt + 2*bulk
	recvMark = 1 << 40 // in the IDs of receives
)

// env is a test's two connection managers, and the peers made with them.
type env struct {
	*testing.T
	c         Config
	target    *side
	initiator *side
}

// side is a connection manager, a goroutine that waits for its events, and a
// CQ that the side's peers share.
type side struct {
	e      *env
	name   string
	cm     verbs.CM
	events chan verbs.Event
	got    []verbs.Event // events that nobody waited for yet
	cq     verbs.CQ
	peers  map[uint32]*peer
}

// peer is one end of a connection.
type peer struct {
	s    *side
	conn verbs.Conn
	qp   verbs.QP
	mem  []byte
	mr   verbs.MR
	wc   []verbs.WC // completions that nobody waited for yet
}

func newEnv(t *testing.T, c Config) *env {
	e := &env{T: t, c: c}
	e.target, e.initiator = e.newSide("target"), e.newSide("initiator")
	return e
}

func (e *env) newSide(name string) *side {
	e.Helper()
	cm, err := e.c.Provider.NewCM()
	if err != nil {
		e.Fatalf("%s: NewCM: %v", name, err)
	}
	s := &side{e: e, name: name, cm: cm, events: make(chan verbs.Event, 1024), peers: make(map[uint32]*peer)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ev, err := cm.Next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					e.Errorf("%s: Next: %v", name, err)
				}
				return
			}
			s.events <- ev
		}
	}()
	// Runs after the clean-up of all that was made later.
	e.Cleanup(func() {
		cancel()
		<-done
		close(s.events)
		for ev := range s.events {
			if ev.Kind == verbs.EventConnectRequest {
				_ = ev.Conn.Close()
			}
		}
		for _, ev := range s.got {
			if ev.Kind == verbs.EventConnectRequest {
				_ = ev.Conn.Close()
			}
		}
		if s.cq != nil {
			e.check(s.cq.Close(), name+": close CQ")
		}
		e.check(cm.Close(), name+": close CM")
	})
	return s
}

// check fails the test, at once, on an error.
func (e *env) check(err error, what string) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
}

// turn polls both CQs and takes the events that are there. It reports whether
// there was anything.
func (e *env) turn() bool {
	busy := false
	for _, s := range []*side{e.target, e.initiator} {
		busy = s.poll() || busy
		for more := true; more; {
			select {
			case ev := <-s.events:
				s.got = append(s.got, ev)
				busy = true
			default:
				more = false
			}
		}
	}
	return busy
}

func (s *side) poll() bool {
	if s.cq == nil {
		return false
	}
	var wc [16]verbs.WC
	n, err := s.cq.Poll(wc[:])
	if err != nil {
		s.e.Fatalf("%s: Poll: %v", s.name, err)
	}
	for _, w := range wc[:n] {
		p := s.peers[w.QPN]
		if p == nil {
			s.e.Fatalf("%s: completion %+v of an unknown queue pair", s.name, w)
		}
		p.wc = append(p.wc, w)
	}
	return n > 0
}

// until turns until done, and fails the test when the time is over.
func (e *env) until(what string, done func() bool) {
	e.Helper()
	deadline := time.Now().Add(e.c.Timeout)
	for !done() {
		if e.turn() {
			continue
		}
		if time.Now().After(deadline) {
			e.Fatalf("waited %v for %s", e.c.Timeout, what)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// event waits for an event of this kind and conn (nil: any) on s. Other
// events stay for later.
func (s *side) event(conn verbs.Conn, kinds ...verbs.EventKind) verbs.Event {
	s.e.Helper()
	var found verbs.Event
	s.e.until(s.name+": event "+kinds[0].String(), func() bool {
		for i, ev := range s.got {
			for _, kind := range kinds {
				if ev.Kind == kind && (conn == nil || ev.Conn == conn) {
					found = ev
					s.got = append(s.got[:i], s.got[i+1:]...)
					return true
				}
			}
		}
		return false
	})
	return found
}

// take makes a peer of a new connection, with all receives posted.
func (s *side) take(conn verbs.Conn) *peer {
	e := s.e
	e.Helper()
	p := &peer{s: s, conn: conn}
	e.Cleanup(p.close)
	var err error
	if s.cq == nil {
		s.cq, err = conn.Device().NewCQ(64 * (sendWRs + recvWRs))
		e.check(err, s.name+": NewCQ")
	}
	p.mem, err = verbs.Map(memSize)
	e.check(err, "Map")
	p.mr, err = conn.Device().Register(p.mem, verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead|s.bind(conn))
	e.check(err, s.name+": Register")
	p.qp, err = conn.NewQP(verbs.QPConfig{SendCQ: s.cq, RecvCQ: s.cq, QPCap: verbs.QPCap{
		MaxSendWR: sendWRs, MaxRecvWR: recvWRs, MaxSendSGE: sges, MaxRecvSGE: sges, MaxInline: inline,
	}})
	e.check(err, s.name+": NewQP")
	if s.peers[p.qp.Num()] != nil {
		e.Fatalf("%s: two queue pairs have number %d", s.name, p.qp.Num())
	}
	s.peers[p.qp.Num()] = p
	return p
}

func (s *side) bind(conn verbs.Conn) verbs.Access {
	if conn.Device().Caps().Windows {
		return verbs.AccessBind
	}
	return 0
}

// close ends the peer, in any state.
func (p *peer) close() {
	e := p.s.e
	if p.conn == nil {
		return
	}
	e.check(p.conn.Close(), p.s.name+": close connection")
	p.conn = nil
	if p.s.cq != nil { // what was flushed may still come
		for p.s.poll() {
		}
	}
	if p.qp != nil {
		delete(p.s.peers, p.qp.Num())
	}
	if p.mr != nil {
		e.check(p.mr.Close(), p.s.name+": close MR")
	}
	if p.mem != nil {
		e.check(verbs.Unmap(p.mem), "Unmap")
	}
}

// listen listens on a free port until the end of the test.
func (e *env) listen() verbs.Listener {
	e.Helper()
	l, err := e.target.cm.Listen(netip.AddrPortFrom(e.c.Target, 0), 64)
	e.check(err, "Listen")
	e.Cleanup(func() { e.check(l.Close(), "close listener") })
	return l
}

// param are the usual parameters.
func param(private string) verbs.ConnParam {
	return verbs.ConnParam{Private: []byte(private), ResponderResources: 4, InitiatorDepth: 4, RetryCount: 7, RNRRetryCount: 7}
}

// dial makes an initiator that has not asked yet.
func (e *env) dial(to netip.AddrPort) *peer {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), e.c.Timeout)
	defer cancel()
	conn, err := e.initiator.cm.Dial(ctx, e.c.Initiator, to)
	e.check(err, "Dial")
	return e.initiator.take(conn)
}

// connect makes a connection to l, on which the initiator has sent the first
// message, as on iWARP it must.
func (e *env) connect(l verbs.Listener) (target, initiator *peer) {
	e.Helper()
	initiator = e.dial(l.Addr())
	initiator.recv(recvWRs)
	e.check(initiator.conn.Connect(param("hello")), "Connect")
	target = e.target.take(e.target.event(nil, verbs.EventConnectRequest).Conn)
	target.recv(recvWRs)
	e.check(target.conn.Accept(param("welcome")), "Accept")
	e.initiator.event(initiator.conn, verbs.EventEstablished)
	e.target.event(target.conn, verbs.EventEstablished)
	initiator.post(initiator.msg(0, "first"))
	e.same(target.received(), "first")
	initiator.ok(1)
	return target, initiator
}

// pair is connect to a listener of its own.
func (e *env) pair() (target, initiator *peer) {
	e.Helper()
	return e.connect(e.listen())
}

func (e *env) same(got, want string) {
	e.Helper()
	if got != want {
		e.Fatalf("got %q, want %q", short(got), short(want))
	}
}

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// recv posts n receives, in slots 0 to n-1.
func (p *peer) recv(n int) {
	p.s.e.Helper()
	for i := range n {
		p.repost(i)
	}
}

// repost posts the receive of slot i.
func (p *peer) repost(i int) {
	p.s.e.Helper()
	wr := []verbs.RecvWR{{ID: recvMark | uint64(i), SG: []verbs.SGE{p.at(i*slot, slot)}}}
	n, err := p.qp.PostRecv(wr)
	if n != 1 || err != nil {
		p.s.e.Fatalf("%s: PostRecv: %d, %v", p.s.name, n, err)
	}
}

// at is n bytes of the peer's memory from offset off.
func (p *peer) at(off, n int) verbs.SGE {
	return verbs.SGE{Addr: verbs.Addr(p.mem) + uint64(off), Len: uint32(n), LKey: p.mr.LKey()}
}

// remote is the address and the key of offset off for the other peer.
func (p *peer) remote(off int) (uint64, uint32) {
	return verbs.Addr(p.mem) + uint64(off), p.mr.RKey()
}

// bulk is the memory for RDMA.
func (p *peer) bulk() []byte { return p.mem[bulkAt : bulkAt+bulk] }

// msg is a signaled Send of text, from bulk memory at its end.
func (p *peer) msg(id uint64, text string) verbs.SendWR {
	off := bulkAt + bulk + int(id%64)*slot
	copy(p.mem[off:], text)
	return verbs.SendWR{ID: id, Op: verbs.OpSend, Flags: verbs.SendSignaled, SG: []verbs.SGE{p.at(off, len(text))}}
}

// post posts all of wr.
func (p *peer) post(wr ...verbs.SendWR) {
	p.s.e.Helper()
	n, err := p.qp.PostSend(wr)
	if n != len(wr) || err != nil {
		p.s.e.Fatalf("%s: PostSend of %d: %d, %v", p.s.name, len(wr), n, err)
	}
}

// completion waits for the next completion of receives, or of the send queue.
func (p *peer) completion(recv bool) verbs.WC {
	p.s.e.Helper()
	var found verbs.WC
	what := p.s.name + ": completion of a send"
	if recv {
		what = p.s.name + ": completion of a receive"
	}
	p.s.e.until(what, func() bool {
		for i, w := range p.wc {
			if (w.ID&recvMark != 0) == recv {
				found = w
				p.wc = append(p.wc[:i], p.wc[i+1:]...)
				return true
			}
		}
		return false
	})
	return found
}

// received waits for a message and returns it; its receive is posted again.
func (p *peer) received() string {
	p.s.e.Helper()
	w := p.completion(true)
	if w.Status != verbs.WCSuccess || w.Op != verbs.OpRecv {
		p.s.e.Fatalf("%s: receive: %+v", p.s.name, w)
	}
	i := int(w.ID &^ recvMark)
	text := string(p.mem[i*slot : i*slot+int(w.Len)])
	p.repost(i)
	return text
}

// ok waits for n successful completions of the send queue.
func (p *peer) ok(n int) {
	p.s.e.Helper()
	for range n {
		p.status(verbs.WCSuccess)
	}
}

// status waits for a completion of the send queue with one of these statuses.
func (p *peer) status(want ...verbs.Status) verbs.WC {
	p.s.e.Helper()
	w := p.completion(false)
	if slices.Contains(want, w.Status) {
		return w
	}
	p.s.e.Fatalf("%s: completion %d (%v): status %v, vendor %#x, want %v", p.s.name, w.ID, w.Op, w.Status, w.VendorErr, want)
	return w
}

// flushed waits until n receives have been flushed, each once.
func (p *peer) flushed(n int) {
	p.s.e.Helper()
	seen := make(map[uint64]bool)
	for range n {
		w := p.completion(true)
		if w.Status != verbs.WCFlushed || seen[w.ID] {
			p.s.e.Fatalf("%s: receive %d: status %v, seen %v; want flushed, once", p.s.name, w.ID&^recvMark, w.Status, seen[w.ID])
		}
		seen[w.ID] = true
	}
}

// quiet fails the test when a completion comes that nobody waits for.
func (p *peer) quiet() {
	p.s.e.Helper()
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
		p.s.e.turn()
	}
	if len(p.wc) > 0 {
		p.s.e.Fatalf("%s: unexpected completions: %+v", p.s.name, p.wc)
	}
}

// wantErr checks that err wraps want.
func (e *env) wantErr(err, want error, what string) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("%s: got error %v, want one that wraps %q", what, err, want)
	}
}

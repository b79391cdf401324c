package verbstest

import (
	"errors"

	"github.com/iserd/iserd/iser/verbs"
)

// refused waits until a signaled request of operation op was refused by the
// peer. On iWARP a Write is complete when it is sent, so only the end of the
// connection tells (RFC 5040 section 5.5).
func (p *peer) refused(op verbs.Op) {
	p.s.e.Helper()
	if op == verbs.OpWrite && p.conn.Device().Caps().Transport == verbs.TransportIWARP {
		p.status(verbs.WCSuccess, verbs.WCRemoteAccess, verbs.WCFlushed)
		p.s.event(p.conn, verbs.EventDisconnected)
		return
	}
	p.status(verbs.WCRemoteAccess)
}

// broken checks that wr, of t, is refused and ends t's connection, but not
// another one on the same CQ.
func (e *env) broken(make func(t, i *peer) verbs.SendWR) {
	e.Helper()
	l := e.listen()
	t, i := e.connect(l)
	t2, i2 := e.connect(l)
	wr := make(t, i)
	t.post(wr, t.msg(2, "after"))
	t.refused(wr.Op)
	if wr.Op == verbs.OpWrite && t.conn.Device().Caps().Transport == verbs.TransportIWARP {
		t.status(verbs.WCSuccess, verbs.WCFlushed)
	} else {
		t.status(verbs.WCFlushed)
	}
	t.over(recvWRs)
	i2.post(i2.msg(3, "alive"))
	e.same(t2.received(), "alive")
	i2.ok(1)
}

func testBadKey(e *env) {
	for _, op := range []verbs.Op{verbs.OpWrite, verbs.OpRead} {
		e.broken(func(t, i *peer) verbs.SendWR {
			wr := write(t, i, 0, 512)
			wr.Op = op
			wr.RKey ^= 0x5500
			return wr
		})
	}
}

// The memory that was registered is all that is accessible: a region that is
// a part of a mapping ends where it ends.
func testOutOfBounds(e *env) {
	for _, op := range []verbs.Op{verbs.OpWrite, verbs.OpRead} {
		t, i := e.pair()
		part := i.bulk()[100:1100]
		mr, err := i.conn.Device().Register(part, verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead)
		e.check(err, "Register a part")
		if verbs.Addr(mr.Mem()) != verbs.Addr(part) || len(mr.Mem()) != len(part) {
			e.Error("Mem is not what was registered")
		}
		wr := write(t, i, 0, 1000)
		wr.Op, wr.RAddr, wr.RKey = op, verbs.Addr(part), mr.RKey()
		t.post(wr)
		t.ok(1)
		wr.RAddr++
		t.post(wr)
		t.refused(op)
		e.check(i.qp.ToError(), "ToError")
		e.check(mr.Close(), "close MR")
	}
}

// Access that was not given is refused.
func testNoAccess(e *env) {
	for _, op := range []verbs.Op{verbs.OpWrite, verbs.OpRead} {
		t, i := e.pair()
		acc := verbs.AccessLocalWrite | verbs.AccessRemoteRead
		if op == verbs.OpRead {
			acc = verbs.AccessLocalWrite | verbs.AccessRemoteWrite
		}
		mr, err := i.conn.Device().Register(i.bulk(), acc)
		e.check(err, "Register")
		wr := write(t, i, 0, 100)
		wr.Op, wr.RKey = op, mr.RKey()
		t.post(wr)
		t.refused(op)
		e.check(i.qp.ToError(), "ToError")
		e.check(mr.Close(), "close MR")
	}
}

// A message that is longer than its receive ends the connection, and writes
// nothing beyond the receive.
func testReceiveTooShort(e *env) {
	t, i := e.pair()
	for range recvWRs {
		i.post(i.msg(0, "-"))
		t.completion(true)
		i.ok(1)
	}
	clear(t.mem[:2*slot])
	n, err := t.qp.PostRecv([]verbs.RecvWR{{ID: recvMark, SG: []verbs.SGE{t.at(0, 10)}}})
	if n != 1 || err != nil {
		e.Fatalf("PostRecv: %d, %v", n, err)
	}
	i.post(i.msg(1, "more than ten bytes"))
	if w := t.completion(true); w.Status == verbs.WCSuccess {
		e.Errorf("receive: %+v", w)
	}
	// iWARP may complete the send before the peer has looked at it.
	if w := i.completion(false); w.Status == verbs.WCSuccess && i.conn.Device().Caps().Transport != verbs.TransportIWARP {
		e.Errorf("send: %+v", w)
	}
	if t.mem[10] != 0 {
		e.Error("wrote beyond the receive")
	}
}

// A sender waits, if its transport can, for a receive that is posted late.
func testReceiveLate(e *env) {
	t, i := e.pair()
	if t.conn.Device().Caps().Transport == verbs.TransportIWARP {
		e.Skip("iWARP has no receiver-not-ready")
	}
	for range recvWRs {
		i.post(i.msg(0, "-"))
		t.completion(true)
		i.ok(1)
	}
	i.post(i.msg(1, "patience"))
	i.quiet()
	t.repost(3)
	e.same(t.received(), "patience")
	i.ok(1)
}

// ToError flushes every receive, and every send that was not done.
func testFlushOnError(e *env) {
	t, _ := e.pair()
	e.check(t.qp.ToError(), "ToError")
	e.check(t.qp.ToError(), "second ToError")
	t.flushed(recvWRs)
	t.quiet()
}

// A send that is posted in the error state is flushed, signaled or not.
func testFlushAfterError(e *env) {
	t, i := e.pair()
	e.check(t.qp.ToError(), "ToError")
	t.flushed(recvWRs)
	for n := range 4 {
		wr := t.msg(uint64(n), "late")
		wr.Flags = 0
		t.post(wr, read(t, i, 0, 100))
	}
	for range 8 {
		t.status(verbs.WCFlushed)
	}
	t.quiet()
}

// A full queue takes no more, and says how many it took.
func testQueueFull(e *env) {
	t, i := e.pair()
	room := t.qp.Cap().MaxSendWR
	var list []verbs.SendWR
	for n := range room + 200 {
		wr := read(t, i, 0, 64<<10) // slow enough: few are done before all are posted
		wr.ID = uint64(n)
		list = append(list, wr)
	}
	n, err := t.qp.PostSend(list)
	if n < sendWRs || n >= len(list) || !errors.Is(err, verbs.ErrQueueFull) {
		e.Fatalf("PostSend of %d to a queue of %d: %d, %v", len(list), room, n, err)
	}
	for k := range n {
		if w := t.status(verbs.WCSuccess); w.ID != uint64(k) {
			e.Fatalf("completion of %d, want %d", w.ID, k)
		}
	}
	t.quiet()
	t.post(list[0])
	t.ok(1)
}

// Nonsense is refused where it stands; what is before it is done.
func testInvalidRequest(e *env) {
	t, i := e.pair()
	many := make([]verbs.SGE, 100)
	for k := range many {
		many[k] = i.at(bulkAt, 1)
	}
	n, err := i.qp.PostSend([]verbs.SendWR{i.msg(1, "good"), {ID: 2, Op: verbs.OpSend, SG: many}, i.msg(3, "not reached")})
	if n != 1 || err == nil {
		e.Errorf("PostSend of 100 SGEs: %d, %v", n, err)
	}
	e.same(t.received(), "good")
	i.ok(1)
	if n, err := i.qp.PostSend([]verbs.SendWR{{Op: verbs.OpRecv}}); n != 0 || err == nil {
		e.Errorf("PostSend of a receive: %d, %v", n, err)
	}
	if n, err := i.qp.PostRecv([]verbs.RecvWR{{SG: many}}); n != 0 || err == nil {
		e.Errorf("PostRecv of 100 SGEs: %d, %v", n, err)
	}
	if n, err := i.qp.PostSend(nil); n != 0 || err != nil {
		e.Errorf("PostSend of nothing: %d, %v", n, err)
	}
	i.quiet()
}

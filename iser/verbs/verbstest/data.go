package verbstest

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// fill makes b distinctive.
func fill(b []byte, seed int) {
	for n := range b {
		b[n] = byte(n*7 + n>>8 + seed)
	}
}

// Messages of every size, from and to several pieces of memory, in both
// directions and in order.
func testSendRecv(e *env) {
	t, i := e.pair()
	for _, n := range []int{0, 1, 76, 1023, 1024, 1025, slot} {
		text := strings.Repeat("x", n/2) + strings.Repeat("y", n-n/2)
		i.post(i.msg(7, text))
		e.same(t.received(), text)
		if w := i.status(verbs.WCSuccess); w.ID != 7 || w.Op != verbs.OpSend {
			e.Errorf("completion %+v, want ID 7, Send", w)
		}
		t.post(t.msg(8, text))
		e.same(i.received(), text)
		t.ok(1)
	}
	wr := i.msg(1, "onetwothree")
	at := wr.SG[0]
	i.post(verbs.SendWR{ID: 1, Op: verbs.OpSend, Flags: verbs.SendSignaled, SG: []verbs.SGE{
		{Addr: at.Addr + 6, Len: 5, LKey: at.LKey}, {Addr: at.Addr + 3, Len: 3, LKey: at.LKey}, {Addr: at.Addr, Len: 3, LKey: at.LKey},
	}})
	e.same(t.received(), "threetwoone")
	i.ok(1)
	var batch []verbs.SendWR
	for n := range 32 {
		batch = append(batch, i.msg(uint64(n), string(rune('a'+n))))
	}
	i.post(batch...)
	for n := range 32 {
		e.same(t.received(), string(rune('a'+n)))
		if w := i.status(verbs.WCSuccess); w.ID != uint64(n) {
			e.Fatalf("completion of %d, want %d", w.ID, n)
		}
	}
	// A receive of several pieces.
	for range recvWRs {
		i.post(i.msg(0, "-"))
		w := t.completion(true)
		if w.Status != verbs.WCSuccess {
			e.Fatalf("receive: %+v", w)
		}
		i.ok(1)
	}
	n, err := t.qp.PostRecv([]verbs.RecvWR{{ID: recvMark, SG: []verbs.SGE{t.at(100, 4), t.at(0, 4), t.at(200, 8)}}})
	if n != 1 || err != nil {
		e.Fatalf("PostRecv: %d, %v", n, err)
	}
	i.post(i.msg(0, "abcdefghij"))
	if w := t.completion(true); w.Status != verbs.WCSuccess || w.Len != 10 {
		e.Fatalf("receive of pieces: %+v", w)
	}
	e.same(string(t.mem[100:104])+string(t.mem[0:4])+string(t.mem[200:202]), "abcdefghij")
}

// A send without SendSignaled has no completion of its own.
func testUnsignaled(e *env) {
	t, i := e.pair()
	for n := range 5 * sendWRs {
		wr := i.msg(uint64(n), "m")
		if n%8 != 7 {
			wr.Flags = 0
		}
		i.post(wr)
		e.same(t.received(), "m")
		if n%8 == 7 {
			if w := i.status(verbs.WCSuccess); w.ID != uint64(n) {
				e.Fatalf("completion of %d, want %d", w.ID, n)
			}
		}
	}
	i.quiet()
}

// Inline data is taken when it is posted.
func testInline(e *env) {
	t, i := e.pair()
	if i.qp.Cap().MaxInline < inline {
		e.Fatalf("MaxInline is %d, asked for %d", i.qp.Cap().MaxInline, inline)
	}
	wr := i.msg(1, "inline")
	wr.Flags |= verbs.SendInline
	wr.SG[0].LKey = 0
	i.post(wr)
	copy(i.mem[bulkAt+bulk+slot:], "XXXXXX")
	e.same(t.received(), "inline")
	i.ok(1)
}

// write is an RDMA Write of n bytes at off of t's bulk to the same place of i.
func write(t, i *peer, off, n int) verbs.SendWR {
	addr, key := i.remote(bulkAt + off)
	return verbs.SendWR{ID: 1, Op: verbs.OpWrite, Flags: verbs.SendSignaled, SG: []verbs.SGE{t.at(bulkAt+off, n)}, RAddr: addr, RKey: key}
}

// read is an RDMA Read of n bytes at off of i's bulk to the same place of t.
func read(t, i *peer, off, n int) verbs.SendWR {
	wr := write(t, i, off, n)
	wr.Op = verbs.OpRead
	return wr
}

// An RDMA Write is visible when a message sent after it has come, and touches
// nothing else.
func testWrite(e *env) {
	t, i := e.pair()
	for _, n := range []int{1, 76, 512, 4096, 4097, 65536, bulk - 64} {
		fill(t.bulk(), n)
		clear(i.bulk())
		wr := write(t, i, 32, n)
		wr.Flags = 0
		t.post(wr, t.msg(2, "written"))
		e.same(i.received(), "written")
		if !bytes.Equal(i.bulk()[32:32+n], t.bulk()[32:32+n]) {
			e.Fatalf("%d bytes: data differs", n)
		}
		if i.bulk()[31] != 0 || i.bulk()[32+n] != 0 {
			e.Fatalf("%d bytes: wrote beyond", n)
		}
		t.ok(1)
	}
	// Gathered from pieces; of no bytes.
	addr, key := i.remote(bulkAt)
	t.post(verbs.SendWR{ID: 3, Op: verbs.OpWrite, Flags: verbs.SendSignaled, SG: []verbs.SGE{t.at(bulkAt+1000, 10), t.at(bulkAt+5, 5000)}, RAddr: addr, RKey: key},
		verbs.SendWR{ID: 4, Op: verbs.OpWrite, Flags: verbs.SendSignaled, RAddr: addr, RKey: key}, t.msg(5, "gathered"))
	e.same(i.received(), "gathered")
	t.ok(3)
	if !bytes.Equal(i.bulk()[:10], t.bulk()[1000:1010]) || !bytes.Equal(i.bulk()[10:5010], t.bulk()[5:5005]) {
		e.Error("gathered data differs")
	}
}

// An RDMA Read fetches what is there, and touches nothing else.
func testRead(e *env) {
	t, i := e.pair()
	for _, n := range []int{1, 76, 512, 4096, 4097, 65536, bulk - 64} {
		fill(i.bulk(), n)
		clear(t.bulk())
		t.post(read(t, i, 32, n))
		if w := t.status(verbs.WCSuccess); w.Op != verbs.OpRead {
			e.Errorf("completion %+v, want Read", w)
		}
		if !bytes.Equal(i.bulk()[32:32+n], t.bulk()[32:32+n]) {
			e.Fatalf("%d bytes: data differs", n)
		}
		if t.bulk()[31] != 0 || t.bulk()[32+n] != 0 {
			e.Fatalf("%d bytes: read beyond", n)
		}
	}
}

// More RDMA Reads than the depth allows wait for their turn; a fenced send
// waits for all of them.
func testReadMany(e *env) {
	t, i := e.pair()
	fill(i.bulk(), 5)
	const n = 32
	var list []verbs.SendWR
	for k := range n {
		wr := read(t, i, k*slot, slot)
		wr.ID, wr.Flags = uint64(k), 0
		list = append(list, wr)
	}
	msg := t.msg(n, "all read")
	msg.Flags |= verbs.SendFence
	t.post(append(list, msg)...)
	if w := t.status(verbs.WCSuccess); w.ID != n {
		e.Errorf("completion of %d, want %d", w.ID, n)
	}
	if !bytes.Equal(i.bulk()[:n*slot], t.bulk()[:n*slot]) {
		e.Error("data differs")
	}
	e.same(i.received(), "all read")
}

// window binds a window of i to n bytes at off of its bulk.
func (p *peer) window(off, n int, acc verbs.Access) (verbs.Window, uint32) {
	e := p.s.e
	e.Helper()
	caps := p.conn.Device().Caps()
	if !caps.Windows || !caps.SendInv {
		e.Skipf("%s has no memory windows", p.conn.Device().Name())
	}
	w, err := p.conn.Device().NewWindow()
	e.check(err, "NewWindow")
	return w, p.bindWindow(w, off, n, acc)
}

func (p *peer) bindWindow(w verbs.Window, off, n int, acc verbs.Access) uint32 {
	p.s.e.Helper()
	key, err := p.qp.Bind(w, p.mr, p.bulk()[off:off+n], acc, 77, verbs.SendSignaled)
	p.s.e.check(err, "Bind")
	if wc := p.status(verbs.WCSuccess); wc.ID != 77 || wc.Op != verbs.OpBind {
		p.s.e.Errorf("completion %+v, want ID 77, Bind", wc)
	}
	return key
}

// Send with Invalidate ends the access that a window gave, and says so.
func testSendInvalidate(e *env) {
	t, i := e.pair()
	w, key := i.window(0, slot, verbs.AccessRemoteRead|verbs.AccessRemoteWrite)
	defer func() { e.check(w.Close(), "close window") }()
	for round := range 3 {
		fill(t.bulk(), round)
		wr := write(t, i, 0, slot)
		wr.RKey = key
		inv := t.msg(2, "done")
		inv.Op, inv.InvKey = verbs.OpSendInv, key
		t.post(wr, inv)
		t.ok(2)
		got := i.completion(true)
		if got.Status != verbs.WCSuccess || got.Flags&verbs.WCWithInv == 0 || (got.InvKey != key && got.InvKey != 0) {
			e.Fatalf("receive %+v, want one that invalidates %#x", got, key)
		}
		i.repost(int(got.ID &^ recvMark))
		if !bytes.Equal(i.bulk()[:slot], t.bulk()[:slot]) {
			e.Error("data differs")
		}
		old := key
		key = i.bindWindow(w, 0, slot, verbs.AccessRemoteWrite)
		if key == old {
			e.Errorf("the window got key %#x again", key)
		}
	}
	inv := t.msg(2, "gone")
	inv.Op, inv.InvKey = verbs.OpSendInv, key
	t.post(inv)
	t.ok(1)
	e.same(i.received(), "gone")
	wr := write(t, i, 0, 8)
	wr.RKey = key
	t.post(wr)
	t.refused(verbs.OpWrite)
}

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

// A window can be invalidated by its owner.
func testLocalInvalidate(e *env) {
	t, i := e.pair()
	w, key := i.window(0, slot, verbs.AccessRemoteWrite)
	defer func() { e.check(w.Close(), "close window") }()
	wr := write(t, i, 0, 8)
	wr.RKey = key
	t.post(wr)
	t.ok(1)
	i.post(verbs.SendWR{ID: 5, Op: verbs.OpLocalInv, Flags: verbs.SendSignaled, InvKey: key})
	if w := i.status(verbs.WCSuccess); w.ID != 5 || w.Op != verbs.OpLocalInv {
		e.Errorf("completion %+v, want ID 5, LocalInv", w)
	}
	t.post(wr)
	t.refused(verbs.OpWrite)
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

// readable waits for the CQ's descriptor.
func readable(cq verbs.CQ, timeout time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(cq.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(timeout.Milliseconds()))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// An armed CQ that is empty is not readable until a completion comes.
func testNotify(e *env) {
	t, i := e.pair()
	for round := range 5 {
		e.check(e.target.cq.Arm(), "Arm")
		e.turn()
		if round == 0 && readable(e.target.cq, 20*time.Millisecond) {
			// Once more: Arm may have come before a late notification.
			e.check(e.target.cq.Arm(), "Arm")
			e.turn()
			if readable(e.target.cq, 20*time.Millisecond) {
				e.Error("readable without a completion")
			}
		}
		i.post(i.msg(1, "ring"))
		for end := time.Now().Add(e.c.Timeout); len(t.wc) == 0; {
			i.s.poll() // a software provider sends now
			if time.Now().After(end) {
				e.Fatal("the descriptor does not become readable")
			}
			if readable(e.target.cq, 10*time.Millisecond) {
				e.check(e.target.cq.Arm(), "Arm")
				t.s.poll()
			}
		}
		e.same(t.received(), "ring")
		i.ok(1)
	}
}

// A Poller sleeps until there is something, or it is woken.
func testPoller(e *env) {
	t, i := e.pair()
	p, err := verbs.NewPoller(e.target.cq, 50*time.Microsecond)
	e.check(err, "NewPoller")
	defer func() { e.check(p.Close(), "Close") }()
	var wc [8]verbs.WC
	for range 20 {
		i.post(i.msg(1, "ring"))
		n := 0
		for end := time.Now().Add(e.c.Timeout); n == 0; {
			if time.Now().After(end) {
				e.Fatal("Wait does not return the completion")
			}
			i.s.poll()
			n, err = p.Wait(wc[:], 10*time.Millisecond)
			e.check(err, "Wait")
		}
		t.wc = append(t.wc, wc[:n]...)
		e.same(t.received(), "ring")
		i.ok(1)
	}
	woken := time.AfterFunc(20*time.Millisecond, p.Wake)
	defer woken.Stop()
	start := time.Now()
	for time.Since(start) < 15*time.Millisecond { // it may return for nothing
		n, err := p.Wait(wc[:], e.c.Timeout)
		if n != 0 || err != nil {
			e.Fatalf("Wait: %d, %v", n, err)
		}
	}
	if time.Since(start) > e.c.Timeout/2 {
		e.Error("Wake did not end Wait")
	}
}

// The data path allocates nothing.
func testAllocations(e *env) {
	t, i := e.pair()
	send := []verbs.SendWR{i.msg(1, "m")}
	send[0].Flags |= verbs.SendSignaled
	recv := make([]verbs.RecvWR, 1)
	sg := make([]verbs.SGE, 1)
	wc := make([]verbs.WC, 16)
	end := time.Now().Add(e.c.Timeout)
	got := testing.AllocsPerRun(50, func() {
		if n, _ := i.qp.PostSend(send); n != 1 {
			e.Fatal("PostSend")
		}
		var w verbs.WC
		for done := 0; done < 2; { // a provider may need both CQs polled
			if time.Now().After(end) {
				e.Fatal("no completion")
			}
			if n, _ := e.target.cq.Poll(wc); n > 0 {
				w = wc[0]
				done++
			}
			if n, _ := e.initiator.cq.Poll(wc); n > 0 {
				done++
			}
		}
		slotOf := int(w.ID &^ recvMark)
		sg[0] = t.at(slotOf*slot, slot)
		recv[0] = verbs.RecvWR{ID: w.ID, SG: sg}
		if n, _ := t.qp.PostRecv(recv); n != 1 {
			e.Fatal("PostRecv")
		}
	})
	if got != 0 {
		e.Errorf("%v allocations per message", got)
	}
}

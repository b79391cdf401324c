package verbstest

import (
	"bytes"
	"strings"

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

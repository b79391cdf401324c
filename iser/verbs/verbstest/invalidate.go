package verbstest

import (
	"bytes"

	"github.com/iserd/iserd/iser/verbs"
)

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

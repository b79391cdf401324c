package softiwarp

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/iser/verbs"
)

// Quarters of an end's memory in the property test: what is sent from, what
// the peer writes and sends to, what is read to. The last one stays as it is.
const (
	quarter  = 64 << 10
	srcAt    = 0
	dstAt    = quarter
	sinkAt   = 2 * quarter
	guardAt  = 3 * quarter
	modelLen = 4 * quarter
)

// modelEnd is an end and what its memory must be.
type modelEnd struct {
	*end
	model  []byte
	window *Window
	bound  bool
	key    uint32
	lo, hi int // of the window
	sends  int // completions to come
	recvs  int
}

func newModelEnd(rt *rapid.T, e *end) *modelEnd {
	m := &modelEnd{end: e, model: make([]byte, modelLen)}
	w, err := e.dev.NewWindow()
	if err != nil {
		rt.Fatal(err)
	}
	m.window = w.(*Window)
	seed := rapid.Byte().Draw(rt, "seed")
	fill(e.mem[:modelLen], seed)
	copy(m.model, e.mem)
	return m
}

// pieces draws n bytes of the quarter at base as up to four SGEs, and returns
// the model's bytes of them.
func (m *modelEnd) pieces(rt *rapid.T, base, n int) (sg []verbs.SGE, model [][]byte) {
	for left := n; left > 0; {
		take := left
		if len(sg) < 3 {
			take = rapid.IntRange(1, left).Draw(rt, "piece")
		}
		off := base + rapid.IntRange(0, quarter-take).Draw(rt, "offset")
		sg = append(sg, m.sge(off, take)...)
		model = append(model, m.model[off:off+take])
		left -= take
	}
	return sg, model
}

func join(pieces [][]byte) []byte { return bytes.Join(pieces, nil) }

// scatterModel writes b to pieces, in order.
func scatterModel(pieces [][]byte, b []byte) {
	for _, p := range pieces {
		b = b[copy(p, b):]
	}
}

var sizes = rapid.Custom(func(rt *rapid.T) int {
	if rapid.Bool().Draw(rt, "small") {
		return rapid.IntRange(0, 200).Draw(rt, "size")
	}
	return rapid.IntRange(0, quarter).Draw(rt, "size")
})

// step does one random operation from a to b.
func step(rt *rapid.T, a, b *modelEnd) {
	n := sizes.Draw(rt, "n")
	switch rapid.SampledFrom([]string{"send", "write", "read", "window", "bind", "invalidate", "sendinv"}).Draw(rt, "op") {
	case "send":
		sendStep(rt, a, b, n, verbs.OpSend)
	case "write":
		sg, from := a.pieces(rt, srcAt, n)
		to := dstAt + rapid.IntRange(0, quarter-n).Draw(rt, "to")
		copy(b.model[to:], join(from))
		a.send(verbs.SendWR{Op: verbs.OpWrite, Flags: verbs.SendSignaled, SG: sg, RAddr: b.addr(to), RKey: b.mr.RKey()})
		a.sends++
	case "read":
		from := srcAt + rapid.IntRange(0, quarter-n).Draw(rt, "from")
		sg, to := a.pieces(rt, sinkAt, n)
		scatterModel(to, b.model[from:from+n])
		a.send(verbs.SendWR{Op: verbs.OpRead, Flags: verbs.SendSignaled, SG: sg, RAddr: b.addr(from), RKey: b.mr.RKey()})
		a.sends++
	case "window":
		if !b.bound {
			return
		}
		n = min(n, b.hi-b.lo)
		sg, from := a.pieces(rt, srcAt, n)
		to := b.lo + rapid.IntRange(0, b.hi-b.lo-n).Draw(rt, "to")
		copy(b.model[to:], join(from))
		a.send(verbs.SendWR{Op: verbs.OpWrite, Flags: verbs.SendSignaled, SG: sg, RAddr: b.addr(to), RKey: b.key})
		a.sends++
	case "bind":
		bindStep(rt, b)
	case "invalidate":
		quiesce(rt, a, b)
		if b.bound {
			b.bound = false
			b.send(verbs.SendWR{Op: verbs.OpLocalInv, Flags: verbs.SendSignaled, InvKey: b.key})
			b.sends++
		}
	case "sendinv":
		if b.bound {
			b.bound = false
			sendStep(rt, a, b, n, verbs.OpSendInv)
			quiesce(rt, a, b) // it may be bound again only then
		}
	}
}

func sendStep(rt *rapid.T, a, b *modelEnd, n int, op verbs.Op) {
	sg, from := a.pieces(rt, srcAt, n)
	// The places of a receive must be in the model in the order of sending, so
	// it is posted right before.
	rsg, to := b.pieces(rt, dstAt, min(quarter, n+rapid.IntRange(0, 20).Draw(rt, "slack")))
	if _, err := b.qp.PostRecv([]verbs.RecvWR{{SG: rsg}}); err != nil {
		rt.Fatal(err)
	}
	scatterModel(to, join(from))
	wr := verbs.SendWR{Op: op, Flags: verbs.SendSignaled, SG: sg, InvKey: b.key}
	if n <= testCap.MaxInline && rapid.Bool().Draw(rt, "inline") {
		wr.Flags |= verbs.SendInline
	}
	a.send(wr)
	a.sends++
	b.recvs++
}

func bindStep(rt *rapid.T, b *modelEnd) {
	if b.bound {
		return
	}
	b.lo = dstAt + rapid.IntRange(0, quarter-1).Draw(rt, "lo")
	b.hi = rapid.IntRange(b.lo+1, dstAt+quarter).Draw(rt, "hi")
	key, err := b.qp.Bind(b.window, b.mr, b.mem[b.lo:b.hi], verbs.AccessRemoteWrite, 0, verbs.SendSignaled)
	if err != nil {
		rt.Fatal(err)
	}
	if key == b.key {
		rt.Fatalf("the window got key %#x again", key)
	}
	b.bound, b.key = true, key
	b.sends++
	until(b.t, func() bool { b.poll(); return len(b.got) >= b.sends+b.recvs || b.state(key) })
}

func (m *modelEnd) state(key uint32) bool { return m.dev.stags.lookup(key) != nil }

// quiesce polls until everything is done, and compares. A last message in each
// direction tells that the writes before it are placed.
func quiesce(rt *rapid.T, ends ...*modelEnd) {
	for _, m := range ends {
		m.recv(0, 0, 0)
		m.recvs++
	}
	for _, m := range ends {
		m.send(verbs.SendWR{Op: verbs.OpSend, Flags: verbs.SendSignaled})
		m.sends++
	}
	until(ends[0].t, func() bool {
		done := true
		for _, m := range ends {
			m.poll()
			done = done && len(m.got) >= m.sends+m.recvs
		}
		return done
	})
	for i, m := range ends {
		for _, wc := range m.take() {
			if wc.Status != verbs.WCSuccess {
				rt.Fatalf("end %d: %+v", i, wc)
			}
		}
		m.sends, m.recvs = 0, 0
		if !bytes.Equal(m.mem[:modelLen], m.model) {
			for at := range m.model {
				if m.mem[at] != m.model[at] {
					rt.Fatalf("end %d: memory differs from the model at %#x", i, at)
				}
			}
		}
	}
}

// scope is a test whose clean-up comes before its end.
type scope struct {
	testing.TB
	cleanups []func()
}

func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *scope) end() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// Random segmented sends, writes, reads and invalidations in both directions
// leave the memory that a model has, to the byte. At the end an access that is
// not allowed changes nothing.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{CRC: rapid.Bool().Draw(rt, "crc"), MaxFPDU: rapid.SampledFrom([]int{0, 128, 257, 1460, 9000}).Draw(rt, "fpdu")}
		tb := &scope{TB: t}
		rt.Cleanup(tb.end)
		ea, eb := openPair(tb, cfg)
		a, b := newModelEnd(rt, ea), newModelEnd(rt, eb)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "direction") {
				step(rt, a, b)
			} else {
				step(rt, b, a)
			}
			if a.sends+a.recvs > 60 || b.sends+b.recvs > 60 || rapid.IntRange(0, 9).Draw(rt, "quiesce") == 0 {
				quiesce(rt, a, b)
			}
		}
		quiesce(rt, a, b)
		forbidden(rt, a, b)
	})
}

// forbidden does one access that must be refused.
func forbidden(rt *rapid.T, a, b *modelEnd) {
	n := rapid.IntRange(1, quarter).Draw(rt, "n")
	wr := verbs.SendWR{
		Op: rapid.SampledFrom([]verbs.Op{verbs.OpWrite, verbs.OpRead}).Draw(rt, "op"),
		SG: a.sge(0, n), RAddr: b.addr(0), RKey: b.mr.RKey(),
	}
	switch rapid.SampledFrom([]string{"key", "below", "above", "far", "window"}).Draw(rt, "how") {
	case "key":
		wr.RKey ^= 1 << rapid.IntRange(0, 31).Draw(rt, "bit")
	case "below":
		wr.RAddr -= uint64(rapid.IntRange(1, n).Draw(rt, "by"))
	case "above":
		wr.RAddr += uint64(endMem - n + rapid.IntRange(1, n).Draw(rt, "by"))
	case "far":
		wr.RAddr = ^uint64(rapid.IntRange(0, n).Draw(rt, "by"))
	case "window":
		wr.RKey = b.key // not bound, or this is not in it
		if b.bound {
			wr.RAddr = b.addr(guardAt)
		}
	}
	a.send(wr)
	before := append([]byte(nil), a.mem[:modelLen]...)
	until(a.t, func() bool {
		a.poll()
		b.poll()
		return a.qp.state == qpError && b.qp.state == qpError
	})
	if !bytes.Equal(b.mem[:modelLen], b.model) || !bytes.Equal(a.mem[:modelLen], before) {
		rt.Fatal("memory was changed by an access that was refused")
	}
}

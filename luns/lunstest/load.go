package lunstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/luns"
)

// model compares random requests with a byte slice, in a window at the start
// and one at the end.
func (k *kit) model(t *testing.T, b luns.Backend) {
	u := unit(b)
	n := 48 * u
	for _, base := range []int64{0, b.Info().Size - n} {
		rapid.Check(t, func(rt *rapid.T) {
			m := &machine{rt: rt, t: t, b: b, base: base, unit: u, want: make([]byte, n)}
			write(t, b, m.want, base, 0)
			rt.Repeat(m.actions())
			same(rt, "at the end", base, m.read(0, n), m.want)
		})
	}
}

type machine struct {
	rt         *rapid.T
	t          *testing.T
	b          luns.Backend
	base, unit int64
	want       []byte
	seed       uint64
}

func (m *machine) actions() map[string]func(*rapid.T) {
	a := map[string]func(*rapid.T){"read": m.readSome, "write": m.writeSome}
	if z, ok := luns.As[luns.Zeroer](m.b); ok {
		a["zero"] = func(rt *rapid.T) {
			off, n := m.span(rt)
			m.check(rt, z.WriteZeroes(m.t.Context(), m.base+off, n, rapid.Bool().Draw(rt, "mayUnmap"), 0))
			clear(m.want[off : off+n])
		}
	}
	if u, ok := luns.As[luns.Unmapper](m.b); ok {
		a["unmap"] = func(rt *rapid.T) {
			off, n := m.span(rt)
			m.check(rt, u.Unmap(m.t.Context(), m.base+off, n))
			got := m.read(off, n)
			if m.b.Info().UnmapZeroes {
				same(rt, "unmapped", m.base+off, got, make([]byte, n))
			} else {
				zeroOrOld(rt, "unmapped", int64(m.b.Info().BlockSize), got, m.want[off:off+n])
			}
			copy(m.want[off:], got)
		}
	}
	return a
}

// span draws a range of the window, aligned to the backend's blocks.
func (m *machine) span(rt *rapid.T) (off, n int64) {
	bs := min(m.unit, int64(m.b.Info().BlockSize))
	blocks := int64(len(m.want)) / bs
	first := rapid.Int64Range(0, blocks-1).Draw(rt, "block")
	count := rapid.Int64Range(1, blocks-first).Draw(rt, "blocks")
	return first * bs, count * bs
}

func (m *machine) read(off, n int64) []byte {
	p := poison(make([]byte, n))
	m.check(m.rt, m.b.ReadAt(m.t.Context(), p, m.base+off))
	return p
}

func (m *machine) readSome(rt *rapid.T) {
	off, n := m.span(rt)
	want := m.want[off : off+n]
	same(rt, "ReadAt", m.base+off, m.read(off, n), want)
	tr, ok := luns.As[luns.Trier](m.b)
	if !ok {
		return
	}
	p := poison(make([]byte, n))
	done, err := tr.TryReadAt(p, m.base+off)
	m.check(rt, err)
	if done {
		same(rt, "TryReadAt", m.base+off, p, want)
	}
}

func (m *machine) writeSome(rt *rapid.T) {
	off, n := m.span(rt)
	m.seed++
	p := pattern(m.seed, int(n))
	var f luns.Flags
	// Durable writes are slow on a real disk.
	if rapid.IntRange(0, 15).Draw(rt, "durable") == 15 {
		f = luns.FUA
	}
	done := false
	if tr, ok := luns.As[luns.Trier](m.b); ok && rapid.Bool().Draw(rt, "try") {
		var err error
		done, err = tr.TryWriteAt(p, m.base+off, f)
		m.check(rt, err)
	}
	if !done {
		m.check(rt, m.b.WriteAt(m.t.Context(), p, m.base+off, f))
	}
	copy(m.want[off:], p)
}

func (m *machine) check(rt *rapid.T, err error) {
	if err != nil {
		rt.Helper()
		rt.Fatal(err)
	}
}

// concurrent lets goroutines work at once, each on every fourth piece, so that
// neighbouring pieces, even within a page, belong to different ones.
func (k *kit) concurrent(t *testing.T, b luns.Backend) {
	const workers, pieces, rounds = 4, 16, 60
	u := unit(b)
	var wg sync.WaitGroup
	for w := range int64(workers) {
		wg.Go(func() {
			if err := work(t, b, w, u, workers, pieces, rounds); err != nil {
				t.Errorf("worker %d: %v", w, err)
			}
		})
	}
	wg.Wait()
}

func work(t *testing.T, b luns.Backend, w, u, workers, pieces int64, rounds int) error {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(uint64(w), 1))
	last := make(map[int64][]byte)
	got := make([]byte, u)
	zeroer, canZero := luns.As[luns.Zeroer](b)
	for i := range rounds {
		off := (rng.Int64N(pieces)*workers + w) * u
		var err error
		switch op := rng.IntN(20); {
		case op == 0:
			err = b.Flush(ctx)
		case op == 1 && canZero:
			err = zeroer.WriteZeroes(ctx, off, u, rng.IntN(2) == 0, 0)
			last[off] = make([]byte, u)
		case op < 10:
			p := pattern(uint64(w)<<32|uint64(i), int(u))
			err = b.WriteAt(ctx, p, off, luns.Flags(op&1))
			last[off] = p
		default:
			want, written := last[off]
			if err = b.ReadAt(ctx, got, off); err == nil && written && string(got) != string(want) {
				err = fmt.Errorf("the piece at %d is not what this worker wrote last", off)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// closeUnderLoad closes while others work: they must get ErrOffline or
// success, and nothing may be under way when Close returns.
func (k *kit) closeUnderLoad(t *testing.T, b luns.Backend) {
	u := unit(b)
	var wg sync.WaitGroup
	var calls atomic.Int64
	var closed atomic.Bool
	for w := range int64(4) {
		wg.Go(func() {
			p := pattern(uint64(w), int(u))
			for {
				late := closed.Load()
				var err error
				if w%2 == 0 {
					err = b.WriteAt(t.Context(), p, w*u, 0)
				} else {
					err = b.ReadAt(t.Context(), p, w*u)
				}
				calls.Add(1)
				if errors.Is(err, luns.ErrOffline) {
					return
				}
				if late {
					t.Errorf("a call after Close: %v, want ErrOffline", err)
					return
				}
				if err != nil {
					t.Errorf("while closing: %v, want ErrOffline", err)
					return
				}
			}
		})
	}
	for calls.Load() < 50 {
		time.Sleep(100 * time.Microsecond)
	}
	for range 2 {
		wg.Go(func() {
			if err := b.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			closed.Store(true)
		})
	}
	wg.Wait()
	k.afterClose(t, b, u)
}

// afterClose checks that every method fails, and none panics.
func (k *kit) afterClose(t *testing.T, b luns.Backend, u int64) {
	p, ctx := make([]byte, u), t.Context()
	errs := map[string]error{
		"ReadAt":  b.ReadAt(ctx, p, 0),
		"WriteAt": b.WriteAt(ctx, p, 0, 0),
		"durable": b.WriteAt(ctx, p, 0, luns.FUA),
		"Flush":   b.Flush(ctx),
	}
	if m, ok := luns.As[luns.Unmapper](b); ok {
		errs["Unmap"] = m.Unmap(ctx, 0, u)
	}
	if z, ok := luns.As[luns.Zeroer](b); ok {
		errs["WriteZeroes"] = z.WriteZeroes(ctx, 0, u, true, 0)
	}
	if r, ok := luns.As[luns.Resizer](b); ok {
		errs["Resize"] = r.Resize(ctx, b.Info().Size)
	}
	if r, ok := luns.As[luns.Refresher](b); ok {
		_, errs["Refresh"] = r.Refresh(ctx)
	}
	if e, ok := luns.As[luns.Extenter](b); ok {
		for _, err := range e.Extents(ctx, 0, u) {
			errs["Extents"] = err
		}
	}
	if tr, ok := luns.As[luns.Trier](b); ok {
		if done, err := tr.TryReadAt(p, 0); done {
			errs["TryReadAt"] = err
		}
		if done, err := tr.TryWriteAt(p, 0, 0); done {
			errs["TryWriteAt"] = err
		}
	}
	for name, err := range errs {
		if !errors.Is(err, luns.ErrOffline) {
			t.Errorf("%s after Close: %v, want ErrOffline", name, err)
		}
	}
	if b.Info().BlockSize < 1 {
		t.Error("Info after Close is empty")
	}
}

package pool_test

import (
	"math/rand/v2"
	"testing"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/iser/pool"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

func newPool(t testing.TB, limit int64) *pool.Pool {
	t.Helper()
	prov := softiwarp.New(softiwarp.Config{})
	devices, err := prov.Devices()
	if err != nil {
		t.Fatal(err)
	}
	p := pool.New(devices[0], verbs.AccessLocalWrite, limit)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := prov.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Buffers of random sizes never overlap, are registered, and join again when all
// are back.
func TestRandom(t *testing.T) {
	p := newPool(t, 64<<20)
	a := p.Open()
	defer a.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	type held struct {
		b    *bufpool.Buf
		mark byte
	}
	var all []held
	for i := range 20000 {
		if len(all) > 0 && (rng.IntN(2) == 0 || len(all) > 200) {
			j := rng.IntN(len(all))
			h := all[j]
			for _, v := range []byte{h.b.B[0], h.b.B[len(h.b.B)/2], h.b.B[len(h.b.B)-1]} {
				if v != h.mark {
					t.Fatal("two owners")
				}
			}
			h.b.Release()
			all = append(all[:j], all[j+1:]...)
			continue
		}
		n := 1 + rng.IntN(1<<(1+rng.IntN(22)))
		b := a.Get(n)
		if b == nil {
			continue
		}
		if len(b.B) != n {
			t.Fatalf("%d bytes, want %d", len(b.B), n)
		}
		if _, ok := p.LKey(b.B); !ok {
			t.Fatal("not registered")
		}
		if verbs.Addr(b.B)%4096 != 0 {
			t.Fatal("not aligned")
		}
		mark := byte(i)
		b.B[0], b.B[n/2], b.B[n-1] = mark, mark, mark
		all = append(all, held{b, mark})
	}
	for _, h := range all {
		h.b.Release()
	}
	if p.InUse() != 0 {
		t.Errorf("%d bytes in use", p.InUse())
	}
	for range 4 { // everything has joined: four of the largest are there
		b := a.Get(16 << 20)
		if b == nil {
			t.Fatal("slabs are in pieces")
		}
		defer b.Release()
	}
	if a.Get(1) != nil {
		t.Error("the limit is passed")
	}
}

// A connection that takes all leaves the others their share (B10).
func TestShare(t *testing.T) {
	p := newPool(t, 128<<20)
	greedy, modest := p.Open(), p.Open()
	var all []*bufpool.Buf
	for {
		b := greedy.Get(1 << 20)
		if b == nil {
			break
		}
		all = append(all, b)
	}
	if len(all) != 64 {
		t.Errorf("the greedy one has %d MiB of 128, want half", len(all))
	}
	for range 60 {
		b := modest.Get(1 << 20)
		if b == nil {
			t.Fatal("starved")
		}
		all = append(all, b)
	}
	for _, b := range all {
		b.Release()
	}
	greedy.Close()
	modest.Close()
}

func TestRange(t *testing.T) {
	a := newPool(t, 16<<20).Open()
	for _, n := range []int{-1, 0, 16<<20 + 1} {
		if a.Get(n) != nil {
			t.Errorf("Get(%d) gave a buffer", n)
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	a := newPool(t, 16<<20).Open()
	a.Get(4096).Release()
	if n := testing.AllocsPerRun(100, func() { a.Get(4096).Release() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGetRelease(b *testing.B) {
	a := newPool(b, 16<<20).Open()
	b.ReportAllocs()
	for b.Loop() {
		a.Get(4096).Release()
	}
}

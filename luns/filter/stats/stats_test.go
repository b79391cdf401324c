package stats_test

import (
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/filter/fault"
	"github.com/iserd/iserd/luns/filter/stats"
	"github.com/iserd/iserd/luns/lunstest"
	"github.com/iserd/iserd/luns/memory"
)

func disk(t *testing.T) luns.Backend {
	t.Helper()
	m, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAcceptance(t *testing.T) {
	lunstest.Run(t, func(t *testing.T) luns.Backend { return stats.New(disk(t)) })
}

func TestCounters(t *testing.T) {
	var clock atomic.Int64
	faulty := fault.New(disk(t))
	b := stats.New(faulty, stats.WithClock(func() int64 { return clock.Add(100) }))
	defer b.Close()
	ctx, p := t.Context(), make([]byte, 4096)
	for range 3 {
		_ = b.ReadAt(ctx, p, 0)
	}
	_ = b.WriteAt(ctx, p, 0, luns.FUA)
	faulty.Inject(fault.Rule{Ops: filter.Write})
	_ = b.WriteAt(ctx, p, 0, 0)
	_ = b.Flush(ctx)
	u, _ := luns.As[luns.Unmapper](b)
	_ = u.Unmap(ctx, 0, 1<<20)
	e, _ := luns.As[luns.Extenter](b)
	for range e.Extents(ctx, 0, 4096) {
	}
	count := func(ops, bytes, errors uint64) stats.Counters {
		c := stats.Counters{Ops: ops, Bytes: bytes, Errors: errors, Nanoseconds: 100 * ops}
		c.Latency[7] = ops // 64 <= 100 < 128
		return c
	}
	got := b.Snapshot()
	var want stats.Snapshot
	*want.Of(filter.Read) = count(3, 3*4096, 0)
	*want.Of(filter.Write) = count(2, 4096, 1)
	*want.Of(filter.Flush) = count(1, 0, 0)
	*want.Of(filter.Unmap) = count(1, 1<<20, 0)
	*want.Of(filter.Extents) = count(1, 0, 0)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCapabilities(t *testing.T) {
	b := stats.New(disk(t))
	defer b.Close()
	if _, ok := luns.As[luns.Mapper](b); ok {
		t.Error("Mapper is passed on: its use could not be counted")
	}
	tr, ok := luns.As[luns.Trier](b)
	if !ok {
		t.Fatal("Trier is not passed on")
	}
	p := make([]byte, 512)
	if done, err := tr.TryReadAt(p, 0); !done || err != nil {
		t.Fatal(done, err)
	}
	if done, err := tr.TryWriteAt(p, 0, 0); !done || err != nil {
		t.Fatal(done, err)
	}
	s := b.Snapshot()
	if s.Of(filter.Read).Ops != 1 || s.Of(filter.Write).Bytes != 512 {
		t.Errorf("tried requests are not counted: %+v", s)
	}
	if _, ok := luns.As[luns.Refresher](b); ok {
		t.Error("has a Refresher that the backend below has not")
	}
}

func TestAllocations(t *testing.T) {
	b := stats.New(disk(t))
	defer b.Close()
	tr, _ := luns.As[luns.Trier](b)
	ctx, p := t.Context(), make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		_ = b.ReadAt(ctx, p, 0)
		_ = b.WriteAt(ctx, p, 0, 0)
		_, _ = tr.TryReadAt(p, 0)
	}); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

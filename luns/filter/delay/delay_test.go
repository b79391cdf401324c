package delay_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/filter/delay"
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
	lunstest.Run(t, func(t *testing.T) luns.Backend {
		return delay.New(disk(t), []delay.Latency{{Ops: filter.Flush, Random: time.Microsecond}})
	})
}

func TestLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := delay.New(disk(t), []delay.Latency{
			{Ops: filter.All, Fixed: time.Second},
			{Ops: filter.Write | filter.Flush, Fixed: time.Minute, Random: 10 * time.Second},
		}, delay.WithRand(func(n int64) int64 { return n / 2 }))
		unmapper, ok := luns.As[luns.Unmapper](b)
		if !ok {
			t.Fatal("no Unmapper")
		}
		ctx, p := t.Context(), make([]byte, 512)
		for _, c := range []struct {
			name string
			call func() error
			want time.Duration
		}{
			{"read", func() error { return b.ReadAt(ctx, p, 0) }, time.Second},
			{"write", func() error { return b.WriteAt(ctx, p, 0, 0) }, 65 * time.Second},
			{"flush", func() error { return b.Flush(ctx) }, 65 * time.Second},
			{"unmap", func() error { return unmapper.Unmap(ctx, 0, 512) }, time.Second},
		} {
			start := time.Now()
			if err := c.call(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if d := time.Since(start); d != c.want {
				t.Errorf("%s took %v, want %v", c.name, d, c.want)
			}
		}
		b.Set(nil)
		start := time.Now()
		if err := b.ReadAt(ctx, p, 0); err != nil || time.Since(start) != 0 {
			t.Errorf("after Set(nil): %v in %v", err, time.Since(start))
		}
	})
}

func TestContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := delay.New(disk(t), []delay.Latency{{Ops: filter.All, Fixed: time.Hour}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.ReadAt(ctx, make([]byte, 512), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ReadAt: %v", err)
		}
	})
}

func TestNothingGoesPast(t *testing.T) {
	b := delay.New(disk(t), nil)
	defer b.Close()
	if _, ok := luns.As[luns.Mapper](b); ok {
		t.Error("Mapper is passed on")
	}
	if _, ok := luns.As[luns.Trier](b); ok {
		t.Error("Trier is passed on")
	}
}

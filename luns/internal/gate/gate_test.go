package gate_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/iserd/iserd/luns/internal/gate"
)

func TestGate(t *testing.T) {
	for range 300 {
		var g gate.Gate
		g.Init()
		var inside, closers atomic.Int64
		var shut atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for g.Enter() {
					inside.Add(1)
					if shut.Load() {
						t.Error("inside after Close returned")
					}
					inside.Add(-1)
					g.Leave()
				}
			})
		}
		for range 3 {
			wg.Go(func() {
				first := g.Close()
				if n := inside.Load(); n != 0 {
					t.Errorf("Close returned with %d inside", n)
				}
				shut.Store(true)
				if first {
					closers.Add(1)
				}
			})
		}
		wg.Wait()
		if closers.Load() != 1 || !g.Closed() || g.Enter() {
			t.Fatalf("%d closers, closed %v", closers.Load(), g.Closed())
		}
	}
}

package scsi

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

func waitOn(*lockWaiter) bool { return true }

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		name   string
		off, n int64
		want   []int
	}{
		{"first byte", 0, 1, []int{0}},
		{"one stripe", 0, stripeBytes, []int{0}},
		{"two stripes", stripeBytes - 1, 2, []int{0, 1}},
		{"wrapped", (numStripes - 1) * stripeBytes, 3 * stripeBytes, []int{0, 1, numStripes - 1}},
		{"second lap", (numStripes + 5) * stripeBytes, 1, []int{5}},
		{"far end", 1<<63 - 1 - stripeBytes, stripeBytes, []int{numStripes - 2, numStripes - 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spanOf(tt.off, tt.n, shared)
			if s.n != len(tt.want) {
				t.Fatalf("%+v, want stripes %v", s, tt.want)
			}
			for i, want := range tt.want {
				if got := s.at(i); got != want {
					t.Errorf("stripe %d is %d, want %d", i, got, want)
				}
			}
		})
	}
	if s := spanOf(5*stripeBytes, 1<<40, shared); s.first != 0 || s.n != numStripes {
		t.Errorf("a range longer than the lock: %+v", s)
	}
}

// TestRangeLockFIFO checks that a waiting writer is neither overtaken by
// readers nor starves them.
func TestRangeLockFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l rangeLock
		r, w := spanOf(0, 1, shared), spanOf(0, 1, exclusive)
		first, second := l.try(r), l.try(r)
		if !first || !second || l.try(w) {
			t.Fatal("two readers, no writer")
		}
		var order []string
		var mu sync.Mutex
		enter := func(name string, s span) {
			go func() {
				l.lock(s, waitOn)
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				l.unlock(s)
			}()
			synctest.Wait()
		}
		enter("writer", w)
		if l.try(r) {
			t.Fatal("a reader overtook a waiting writer")
		}
		enter("reader", r)
		enter("writer 2", w)
		l.unlock(r)
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%v entered beside a reader", order)
		}
		l.unlock(r)
		synctest.Wait()
		if len(order) != 3 || order[0] != "writer" || order[1] != "reader" || order[2] != "writer 2" {
			t.Errorf("order %v", order)
		}
		if !l.try(w) || len(l.queues) != 0 {
			t.Error("not free at the end")
		}
	})
}

func TestRangeLockCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l rangeLock
		w := spanOf(0, 2*stripeBytes, exclusive)
		if !l.try(spanOf(stripeBytes, 1, shared)) {
			t.Fatal("try")
		}
		var waiter *lockWaiter
		result := make(chan bool, 2)
		go func() {
			result <- l.lock(w, func(w *lockWaiter) bool { waiter = w; return true })
		}()
		synctest.Wait()
		if l.try(spanOf(0, 1, shared)) {
			t.Error("the first stripe is not held while waiting for the second")
		}
		// A reader behind the writer goes on when the writer is cancelled.
		go func() { result <- l.lock(spanOf(stripeBytes, 1, shared), waitOn) }()
		synctest.Wait()
		l.cancel(waiter)
		l.cancel(waiter)
		if got := [2]bool{<-result, <-result}; got[0] == got[1] {
			t.Errorf("results %v, want one cancelled", got)
		}
		if !l.try(spanOf(0, 1, exclusive)) {
			t.Error("a cancelled wait left a stripe locked")
		}
		// Given up before the wait.
		if l.lock(w, func(*lockWaiter) bool { return false }) {
			t.Error("locked in spite of giving up")
		}
		go func() { result <- l.lock(w, waitOn) }()
		synctest.Wait()
		l.cancelAll()
		if <-result || l.lock(w, waitOn) {
			t.Error("cancelAll cancels waits and refuses new ones")
		}
	})
}

// TestRangeLockRace holds random ranges from eight goroutines and checks
// exclusion by counters that the race detector watches.
func TestRangeLockRace(t *testing.T) {
	rounds := 4000
	if testing.Short() {
		rounds = 500
	}
	var l rangeLock
	var writers [numStripes]int // written under the exclusive lock only
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			for range rounds {
				kind := lockKind(rng.IntN(2))
				off := rng.Int64N(40) * stripeBytes
				if rng.IntN(2) == 0 {
					off += (numStripes - 20) * stripeBytes // wraps around
				}
				s := spanOf(off, 1+rng.Int64N(6*stripeBytes), kind)
				ok := rng.IntN(3) == 0 && l.try(s)
				if !ok {
					ok = l.lock(s, func(*lockWaiter) bool { return rng.IntN(50) != 0 })
				}
				if !ok {
					continue
				}
				for k := range s.n {
					if kind == exclusive {
						writers[s.at(k)]++
					} else if writers[s.at(k)] < 0 {
						t.Error("negative")
					}
				}
				l.unlock(s)
			}
		})
	}
	wg.Wait()
	for i := range l.stripes {
		if v := l.stripes[i].Load(); v != 0 {
			t.Fatalf("stripe %d is left as %#x", i, v)
		}
	}
	if len(l.queues) != 0 {
		t.Error("waiters left")
	}
}

func BenchmarkRangeLock(b *testing.B) {
	for _, kind := range []lockKind{shared, exclusive} {
		b.Run([]string{"shared", "exclusive"}[kind], func(b *testing.B) {
			var l rangeLock
			b.ReportAllocs()
			i := int64(0)
			for b.Loop() {
				s := spanOf(i*4096, 4096, kind)
				if !l.try(s) {
					b.Fatal("contended")
				}
				l.unlock(s)
				i++
			}
		})
	}
}

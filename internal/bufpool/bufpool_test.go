package bufpool_test

import (
	"sync"
	"testing"
	"unsafe"

	"github.com/iserd/iserd/internal/bufpool"
)

func TestSizesAndAlignment(t *testing.T) {
	p := bufpool.New(64 << 20)
	for _, n := range []int{1, 512, 4096, 4097, 65536, 65537, 1 << 20, bufpool.MaxSize} {
		b := p.Get(n)
		if b == nil {
			t.Fatalf("Get(%d) = nil", n)
		}
		if len(b.B) != n {
			t.Errorf("Get(%d): len %d", n, len(b.B))
		}
		if uintptr(unsafe.Pointer(&b.B[0]))%bufpool.Align != 0 {
			t.Errorf("Get(%d): not aligned", n)
		}
		b.Release()
	}
	if got := p.InUse(); got != 0 {
		t.Errorf("InUse after release = %d", got)
	}
}

func TestLimit(t *testing.T) {
	p := bufpool.New(8192)
	a, b := p.Get(4096), p.Get(100)
	if a == nil || b == nil {
		t.Fatal("two 4 KiB classes must fit in 8 KiB")
	}
	if c := p.Get(1); c != nil {
		t.Fatal("cap passed")
	}
	a.Release()
	if c := p.Get(1); c == nil {
		t.Fatal("released bytes not usable")
	}
}

func TestRange(t *testing.T) {
	p := bufpool.New(1 << 30)
	for _, n := range []int{-1, 0, bufpool.MaxSize + 1} {
		if p.Get(n) != nil {
			t.Errorf("Get(%d) gave a buffer", n)
		}
	}
}

func TestDoubleReleasePanics(t *testing.T) {
	p := bufpool.New(1 << 20)
	b := p.Get(1)
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("second Release did not panic")
		}
	}()
	b.Release()
}

func TestConcurrentOwnership(t *testing.T) {
	p := bufpool.New(1 << 20)
	var wg sync.WaitGroup
	for g := range byte(8) {
		wg.Go(func() {
			for range 2000 {
				b := p.Get(4096)
				if b == nil {
					continue
				}
				b.B[0], b.B[4095] = g, g
				if b.B[0] != g || b.B[4095] != g {
					t.Error("two owners of one buffer")
				}
				b.Release()
			}
		})
	}
	wg.Wait()
	if p.InUse() != 0 {
		t.Errorf("InUse = %d", p.InUse())
	}
}

func BenchmarkGetRelease(b *testing.B) {
	p := bufpool.New(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		p.Get(4096).Release()
	}
}

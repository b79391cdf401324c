package memory_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/lunstest"
	"github.com/iserd/iserd/luns/memory"
)

func open(t testing.TB, size int64) *memory.Backend {
	t.Helper()
	b, err := memory.New(memory.Options{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestAcceptance(t *testing.T) {
	for _, size := range []int64{1 << 20, 300<<10 + 512, 1 << 30} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			lunstest.Run(t, func(t *testing.T) luns.Backend { return open(t, size) })
		})
	}
}

// Pinned memory passes as well, and stays allocated whatever is unmapped.
func TestPin(t *testing.T) {
	pinned := func(t *testing.T) *memory.Backend {
		b, err := memory.New(memory.Options{Size: 1 << 20, MaxSize: 4 << 20, Pin: true})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lunstest.Run(t, func(t *testing.T) luns.Backend { return pinned(t) })
	b := pinned(t)
	defer b.Close()
	if err := b.Resize(t.Context(), 2<<20); err != nil {
		t.Fatal(err)
	}
	if err := b.Unmap(t.Context(), 0, 2<<20); err != nil {
		t.Fatal(err)
	}
	for e, err := range b.Extents(t.Context(), 0, 2<<20) {
		if err != nil || e.State != luns.Mapped {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// Those who know the pages of the memory hear of it before they are given back, and
// when they are.
func TestOnRelease(t *testing.T) {
	b := open(t, 1<<20)
	if err := b.WriteAt(t.Context(), bytes.Repeat([]byte{1}, 1<<20), 0, 0); err != nil {
		t.Fatal(err)
	}
	var got []string
	cancel := b.OnRelease(func(off, n int64) func() {
		got = append(got, fmt.Sprintf("%d+%d %d", off, n, b.Memory()[off]))
		return func() { got = append(got, fmt.Sprint(b.Memory()[off])) }
	})
	for _, r := range []struct{ off, n int64 }{{100, 1000}, {4096, 8192}, {20000, 20000}} {
		if err := b.Unmap(t.Context(), r.off, r.n); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := b.Unmap(t.Context(), 0, 1<<20); err != nil {
		t.Fatal(err)
	}
	if want := "[4096+8192 1 0 20480+16384 1 0]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// A restarted logical unit must find what it wrote.
func TestOpenerKeepsContent(t *testing.T) {
	var last luns.Opener
	lunstest.Run(t, func(t *testing.T) luns.Backend {
		op, err := memory.NewOpener(memory.Options{Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		last = op
		return reopen(t, op)
	}, lunstest.Persistent(func(t *testing.T) luns.Backend { return reopen(t, last) }))
}

func reopen(t *testing.T, op luns.Opener) luns.Backend {
	t.Helper()
	b, err := op(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOptions(t *testing.T) {
	for _, o := range []memory.Options{{}, {Size: -1}, {Size: 10, MaxSize: 5}, {Size: 1 << 50}, {Size: 1, MaxSize: 1 << 50}} {
		if _, err := memory.New(o); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		}
		if _, err := memory.NewOpener(o); err == nil {
			t.Errorf("NewOpener(%+v) succeeded", o)
		}
	}
}

func TestResizeLimit(t *testing.T) {
	b, err := memory.New(memory.Options{Size: 1 << 20, MaxSize: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		size int64
		ok   bool
	}{{2 << 20, true}, {2<<20 + 1, false}, {-1, false}, {0, true}, {12345, true}} {
		if err := b.Resize(t.Context(), c.size); (err == nil) != c.ok {
			t.Errorf("Resize(%d): %v", c.size, err)
		}
	}
	if got := len(b.Memory()); got != 12345 {
		t.Errorf("Memory has %d bytes", got)
	}
	if err := b.ReadAt(t.Context(), make([]byte, 512), 12300); err == nil {
		t.Error("a read beyond the end succeeded")
	}
}

// A holder of an older slice may write behind the end; it must not show up.
func TestResizeHidesStaleWrites(t *testing.T) {
	b := open(t, 1<<20)
	old := b.Memory()
	if err := b.Resize(t.Context(), 4096); err != nil {
		t.Fatal(err)
	}
	copy(old[8192:], "stale")
	if err := b.Resize(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Memory()[8192:8192+5], make([]byte, 5)) {
		t.Error("data written behind the end appeared")
	}
}

func TestSparse(t *testing.T) {
	const size = 1 << 30
	b := open(t, size)
	before := rss(t)
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if err := b.ReadAt(t.Context(), buf, off); err != nil {
			t.Fatal(err)
		}
	}
	if grown := rss(t) - before; grown > 64<<20 {
		t.Errorf("reading 1 GiB of untouched space took %d MiB", grown>>20)
	}
	if err := b.WriteZeroes(t.Context(), 0, size, true, 0); err != nil {
		t.Fatal(err)
	}
	if grown := rss(t) - before; grown > 64<<20 {
		t.Errorf("zeroing it took %d MiB", grown>>20)
	}
	for off := int64(0); off < 256<<20; off += int64(len(buf)) {
		buf[0] = 1
		if err := b.WriteAt(t.Context(), buf, off, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Unmap(t.Context(), 100, 256<<20); err != nil {
		t.Fatal(err)
	}
	if grown := rss(t) - before; grown > 64<<20 {
		t.Errorf("after writing and unmapping 256 MiB %d MiB are left", grown>>20)
	}
	mapped := int64(0)
	for x, err := range b.Extents(t.Context(), 1<<29, 1<<20) {
		if err != nil {
			t.Fatal(err)
		}
		if x.State == luns.Mapped {
			mapped += x.Len
		}
	}
	if mapped != 0 {
		t.Logf("%d bytes of untouched space count as mapped: they were read", mapped)
	}
}

// rss returns the anonymous resident memory of the process in bytes.
func rss(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("needs /proc")
	}
	_, rest, ok := bytes.Cut(status, []byte("RssAnon:"))
	var kb int64
	if _, err := fmt.Sscan(string(rest), &kb); !ok || err != nil {
		t.Skip("needs RssAnon in /proc/self/status")
	}
	return kb << 10
}

// Opening and closing many times must not use up the address space.
func TestCloseReleasesAddresses(t *testing.T) {
	for range 5000 {
		b, err := memory.New(memory.Options{Size: 4096, MaxSize: 1 << 36})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLateAccessDoesNotFault(t *testing.T) {
	b := open(t, 1<<20)
	mem := b.Memory()
	mem[5] = 7
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if mem[5] != 0 {
		t.Error("content outlived Close")
	}
	if err := b.WriteAt(t.Context(), mem[:10], 0, 0); !errors.Is(err, luns.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
}

func TestAllocations(t *testing.T) {
	b := open(t, 1<<20)
	buf, ctx := make([]byte, 4096), t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_ = b.ReadAt(ctx, buf, 4096)
		_ = b.WriteAt(ctx, buf, 8192, luns.FUA)
		_, _ = b.TryReadAt(buf, 0)
	}); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkMemory(b *testing.B) {
	m := open(b, 64<<20)
	buf, ctx := make([]byte, 4096), b.Context()
	for off := int64(0); off < 64<<20; off += 4096 {
		_ = m.WriteAt(ctx, buf, off, 0)
	}
	for _, c := range []struct {
		name string
		f    func(off int64) error
	}{
		{"Read4k", func(off int64) error { return m.ReadAt(ctx, buf, off) }},
		{"Write4k", func(off int64) error { return m.WriteAt(ctx, buf, off, 0) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(4096)
			for i := 0; b.Loop(); i++ {
				if err := c.f(int64(i) * 4096 % (64 << 20)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestExtentsOfWhatWasRead: pages that were only read are not mapped, pages
// that were written are.
func TestExtentsOfWhatWasRead(t *testing.T) {
	b, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := make([]byte, 64<<10)
	if err := b.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteAt(t.Context(), p, 512<<10, 0); err != nil {
		t.Fatal(err)
	}
	var mapped int64
	for e, err := range b.Extents(t.Context(), 0, 1<<20) {
		if err != nil {
			t.Fatal(err)
		}
		if e.State == luns.Mapped {
			mapped += e.Len
			if e.Off != 512<<10 {
				t.Errorf("mapped at %d", e.Off)
			}
		}
	}
	if mapped != 64<<10 {
		t.Errorf("%d bytes mapped, want %d", mapped, 64<<10)
	}
}

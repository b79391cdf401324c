package lunstest

import (
	"testing"

	"github.com/iserd/iserd/luns"
)

func (k *kit) unmap(t *testing.T, b luns.Backend) {
	m, ok := luns.As[luns.Unmapper](b)
	if !ok {
		t.Skip("no Unmapper")
	}
	u, bs := unit(b), int64(b.Info().BlockSize)
	n := min(256*u, b.Info().Size/u*u)
	old := pattern(6, int(n))
	for _, c := range []struct {
		name    string
		off, ln int64
	}{
		{"nothing", u, 0},
		{"one block", 3 * bs, bs},
		{"odd blocks", 5 * bs, 77 * bs},
		{"everything written", 0, n},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, b, old, 0, 0)
			if err := m.Unmap(t.Context(), c.off, c.ln); err != nil {
				t.Fatalf("Unmap(%d, %d): %v", c.off, c.ln, err)
			}
			got, end := read(t, b, 0, n), c.off+c.ln
			same(t, "before the range", 0, got[:c.off], old[:c.off])
			same(t, "behind the range", end, got[end:], old[end:])
			if b.Info().UnmapZeroes {
				same(t, "unmapped range", c.off, got[c.off:end], make([]byte, c.ln))
			} else {
				zeroOrOld(t, "unmapped range", bs, got[c.off:end], old[c.off:end])
			}
			write(t, b, old, 0, 0)
			same(t, "written again", 0, read(t, b, 0, n), old)
		})
	}
}

func (k *kit) writeZeroes(t *testing.T, b luns.Backend) {
	z, ok := luns.As[luns.Zeroer](b)
	if !ok {
		t.Skip("no Zeroer")
	}
	u, bs := unit(b), int64(b.Info().BlockSize)
	n := min(2048*u, b.Info().Size/u*u)
	old := pattern(7, int(n))
	for _, c := range []struct {
		name     string
		off, ln  int64
		mayUnmap bool
		f        luns.Flags
	}{
		{"nothing", 0, 0, true, 0},
		{"one block", 3 * bs, bs, false, 0},
		{"odd blocks, durable", 5 * bs, 77 * bs, false, luns.FUA},
		{"odd blocks, may unmap", 5 * bs, 77 * bs, true, 0},
		{"everything written", 0, n, false, 0},
		{"everything written, may unmap", 0, n, true, luns.FUA},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, b, old, 0, 0)
			if err := z.WriteZeroes(t.Context(), c.off, c.ln, c.mayUnmap, c.f); err != nil {
				t.Fatalf("WriteZeroes(%d, %d): %v", c.off, c.ln, err)
			}
			got, end := read(t, b, 0, n), c.off+c.ln
			same(t, "before the range", 0, got[:c.off], old[:c.off])
			same(t, "zeroed range", c.off, got[c.off:end], make([]byte, c.ln))
			same(t, "behind the range", end, got[end:], old[end:])
		})
	}
}

func (k *kit) extents(t *testing.T, b luns.Backend) {
	e, ok := luns.As[luns.Extenter](b)
	if !ok {
		t.Skip("no Extenter")
	}
	u, size := unit(b), b.Info().Size
	write(t, b, pattern(8, int(3*u)), 0, 0)
	write(t, b, pattern(9, int(u)), size/2-size/2%u, 0)
	if m, ok := luns.As[luns.Unmapper](b); ok {
		if err := m.Unmap(t.Context(), u, u); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ off, n int64 }{{0, size}, {u, 2 * u}, {size - u, u}, {size, 0}} {
		next, checks := c.off, 32
		for x, err := range e.Extents(t.Context(), c.off, c.n) {
			if err != nil {
				t.Fatalf("Extents(%d, %d): %v", c.off, c.n, err)
			}
			if x.Off != next || x.Len <= 0 || x.Off+x.Len > c.off+c.n {
				t.Fatalf("Extents(%d, %d): %+v follows offset %d", c.off, c.n, x, next)
			}
			next += x.Len
			if x.State == luns.Deallocated && b.Info().UnmapZeroes && checks > 0 {
				checks--
				n := min(x.Len, 1<<20) / u * u
				same(t, "deallocated extent", x.Off, read(t, b, x.Off, n), make([]byte, n))
			}
		}
		if next != c.off+c.n {
			t.Fatalf("Extents(%d, %d) end at %d", c.off, c.n, next)
		}
	}
	for _, err := range e.Extents(t.Context(), 0, size) {
		if err != nil {
			t.Error(err)
		}
		break // stopping early is allowed
	}
}

func (k *kit) resize(t *testing.T, b luns.Backend) {
	r, ok := luns.As[luns.Resizer](b)
	if !ok {
		t.Skip("no Resizer")
	}
	u, size := unit(b), b.Info().Size
	bigger := size + 100*u
	if err := r.Resize(t.Context(), bigger); err != nil {
		t.Skipf("does not grow: %v", err)
	}
	if got := b.Info().Size; got != bigger {
		t.Fatalf("Size after growing to %d: %d", bigger, got)
	}
	same(t, "new space", size, read(t, b, size, 100*u), make([]byte, 100*u))
	write(t, b, pattern(10, int(100*u)), size, 0)
	if err := r.Resize(t.Context(), size); err != nil {
		t.Logf("does not shrink: %v", err)
		if got := b.Info().Size; got != bigger {
			t.Fatalf("Size after a refused shrinking: %d, want %d", got, bigger)
		}
		return
	}
	if got := b.Info().Size; got != size {
		t.Fatalf("Size after shrinking to %d: %d", size, got)
	}
	if err := r.Resize(t.Context(), bigger); err != nil {
		t.Fatalf("grow again: %v", err)
	}
	same(t, "space cut off and added again", size, read(t, b, size, 100*u), make([]byte, 100*u))
}

func (k *kit) mapper(t *testing.T, b luns.Backend) {
	m, ok := luns.As[luns.Mapper](b)
	if !ok {
		t.Skip("no Mapper")
	}
	mem, u := m.Memory(), unit(b)
	if int64(len(mem)) != b.Info().Size {
		t.Fatalf("Memory has %d bytes, Size is %d", len(mem), b.Info().Size)
	}
	want := pattern(11, int(2*u))
	write(t, b, want[:u], u, 0)
	copy(mem[2*u:], want[u:])
	same(t, "Memory", u, mem[u:3*u], want)
	same(t, "ReadAt", u, read(t, b, u, 2*u), want)
}

func (k *kit) trier(t *testing.T, b luns.Backend) {
	tr, ok := luns.As[luns.Trier](b)
	if !ok {
		t.Skip("no Trier")
	}
	u := unit(b)
	var reads, writes int
	for i := range int64(64) {
		want := pattern(uint64(i), int((i%9+1)*u))
		off := i % 7 * u
		f := luns.Flags(i % 2)
		done, err := tr.TryWriteAt(want, off, f)
		if err != nil {
			t.Fatalf("TryWriteAt: %v", err)
		}
		if done {
			writes++
		} else {
			write(t, b, want, off, f)
		}
		same(t, "ReadAt after TryWriteAt", off, read(t, b, off, int64(len(want))), want)
		got := poison(make([]byte, len(want)))
		done, err = tr.TryReadAt(got, off)
		if err != nil {
			t.Fatalf("TryReadAt: %v", err)
		}
		if done {
			reads++
			same(t, "TryReadAt", off, got, want)
		}
	}
	t.Logf("of 64 each, %d reads and %d writes were done at once", reads, writes)
}

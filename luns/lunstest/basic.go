package lunstest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/iserd/iserd/luns"
)

func (k *kit) info(t *testing.T, b luns.Backend) {
	i := b.Info()
	if i.BlockSize < 1 || i.BlockSize&(i.BlockSize-1) != 0 {
		t.Errorf("BlockSize is %d, want a power of two", i.BlockSize)
	}
	if i.Size < 256<<10 || i.Size%int64(i.BlockSize) != 0 {
		t.Errorf("Size is %d, want at least 256 KiB in blocks of %d", i.Size, i.BlockSize)
	}
	if i.ReadOnly {
		t.Error("ReadOnly: the kit needs a backend that can be written")
	}
	if _, ok := luns.As[luns.Unmapper](b); !ok && i.UnmapZeroes {
		t.Error("UnmapZeroes is set, but there is no Unmapper")
	}
	if j := b.Info(); i != j {
		t.Errorf("Info changed by itself: %+v, then %+v", i, j)
	}
}

func (k *kit) unwritten(t *testing.T, b luns.Backend) {
	if k.dirty {
		t.Skip("a new backend has any content")
	}
	n := 64 * unit(b)
	for _, off := range []int64{0, b.Info().Size/2 - b.Info().Size/2%unit(b), b.Info().Size - n} {
		same(t, "unwritten space", off, read(t, b, off, n), make([]byte, n))
	}
}

func (k *kit) ranges(t *testing.T, b luns.Backend) {
	u, size := int64(b.Info().BlockSize), b.Info().Size
	for i, c := range []struct {
		name   string
		off, n int64
	}{
		{"nothing", 0, 0},
		{"nothing at the end", size, 0},
		{"first block", 0, u},
		{"last block", size - u, u},
		{"odd blocks", 3 * u, 7 * u},
		{"across 4 KiB", 4096*u - u, 2 * u},
		{"128 KiB", 5 * u, (128 << 10) / u * u},
		{"larger than any bounce buffer", size - min(size, 4<<20), min(size, 4<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.off+c.n > size {
				t.Skip("does not fit")
			}
			// Odd addresses: buffers need no alignment.
			want := append([]byte{0}, pattern(uint64(i), int(c.n))...)[1:]
			keep := bytes.Clone(want)
			write(t, b, want, c.off, 0)
			same(t, "buffer after WriteAt", 0, want, keep)
			got := poison(make([]byte, c.n+1))[1:]
			if err := b.ReadAt(t.Context(), got, c.off); err != nil {
				t.Fatal(err)
			}
			same(t, "read back", c.off, got, want)
		})
	}
}

func (k *kit) neighbours(t *testing.T, b luns.Backend) {
	u := int64(b.Info().BlockSize)
	n := 64 * unit(b)
	want := pattern(1, int(n))
	write(t, b, want, 0, 0)
	for i := range int64(20) {
		off, l := (i*i*3+i)%40*u, (i%5+1)*u
		p := pattern(uint64(100+i), int(l))
		write(t, b, p, off, 0)
		copy(want[off:], p)
	}
	same(t, "after overwriting parts", 0, read(t, b, 0, n), want)
}

func (k *kit) durable(t *testing.T, b luns.Backend) {
	u := unit(b)
	want := pattern(2, int(8*u))
	write(t, b, want[:4*u], 0, luns.FUA)
	write(t, b, want[4*u:], 4*u, 0)
	for range 2 {
		if err := b.Flush(t.Context()); err != nil {
			t.Fatalf("Flush: %v", err)
		}
	}
	same(t, "after Flush", 0, read(t, b, 0, 8*u), want)
	// Not aligned in memory, and more than one bounce buffer.
	big := append([]byte{0}, pattern(3, 640<<10)...)[1:]
	if int64(len(big)) > b.Info().Size {
		return
	}
	write(t, b, big, 0, luns.FUA)
	same(t, "large durable write", 0, read(t, b, 0, int64(len(big))), big)
}

func (k *kit) context(t *testing.T, b luns.Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u := unit(b)
	want := pattern(4, int(u))
	if err := b.WriteAt(ctx, want, 0, 0); err == nil {
		same(t, "written although the context had ended", 0, read(t, b, 0, u), want)
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("WriteAt with an ended context: %v", err)
	}
	if err := b.ReadAt(ctx, want, 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAt with an ended context: %v", err)
	}
	if err := b.Flush(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Flush with an ended context: %v", err)
	}
	write(t, b, want, 0, 0) // and it goes on working
}

func (k *kit) refresh(t *testing.T, b luns.Backend) {
	r, ok := luns.As[luns.Refresher](b)
	if !ok {
		t.Skip("no Refresher")
	}
	size, err := r.Refresh(t.Context())
	if err != nil || size != b.Info().Size {
		t.Fatalf("Refresh: %d, %v, want %d", size, err, b.Info().Size)
	}
}

func (k *kit) reopens(t *testing.T, b luns.Backend) {
	if k.reopen == nil {
		t.Skip("content ends with Close")
	}
	u := unit(b)
	info := b.Info()
	want := pattern(5, int(16*u))
	write(t, b, want, 2*u, 0)
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := k.reopen(t)
	defer again.Close()
	same(t, "after reopening", 2*u, read(t, again, 2*u, 16*u), want)
	if got := again.Info(); got != info {
		t.Errorf("Info after reopening: %+v, before: %+v", got, info)
	}
}

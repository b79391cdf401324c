package luns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/lunstest"
)

// ram is an io.ReaderAt and io.WriterAt with everything that
// FromReaderWriterAt looks for.
type ram struct {
	mu      sync.RWMutex
	b       []byte
	syncErr error
	syncs   int
	closed  bool
}

func (r *ram) ReadAt(p []byte, off int64) (int, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := copy(p, r.b[min(off, int64(len(r.b))):])
	if off+int64(n) == int64(len(r.b)) {
		return n, io.EOF // allowed at the end, even if p is full
	}
	return n, nil
}

func (r *ram) WriteAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := copy(r.b[min(off, int64(len(r.b))):], p)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func (r *ram) Sync() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.syncs++
	err := r.syncErr
	r.syncErr = nil
	return err
}

func (r *ram) UnmapAt(length uint32, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.b[off : off+int64(length)])
	return int(length), nil
}

func (r *ram) Close() error {
	r.closed = true
	return nil
}

// plain hides all but the two required methods.
type plain struct{ r *ram }

func (p plain) ReadAt(b []byte, off int64) (int, error)  { return p.r.ReadAt(b, off) }
func (p plain) WriteAt(b []byte, off int64) (int, error) { return p.r.WriteAt(b, off) }

func TestFromReaderWriterAt(t *testing.T) {
	const size = 1 << 20
	t.Run("all", func(t *testing.T) {
		lunstest.Run(t, func(*testing.T) luns.Backend {
			return luns.FromReaderWriterAt(&ram{b: make([]byte, size)}, size)
		})
	})
	t.Run("plain", func(t *testing.T) {
		lunstest.Run(t, func(*testing.T) luns.Backend {
			return luns.FromReaderWriterAt(plain{&ram{b: make([]byte, size)}}, size)
		})
	})
}

func TestFromReaderWriterAtErrors(t *testing.T) {
	r := &ram{b: make([]byte, 4096)}
	b := luns.FromReaderWriterAt(r, 8192) // half of it is missing
	ctx, p := t.Context(), make([]byte, 512)
	if err := b.ReadAt(ctx, p, 4000); !errors.Is(err, luns.ErrMedium) {
		t.Errorf("short read: %v", err)
	}
	if err := b.WriteAt(ctx, p, 4000, 0); !errors.Is(err, luns.ErrMedium) {
		t.Errorf("short write: %v", err)
	}
	r.syncErr = errors.New("boom")
	if err := b.WriteAt(ctx, p, 0, luns.FUA); !errors.Is(err, luns.ErrMedium) {
		t.Errorf("failed sync: %v", err)
	}
	for range 2 { // Sync would succeed now, but must not be believed
		if err := b.Flush(ctx); !errors.Is(err, luns.ErrMedium) {
			t.Errorf("flush after a failed sync: %v", err)
		}
	}
	if err := b.WriteAt(ctx, p, 0, 0); !errors.Is(err, luns.ErrMedium) {
		t.Errorf("write after a failed sync: %v", err)
	}
	if r.syncs != 1 {
		t.Errorf("%d syncs", r.syncs)
	}
	if err := b.Close(); err != nil || !r.closed {
		t.Errorf("Close: %v, closed %v", err, r.closed)
	}
}

// Filters of the three sorts that As knows.
type (
	transparent struct{ luns.Backend }
	opaque      struct{ luns.Backend }
	asker       struct{ luns.Backend }
)

func (f transparent) Unwrap() luns.Backend { return f.Backend }
func (asker) As(any) bool                  { return false }
func (f asker) Unwrap() luns.Backend       { return f.Backend }

func TestAs(t *testing.T) {
	base := luns.FromReaderWriterAt(&ram{}, 0)
	for _, c := range []struct {
		name string
		b    luns.Backend
		want bool
	}{
		{"itself", base, true},
		{"transparent", transparent{transparent{base}}, true},
		{"opaque", opaque{base}, false},
		{"transparent over opaque", transparent{opaque{base}}, false},
		{"asker that denies", asker{base}, false},
		{"nil", nil, false},
	} {
		if _, ok := luns.As[luns.Unmapper](c.b); ok != c.want {
			t.Errorf("%s: %v, want %v", c.name, ok, c.want)
		}
	}
	if _, ok := luns.As[luns.Mapper](base); ok {
		t.Error("a Mapper out of nothing")
	}
}

func TestRegistry(t *testing.T) {
	f := func(func(any) error) (luns.Opener, error) {
		return func(context.Context) (luns.Backend, error) { return nil, luns.ErrOffline }, nil
	}
	name := fmt.Sprintf("luns-test-%d", rand.Int64()) // new in every run of -count
	luns.Register(name, f)
	if _, ok := luns.Lookup(name); !ok || !slices.Contains(luns.Kinds(), name) {
		t.Error("not found")
	}
	if _, ok := luns.Lookup("no such kind"); ok {
		t.Error("found what is not there")
	}
	defer func() {
		if recover() == nil {
			t.Error("registered twice")
		}
	}()
	luns.Register(name, f)
}

func TestStrings(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{luns.Flags(0).String(), "0"},
		{luns.FUA.String(), "FUA"},
		{luns.Flags(3).String(), "FUA|0x2"},
		{luns.Flags(4).String(), "0x4"},
		{luns.Deallocated.String(), "deallocated"},
		{luns.Mapped.String(), "mapped"},
		{luns.ExtentState(7).String(), "ExtentState(7)"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if !errors.Is(luns.ErrClosed, luns.ErrOffline) {
		t.Error("ErrClosed is not ErrOffline")
	}
}

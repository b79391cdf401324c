// Package lossy is a filter that behaves like a disk with a volatile write
// cache: until they are flushed or written with FUA, sectors live in the cache
// only, and a power failure keeps, loses and reorders them as it likes. It is a
// test tool: it holds the whole content in memory.
package lossy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/memory"
)

// Backend is a backend with a volatile cache. It has no optional capability.
type Backend struct {
	next   luns.Backend
	view   *memory.Backend // what reads see
	sector int64

	mu sync.Mutex // guards all below, and orders writes
	// pending holds, by offset, the versions of each sector that were written
	// since it was last made durable, oldest first.
	pending map[int64][][]byte
	off     bool // the power is off
}

// New returns a cache in front of next, and takes next until Crash or Close.
// sector is the size in bytes that is written as a whole or not at all, and
// becomes Info().BlockSize; a multiple of that of next.
func New(ctx context.Context, next luns.Backend, sector int) (*Backend, error) {
	info := next.Info()
	if sector <= 0 || sector%info.BlockSize != 0 || info.Size%int64(sector) != 0 {
		return nil, fmt.Errorf("lossy: sector size %d does not fit block size %d and size %d", sector, info.BlockSize, info.Size)
	}
	view, err := memory.New(memory.Options{Size: info.Size, MaxSize: info.Size})
	if err != nil {
		return nil, err
	}
	buf := make([]byte, max(1<<20/sector, 1)*sector)
	for off := int64(0); off < info.Size; off += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), info.Size-off)]
		if err := next.ReadAt(ctx, p, off); err != nil {
			_ = view.Close()
			return nil, err
		}
		if err := view.WriteAt(ctx, p, off, 0); err != nil {
			_ = view.Close()
			return nil, err
		}
	}
	return &Backend{next: next, view: view, sector: int64(sector), pending: make(map[int64][][]byte)}, nil
}

// Crash cuts the power. Every sector that was not durable gets, independently
// of all others, the content it had when it last was, or one of those written
// since: pick(n) returns a number in [0, n) to choose. From then on every call
// fails with luns.ErrOffline. Crash returns the backend below, owned by the
// caller.
func (b *Backend) Crash(ctx context.Context, pick func(n int) int) (luns.Backend, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off {
		return nil, luns.ErrClosed
	}
	b.off = true
	for _, off := range slices.Sorted(maps.Keys(b.pending)) {
		versions := b.pending[off]
		k := pick(len(versions) + 1)
		if k == 0 {
			continue
		}
		if err := b.next.WriteAt(ctx, versions[k-1], off, 0); err != nil {
			return b.next, err
		}
	}
	return b.next, b.view.Close()
}

// Pending returns how many sectors a crash could lose now.
func (b *Backend) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending)
}

// Info implements luns.Backend.
func (b *Backend) Info() luns.Info {
	info := b.next.Info()
	info.BlockSize = int(b.sector)
	info.VolatileCache = true
	info.Thin, info.UnmapGranularity, info.UnmapZeroes = false, 0, false
	return info
}

// ReadAt implements luns.Backend: it sees the cache.
func (b *Backend) ReadAt(ctx context.Context, p []byte, off int64) error {
	return b.view.ReadAt(ctx, p, off)
}

// WriteAt implements luns.Backend.
func (b *Backend) WriteAt(ctx context.Context, p []byte, off int64, f luns.Flags) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off {
		return luns.ErrClosed
	}
	if err := b.view.WriteAt(ctx, p, off, 0); err != nil {
		return err
	}
	if f&luns.FUA != 0 {
		if err := b.next.WriteAt(ctx, p, off, luns.FUA); err != nil {
			return err
		}
	}
	for i := int64(0); i < int64(len(p)); i += b.sector {
		if f&luns.FUA != 0 {
			delete(b.pending, off+i)
			continue
		}
		b.pending[off+i] = append(b.pending[off+i], slices.Clone(p[i:i+b.sector]))
	}
	return nil
}

// Flush implements luns.Backend.
func (b *Backend) Flush(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off {
		return luns.ErrClosed
	}
	return b.flushLocked(ctx)
}

// flushLocked writes the newest version of every sector. The caller holds mu.
func (b *Backend) flushLocked(ctx context.Context) error {
	for _, off := range slices.Sorted(maps.Keys(b.pending)) {
		versions := b.pending[off]
		if err := b.next.WriteAt(ctx, versions[len(versions)-1], off, 0); err != nil {
			return err
		}
	}
	if err := b.next.Flush(ctx); err != nil {
		return err
	}
	clear(b.pending)
	return nil
}

// Close implements luns.Backend. An orderly end is no power failure: the cache
// is written out.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off {
		return nil
	}
	b.off = true
	err := b.flushLocked(context.Background())
	if e := b.view.Close(); err == nil {
		err = e
	}
	if e := b.next.Close(); err == nil {
		err = e
	}
	return err
}

var _ luns.Backend = (*Backend)(nil)

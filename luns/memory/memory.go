package memory

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/internal/gate"
)

// Options describe a memory backend.
type Options struct {
	// Size in bytes; more than 0.
	Size int64 `hcl:"size"`
	// MaxSize in bytes limits Resize: this much address space is reserved.
	// 0 stands for the larger of 8 x Size and 1 GiB.
	MaxSize int64 `hcl:"max_size,optional"`
	// Pin takes all pages at once and for good: Unmap clears them and gives none
	// back. RDMA devices are told of all of it when they are first used, in place of
	// parts as they fill up.
	Pin bool `hcl:"pin,optional"`
}

func (o Options) check() (Options, error) {
	if o.MaxSize == 0 {
		o.MaxSize = max(1<<30, o.Size)
		if o.Size < 1<<40 {
			o.MaxSize = max(o.MaxSize, 8*o.Size)
		}
	}
	switch {
	case o.Size <= 0:
		return o, fmt.Errorf("memory: size is %d, want more than 0", o.Size)
	case o.Size > maxSize || o.MaxSize > maxSize:
		return o, fmt.Errorf("memory: size is limited to %d bytes", int64(maxSize))
	case o.MaxSize < o.Size:
		return o, fmt.Errorf("memory: max_size %d is less than size %d", o.MaxSize, o.Size)
	}
	return o, nil
}

// maxSize keeps reservations within the 47 bits of a user address space.
const maxSize = 1 << 46

// New returns a backend of opts.Size zero bytes. Its content is freed by Close.
func New(opts Options) (*Backend, error) {
	opts, err := opts.check()
	if err != nil {
		return nil, err
	}
	r, err := newRegion(opts.Size, opts.MaxSize, opts.Pin)
	if err != nil {
		return nil, err
	}
	return newBackend(r, true), nil
}

// NewOpener returns an Opener whose backends share one content: a logical unit
// that is restarted finds what was written before. The content is freed when
// the Opener and its backends have become garbage.
func NewOpener(opts Options) (luns.Opener, error) {
	opts, err := opts.check()
	if err != nil {
		return nil, err
	}
	region := sync.OnceValues(func() (*region, error) { return newRegion(opts.Size, opts.MaxSize, opts.Pin) })
	return func(ctx context.Context) (luns.Backend, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := region()
		if err != nil {
			return nil, err
		}
		return newBackend(r, false), nil
	}, nil
}

func init() {
	luns.Register("memory", func(decode func(any) error) (luns.Opener, error) {
		var opts Options
		if err := decode(&opts); err != nil {
			return nil, err
		}
		return NewOpener(opts)
	})
}

// Backend is a memory backend. It has every capability of package luns except
// Refresher.
type Backend struct {
	r    *region
	gate gate.Gate
	// owns says that Close frees the content.
	owns bool
}

var (
	_ luns.Backend  = (*Backend)(nil)
	_ luns.Mapper   = (*Backend)(nil)
	_ luns.Releaser = (*Backend)(nil)
	_ luns.Trier    = (*Backend)(nil)
	_ luns.Unmapper = (*Backend)(nil)
	_ luns.Zeroer   = (*Backend)(nil)
	_ luns.Extenter = (*Backend)(nil)
	_ luns.Resizer  = (*Backend)(nil)
)

func newBackend(r *region, owns bool) *Backend {
	b := &Backend{r: r, owns: owns}
	b.gate.Init()
	return b
}

// Info implements luns.Backend.
func (b *Backend) Info() luns.Info {
	return luns.Info{
		Size:             b.r.size.Load(),
		BlockSize:        1,
		Thin:             !b.r.pin,
		UnmapGranularity: int(b.r.pageSize),
		UnmapZeroes:      true,
	}
}

// Memory implements luns.Mapper. The slice is fetched anew after a Resize. It
// may be used until Close; keep the backend itself reachable meanwhile.
func (b *Backend) Memory() []byte {
	n := b.r.size.Load()
	return b.r.base[:n:n]
}

// OnRelease implements luns.Releaser.
func (b *Backend) OnRelease(f func(off, n int64) (done func())) (cancel func()) { return b.r.watch(f) }

// Close implements luns.Backend.
func (b *Backend) Close() error {
	if !b.gate.Close() || !b.owns {
		return nil
	}
	err := b.r.free()
	runtime.KeepAlive(b)
	return err
}

// enter admits a call for [off, off+n). The caller leaves b.gate. The bounds
// are checked here only because a shrinking may have been faster.
func (b *Backend) enter(off, n int64) error {
	if !b.gate.Enter() {
		return luns.ErrClosed
	}
	if size := b.r.size.Load(); off < 0 || n < 0 || off > size-n {
		b.gate.Leave()
		return fmt.Errorf("memory: %d bytes at %d exceed the size of %d: %w", n, off, size, luns.ErrMedium)
	}
	return nil
}

// ReadAt implements luns.Backend. It never waits, so ctx is not used.
func (b *Backend) ReadAt(_ context.Context, p []byte, off int64) error {
	if err := b.enter(off, int64(len(p))); err != nil {
		return err
	}
	copy(p, b.r.base[off:])
	b.gate.Leave()
	return nil
}

// WriteAt implements luns.Backend. It never waits, so ctx is not used.
func (b *Backend) WriteAt(_ context.Context, p []byte, off int64, _ luns.Flags) error {
	if err := b.enter(off, int64(len(p))); err != nil {
		return err
	}
	copy(b.r.base[off:], p)
	b.gate.Leave()
	return nil
}

// Flush implements luns.Backend. There is nothing to do.
func (b *Backend) Flush(context.Context) error {
	if b.gate.Closed() {
		return luns.ErrClosed
	}
	return nil
}

// TryReadAt implements luns.Trier; done is always true.
func (b *Backend) TryReadAt(p []byte, off int64) (done bool, err error) {
	return true, b.ReadAt(context.Background(), p, off)
}

// TryWriteAt implements luns.Trier; done is always true.
func (b *Backend) TryWriteAt(p []byte, off int64, f luns.Flags) (done bool, err error) {
	return true, b.WriteAt(context.Background(), p, off, f)
}

// Unmap implements luns.Unmapper. The range reads as zeros; whole pages are
// freed.
func (b *Backend) Unmap(_ context.Context, off, n int64) error {
	if err := b.enter(off, n); err != nil {
		return err
	}
	defer b.gate.Leave()
	return b.r.discard(off, n)
}

// WriteZeroes implements luns.Zeroer. Memory has no other way to stay
// provisioned than to be written, so without mayUnmap zeros are stored.
func (b *Backend) WriteZeroes(_ context.Context, off, n int64, mayUnmap bool, _ luns.Flags) error {
	if err := b.enter(off, n); err != nil {
		return err
	}
	defer b.gate.Leave()
	if mayUnmap {
		return b.r.discard(off, n)
	}
	clear(b.r.base[off : off+n])
	return nil
}

// Resize implements luns.Resizer, up to Options.MaxSize.
func (b *Backend) Resize(_ context.Context, size int64) error {
	if !b.gate.Enter() {
		return luns.ErrClosed
	}
	defer b.gate.Leave()
	return b.r.resize(size)
}

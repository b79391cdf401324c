// Package null is a backend that stores nothing: writes are discarded, reads
// return zeros. It measures what everything above a backend costs, and is a
// tool for tests only: a file system on it would be lost at once.
package null

import (
	"context"
	"fmt"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/internal/gate"
)

// Options describe a null backend.
type Options struct {
	// Size in bytes; more than 0.
	Size int64 `hcl:"size"`
}

// New returns a backend of opts.Size bytes.
func New(opts Options) (*Backend, error) {
	if opts.Size <= 0 {
		return nil, fmt.Errorf("null: size is %d, want more than 0", opts.Size)
	}
	b := &Backend{size: opts.Size}
	b.gate.Init()
	return b, nil
}

func init() {
	luns.Register("null", func(decode func(any) error) (luns.Opener, error) {
		var opts Options
		if err := decode(&opts); err != nil {
			return nil, err
		}
		if opts.Size <= 0 {
			return nil, fmt.Errorf("null: size is %d, want more than 0", opts.Size)
		}
		return func(context.Context) (luns.Backend, error) {
			b, err := New(opts)
			if err != nil {
				return nil, err
			}
			return b, nil
		}, nil
	})
}

// Backend discards and returns zeros.
type Backend struct {
	size int64
	gate gate.Gate
}

var (
	_ luns.Backend  = (*Backend)(nil)
	_ luns.Trier    = (*Backend)(nil)
	_ luns.Unmapper = (*Backend)(nil)
	_ luns.Zeroer   = (*Backend)(nil)
)

// Info implements luns.Backend.
func (b *Backend) Info() luns.Info {
	return luns.Info{Size: b.size, BlockSize: 1, Thin: true, UnmapZeroes: true}
}

func (b *Backend) open() error {
	if b.gate.Closed() {
		return luns.ErrClosed
	}
	return nil
}

// Close implements luns.Backend.
func (b *Backend) Close() error {
	b.gate.Close()
	return nil
}

// ReadAt implements luns.Backend: it clears p.
func (b *Backend) ReadAt(_ context.Context, p []byte, _ int64) error {
	clear(p)
	return b.open()
}

// WriteAt implements luns.Backend: it does nothing.
func (b *Backend) WriteAt(context.Context, []byte, int64, luns.Flags) error { return b.open() }

// Flush implements luns.Backend: it does nothing.
func (b *Backend) Flush(context.Context) error { return b.open() }

// Unmap implements luns.Unmapper: it does nothing.
func (b *Backend) Unmap(context.Context, int64, int64) error { return b.open() }

// WriteZeroes implements luns.Zeroer: it does nothing.
func (b *Backend) WriteZeroes(context.Context, int64, int64, bool, luns.Flags) error {
	return b.open()
}

// TryReadAt implements luns.Trier; done is always true.
func (b *Backend) TryReadAt(p []byte, _ int64) (done bool, err error) {
	clear(p)
	return true, b.open()
}

// TryWriteAt implements luns.Trier; done is always true.
func (b *Backend) TryWriteAt([]byte, int64, luns.Flags) (done bool, err error) {
	return true, b.open()
}

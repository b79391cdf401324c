package luns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// FromReaderWriterAt returns a backend of size bytes over anything that has
// ReadAt and WriteAt, which must allow concurrent calls as io.ReaderAt and
// io.WriterAt ask. More is used if it is there: Sync() error for Flush and
// FUA, Close() error for Close, and UnmapAt(length uint32, off int64) (int,
// error) for Unmapper.
//
// Without a Sync method writes count as durable when WriteAt returns.
func FromReaderWriterAt(rw interface {
	io.ReaderAt
	io.WriterAt
}, size int64,
) Backend {
	b := &readerWriterAt{rw: rw, size: size}
	b.syncer, _ = rw.(interface{ Sync() error })
	b.unmapper, _ = rw.(unmapperAt)
	return b
}

type unmapperAt interface {
	UnmapAt(length uint32, off int64) (int, error)
}

type readerWriterAt struct {
	rw interface {
		io.ReaderAt
		io.WriterAt
	}
	syncer   interface{ Sync() error }
	unmapper unmapperAt
	size     int64

	// mu is held shared by every call and exclusively by Close, which thus
	// waits for the calls under way.
	mu     sync.RWMutex
	closed bool

	// syncMu guards syncErr, the first error of Sync: a failed sync is never
	// followed by a successful one.
	syncMu  sync.Mutex
	syncErr error
}

var (
	_ Backend = (*readerWriterAt)(nil)
	_ Asker   = (*readerWriterAt)(nil)
)

// Info implements Backend.
func (b *readerWriterAt) Info() Info {
	return Info{
		Size:          b.size,
		BlockSize:     1,
		VolatileCache: b.syncer != nil,
		Thin:          b.unmapper != nil,
	}
}

// As implements Asker.
func (b *readerWriterAt) As(target any) bool {
	u, ok := target.(*Unmapper)
	if !ok || b.unmapper == nil {
		return false
	}
	*u = b
	return true
}

// enter takes the shared lock if the backend is open. The caller unlocks.
func (b *readerWriterAt) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return ErrClosed
	}
	return nil
}

// ReadAt implements Backend.
func (b *readerWriterAt) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.mu.RUnlock()
	n, err := b.rw.ReadAt(p, off)
	// io.ReaderAt may return io.EOF together with a full read at the end.
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("read of %d bytes at %d returned %d: %w", len(p), off, n, ErrMedium)
	}
	return classified(err)
}

// WriteAt implements Backend.
func (b *readerWriterAt) WriteAt(ctx context.Context, p []byte, off int64, f Flags) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.mu.RUnlock()
	if err := b.syncFailure(); err != nil {
		return err
	}
	n, err := b.rw.WriteAt(p, off)
	if err != nil {
		return classified(err)
	}
	if n != len(p) {
		return fmt.Errorf("write of %d bytes at %d stored %d: %w", len(p), off, n, ErrMedium)
	}
	if f&FUA != 0 {
		return b.sync()
	}
	return nil
}

// Flush implements Backend.
func (b *readerWriterAt) Flush(ctx context.Context) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.mu.RUnlock()
	return b.sync()
}

// Unmap implements Unmapper, by as many calls as 32-bit lengths need.
func (b *readerWriterAt) Unmap(ctx context.Context, off, n int64) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.mu.RUnlock()
	const most = 1 << 30
	for n > 0 {
		part := min(n, most)
		if _, err := b.unmapper.UnmapAt(uint32(part), off); err != nil {
			return classified(err)
		}
		off += part
		n -= part
	}
	return nil
}

// Close implements Backend.
func (b *readerWriterAt) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if c, ok := b.rw.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (b *readerWriterAt) syncFailure() error {
	if b.syncer == nil {
		return nil
	}
	b.syncMu.Lock()
	defer b.syncMu.Unlock()
	return b.syncErr
}

func (b *readerWriterAt) sync() error {
	if b.syncer == nil {
		return nil
	}
	if err := b.syncFailure(); err != nil {
		return err
	}
	err := b.syncer.Sync()
	b.syncMu.Lock()
	defer b.syncMu.Unlock()
	if b.syncErr == nil && err != nil {
		b.syncErr = fmt.Errorf("sync: %w (%w)", ErrMedium, err)
	}
	return b.syncErr
}

// classified returns err as it is if it has a class, else as ErrMedium: of a
// plain reader or writer nothing more is known.
func classified(err error) error {
	for _, class := range []error{ErrMedium, ErrNoSpace, ErrReadOnly, ErrTransient, ErrOffline} {
		if errors.Is(err, class) {
			return err
		}
	}
	return fmt.Errorf("%w (%w)", ErrMedium, err)
}

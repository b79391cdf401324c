package luns

import (
	"context"
	"fmt"
	"iter"
)

// Unmapper is the capability of giving capacity back.
type Unmapper interface {
	// Unmap tells the backend that [off, off+n) is no longer needed (SBC-4
	// 5.35). The range reads as zeros afterwards if Info().UnmapZeroes is
	// set, otherwise as zeros or as before, block by block.
	Unmap(ctx context.Context, off, n int64) error
}

// Zeroer is the capability of writing zeros faster than by WriteAt.
type Zeroer interface {
	// WriteZeroes makes [off, off+n) read as zeros. With mayUnmap the
	// capacity may be given back, without it the range stays (or becomes)
	// allocated where the medium knows the difference. f as for WriteAt.
	WriteZeroes(ctx context.Context, off, n int64, mayUnmap bool, f Flags) error
}

// ExtentState is the provisioning state of an Extent (SBC-4 5.6.2.2).
type ExtentState uint8

// The states of an Extent.
const (
	// Mapped: capacity is allocated, or the backend does not know.
	Mapped ExtentState = 0
	// Deallocated: no capacity is allocated; the range reads as zeros if
	// Info().UnmapZeroes is set.
	Deallocated ExtentState = 1
)

// String returns the name of the state, or its number.
func (s ExtentState) String() string {
	switch s {
	case Mapped:
		return "mapped"
	case Deallocated:
		return "deallocated"
	default:
		return fmt.Sprintf("ExtentState(%d)", uint8(s))
	}
}

// Extent is a range of one provisioning state. Off and Len are in bytes.
type Extent struct {
	Off, Len int64
	State    ExtentState
}

// Extenter is the capability of telling which ranges are allocated.
type Extenter interface {
	// Extents yields the extents of [off, off+n) in ascending order, without
	// gaps or overlaps, the first starting at off, the last ending at off+n.
	// Neighbours may have the same state. An error is yielded with an Extent
	// of no meaning and ends the sequence. The answer is advisory: writes
	// under way may change it. The sequence may be stopped early.
	Extents(ctx context.Context, off, n int64) iter.Seq2[Extent, error]
}

// Resizer is the capability of changing the size.
type Resizer interface {
	// Resize sets Info().Size to size bytes, a multiple of BlockSize. New
	// space reads as zeros, also where an earlier shrinking cut data off.
	// Requests beyond the new end must be over before a shrinking. A backend
	// that can only grow says so by an error.
	Resize(ctx context.Context, size int64) error
}

// Refresher is the capability of noticing a size changed from outside.
type Refresher interface {
	// Refresh reads the size of the medium anew and returns it; Info().Size
	// follows.
	Refresh(ctx context.Context) (size int64, err error)
}

// ResourceCounter is the capability of knowing how much capacity there is to be
// allocated (SBC-4 4.7.3.7).
type ResourceCounter interface {
	// Resources returns the bytes that are in use and those that are still
	// free, of the store that the backend allocates from. Others may share
	// it. It may block.
	Resources(ctx context.Context) (used, available int64, err error)
}

// Mapper is the capability of being ordinary memory.
type Mapper interface {
	// Memory returns the whole content, len == Info().Size. Reading and
	// writing the slice is the I/O. The backend owns the memory and the
	// caller borrows it until Close: it must have dropped every reference,
	// also those handed to the kernel, before it calls Close. After a Resize
	// the caller fetches the slice again; older slices stay readable, but
	// bytes beyond the new size are nobody's.
	Memory() []byte
}

// Releaser is the capability, of a Mapper, of telling when pages of its memory are
// given back to the system, while it is in use. Other pages stand there afterwards: a
// device that was told of the old ones (RDMA memory registration) must not be sent to
// the range by what it knows.
type Releaser interface {
	// OnRelease has f called before pages are given back, with the range of Memory
	// that they are of, and the function that f returns when that is done. Nobody
	// reads or writes the range meanwhile. f must not wait for I/O. cancel ends it;
	// it does not wait for calls that have begun.
	OnRelease(f func(off, n int64) (done func())) (cancel func())
}

// Trier is the capability of serving a request without ever waiting for a
// device: from memory or the page cache, on the goroutine that serves a
// connection.
type Trier interface {
	// TryReadAt is ReadAt if that is possible at once. With done false
	// nothing is known about p, err is nil, and the caller uses ReadAt.
	TryReadAt(p []byte, off int64) (done bool, err error)

	// TryWriteAt is WriteAt if that is possible at once. With done false a
	// part of p may have been stored, err is nil, and the caller, which must
	// still hold the range, uses WriteAt with the same p.
	TryWriteAt(p []byte, off int64, f Flags) (done bool, err error)
}

// Asker is implemented by backends and filters that decide at run time which
// capabilities they have.
type Asker interface {
	// As sets *target, a pointer to a variable of an interface type such as
	// *Unmapper, and reports true if the backend has that capability. It
	// must be the whole truth: package function As looks no further.
	As(target any) bool
}

// Unwrapper is implemented by filters that are transparent: the caller may
// use any capability of the wrapped backend directly, past the filter.
type Unwrapper interface {
	Unwrap() Backend
}

// As finds the capability T of b:
//
//	if u, ok := luns.As[luns.Unmapper](b); ok { err = u.Unmap(ctx, off, n) }
//
// It asks an Asker and takes its word; otherwise it asserts the type, and
// walks on through an Unwrapper. A filter that has to see every request is
// an Asker: it hands out its own wrappers, and denies what would go past it.
// The answer does not change during the life of a backend, so callers look
// once and keep it.
func As[T any](b Backend) (T, bool) {
	var none T
	for b != nil {
		if a, ok := b.(Asker); ok {
			var t T
			if a.As(&t) {
				return t, true
			}
			return none, false
		}
		if t, ok := b.(T); ok {
			return t, true
		}
		u, ok := b.(Unwrapper)
		if !ok {
			break
		}
		b = u.Unwrap()
	}
	return none, false
}

package luns

import (
	"context"
	"fmt"
	"io"
)

// Flags modify one write.
type Flags uint8

const (
	// FUA asks that the written data be on stable media before the call
	// returns (Force Unit Access, SBC-4 5.40 WRITE (10)).
	FUA Flags = 1 << 0
)

// String returns the flags joined by "|", unknown ones as a number.
func (f Flags) String() string {
	switch {
	case f == 0:
		return "0"
	case f == FUA:
		return "FUA"
	case f&FUA != 0:
		return fmt.Sprintf("FUA|%#x", uint8(f&^FUA))
	default:
		return fmt.Sprintf("%#x", uint8(f))
	}
}

// Info describes a backend at one moment. All sizes are in bytes.
type Info struct {
	// Size is the capacity. It is a multiple of BlockSize, and changes only
	// through Resizer and Refresher.
	Size int64

	// BlockSize is the smallest I/O the backend takes and the alignment of
	// offsets and lengths: a power of two, 1 if any will do. Buffers need no
	// alignment in memory.
	BlockSize int

	// PhysicalBlockSize is the unit that the medium writes without
	// read-modify-write (SBC-4 4.6, physical blocks). 0 if not known.
	PhysicalBlockSize int

	// OptimalIOSize is the preferred transfer size (SBC-4 6.6.4, OPTIMAL
	// TRANSFER LENGTH). 0 if not known.
	OptimalIOSize int

	// ReadOnly says that every write would fail.
	ReadOnly bool

	// Rotational says that seeks cost time (SBC-4 6.6.2, MEDIUM ROTATION RATE).
	Rotational bool

	// VolatileCache says that a completed write without FUA may be lost at a
	// power failure unless a Flush followed. It is false if writes are durable
	// at once, and also if Flush could make nothing more durable (memory).
	VolatileCache bool

	// Thin says that capacity is allocated on writing (SBC-4 4.7).
	Thin bool

	// UnmapGranularity is the unit in which Unmapper frees capacity; smaller
	// requests are allowed. 0 if not known or without meaning.
	UnmapGranularity int

	// UnmapZeroes says that unmapped ranges always read as zeros (SBC-4
	// 5.20.2, LBPRZ).
	UnmapZeroes bool

	// ID identifies the content across restarts and hosts where there is
	// something that does (a UUID, a WWN). Empty if not.
	ID string
}

// Backend is a random-access store of Info().Size bytes. See the package
// comment for what the caller validates and for the meaning of contexts.
//
// All methods are safe for concurrent use. After Close has begun, calls fail
// with an error wrapping ErrOffline.
type Backend interface {
	// Close waits for the calls under way, then releases everything. It does
	// not flush: an orderly shutdown calls Flush first. Closing twice is
	// harmless; later calls return nil.
	io.Closer

	// Info returns a snapshot. It is cheap, never blocks, and also works
	// after Close.
	Info() Info

	// ReadAt fills p from offset off, all of it or with an error, in which
	// case the content of p is undefined. It borrows p.
	ReadAt(ctx context.Context, p []byte, off int64) error

	// WriteAt stores p at offset off, all of it or with an error, in which
	// case any part may have been stored. It borrows p and never changes it.
	// On return a following ReadAt sees the data; with FUA it is on stable
	// media as well.
	WriteAt(ctx context.Context, p []byte, off int64, f Flags) error

	// Flush returns when every write, unmap and zeroing completed before the
	// call is on stable media. After it has failed once, data may be lost for
	// good: a backend keeps failing Flush and writes with ErrMedium until it
	// is opened anew by an operator, it never tries again and reports success.
	Flush(ctx context.Context) error
}

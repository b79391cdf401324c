// Package filter is the common part of filters that look at every request to
// a backend: delay, fault and stats below it are made of a Hook each.
//
// A wrapped backend has those capabilities of the backend below that pass
// through the hook. It never has luns.Mapper, since memory is read and written
// past any filter, and luns.Trier only if the hook asks for it.
package filter

import (
	"context"
	"fmt"

	"github.com/iserd/iserd/luns"
)

// Op is a kind of request. Ops can be joined by | to a set.
type Op uint8

// The kinds of requests.
const (
	Read Op = 1 << iota
	Write
	Flush
	Unmap
	WriteZeroes
	Extents
	Resize
	Refresh

	// All is the set of all requests.
	All = Read | Write | Flush | Unmap | WriteZeroes | Extents | Resize | Refresh
)

// NumOps is the number of kinds; Op.Index counts from 0 to NumOps-1.
const NumOps = 8

var opNames = [NumOps]string{"read", "write", "flush", "unmap", "write_zeroes", "extents", "resize", "refresh"}

// Index returns the number of a single kind.
func (o Op) Index() int {
	for i := range NumOps {
		if o == 1<<i {
			return i
		}
	}
	return 0
}

// String returns the names of the set, joined by "|".
func (o Op) String() string {
	s := ""
	for i, name := range opNames {
		if o&(1<<i) == 0 {
			continue
		}
		if s != "" {
			s += "|"
		}
		s += name
	}
	if s == "" {
		return "none"
	}
	return s
}

// ParseOp returns the kind of that name, as String returns it, or All for
// "all".
func ParseOp(name string) (Op, error) {
	if name == "all" {
		return All, nil
	}
	for i, n := range opNames {
		if n == name {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("unknown operation %q", name)
}

// Request is one call. Off and Len are in bytes, and 0 for Flush and Refresh;
// Len is the new size for Resize.
type Request struct {
	Op       Op
	Off, Len int64
	Flags    luns.Flags
	// Data is the buffer of a read or write; the hook borrows it until After.
	Data []byte
}

// Token is what Before wants to tell After.
type Token struct {
	N int64
	V any
}

// Hook sees every request. Its methods are called concurrently.
type Hook interface {
	// Before is called before the backend. If it returns an error, the
	// request fails with it, without reaching the backend, and without After.
	Before(ctx context.Context, r Request) (Token, error)
	// After is called with the result of the backend, and returns that of
	// the request.
	After(r Request, tok Token, err error) error
}

// Backend is a backend behind a hook.
type Backend struct {
	next luns.Backend
	hook Hook
	try  bool
}

var (
	_ luns.Backend = (*Backend)(nil)
	_ luns.Asker   = (*Backend)(nil)
)

// Wrap returns next behind hook, and takes next: Close closes it. With try,
// luns.Trier is passed on: requests that can be served at once go through the
// hook as Read and Write, and those that turn out to need waiting go through it
// a second time. A hook that may wait must not ask for that.
func Wrap(next luns.Backend, hook Hook, try bool) *Backend {
	return &Backend{next: next, hook: hook, try: try}
}

// Next returns the backend below. It is not luns.Unwrapper: using its
// capabilities would go past the hook.
func (b *Backend) Next() luns.Backend { return b.next }

// Info implements luns.Backend.
func (b *Backend) Info() luns.Info { return b.next.Info() }

// Close implements luns.Backend.
func (b *Backend) Close() error { return b.next.Close() }

// ReadAt implements luns.Backend.
func (b *Backend) ReadAt(ctx context.Context, p []byte, off int64) error {
	r := Request{Op: Read, Off: off, Len: int64(len(p)), Data: p}
	tok, err := b.hook.Before(ctx, r)
	if err != nil {
		return err
	}
	return b.hook.After(r, tok, b.next.ReadAt(ctx, p, off))
}

// WriteAt implements luns.Backend.
func (b *Backend) WriteAt(ctx context.Context, p []byte, off int64, f luns.Flags) error {
	r := Request{Op: Write, Off: off, Len: int64(len(p)), Flags: f, Data: p}
	tok, err := b.hook.Before(ctx, r)
	if err != nil {
		return err
	}
	return b.hook.After(r, tok, b.next.WriteAt(ctx, p, off, f))
}

// Flush implements luns.Backend.
func (b *Backend) Flush(ctx context.Context) error {
	r := Request{Op: Flush}
	tok, err := b.hook.Before(ctx, r)
	if err != nil {
		return err
	}
	return b.hook.After(r, tok, b.next.Flush(ctx))
}

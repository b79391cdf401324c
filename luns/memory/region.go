package memory

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is one reservation of address space, shared by the backends that an
// Opener opens one after another, and unmapped when nobody holds it any more.
//
// [0, reserved) is reserved, [0, mapped) readable and writable, [0, size) in
// use. mapped never shrinks: slices fetched before a shrinking stay valid.
type region struct {
	base     []byte // the whole reservation; its length is the limit of size
	pageSize int64
	size     atomic.Int64

	pin bool // pages stay: they are taken at once, and cleared where others are given back

	mu     sync.Mutex // guards mapped and span.n, serialises resizes
	mapped int64
	span   *span

	watchMu  sync.Mutex // guards watchers
	watchers map[*func(off, n int64) func()]struct{}
}

// span is what is unmapped when the region is garbage.
type span struct {
	base unsafe.Pointer
	n    uintptr
}

func (s *span) unmap() { _ = unix.MunmapPtr(s.base, s.n) }

// newRegion reserves reserve bytes, of which size can be used at once.
// With pin all pages are taken at once.
func newRegion(size, reserve int64, pin bool) (*region, error) {
	page := int64(os.Getpagesize())
	reserve = roundUp(reserve, page)
	if int64(int(reserve)) != reserve {
		return nil, fmt.Errorf("memory: %d bytes exceed the address space", reserve)
	}
	// PROT_NONE reserves addresses without counting as committed memory,
	// whatever vm.overcommit_memory says.
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(reserve), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("memory: reserve %d bytes of address space: %w", reserve, err)
	}
	r := &region{
		base:     unsafe.Slice((*byte)(p), int(reserve)),
		pageSize: page,
		pin:      pin,
		span:     &span{base: p, n: uintptr(reserve)},
	}
	if err := r.resize(size); err != nil {
		r.span.unmap()
		return nil, err
	}
	runtime.AddCleanup(r, (*span).unmap, r.span)
	return r, nil
}

// resize sets the size. New space reads as zeros.
func (r *region) resize(size int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.size.Load()
	switch {
	case size < 0 || size > int64(len(r.base)):
		return fmt.Errorf("memory: size %d is beyond the reservation of %d bytes", size, len(r.base))
	case size < old:
		r.size.Store(size)
		return r.discard(size, old-size)
	}
	if want := roundUp(size, r.pageSize); want > r.mapped {
		if err := unix.Mprotect(r.base[r.mapped:want], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return fmt.Errorf("memory: grow to %d bytes: %w", size, err)
		}
		if r.pin {
			if err := unix.Madvise(r.base[r.mapped:want], unix.MADV_POPULATE_WRITE); err != nil {
				return fmt.Errorf("memory: take %d bytes for good: %w", want-r.mapped, err)
			}
		}
		r.mapped = want
	}
	// A holder of an older slice may have written behind the end since the
	// shrinking.
	if err := r.discard(old, size-old); err != nil {
		return err
	}
	r.size.Store(size)
	return nil
}

// discard makes [off, off+n) read as zeros and frees its whole pages.
func (r *region) discard(off, n int64) error {
	end := off + n
	if r.pin {
		clear(r.base[off:end])
		return nil
	}
	first, last := roundUp(off, r.pageSize), end&^(r.pageSize-1)
	if first >= last {
		zero(r.base[off:end])
		return nil
	}
	zero(r.base[off:first])
	zero(r.base[last:end])
	defer r.releasing(first, last-first)()
	if err := unix.Madvise(r.base[first:last], unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("memory: give back %d bytes at %d: %w", last-first, first, err)
	}
	return nil
}

// watch has f called before pages are given back.
func (r *region) watch(f func(off, n int64) func()) (cancel func()) {
	r.watchMu.Lock()
	defer r.watchMu.Unlock()
	if r.watchers == nil {
		r.watchers = make(map[*func(off, n int64) func()]struct{})
	}
	r.watchers[&f] = struct{}{}
	return func() {
		r.watchMu.Lock()
		defer r.watchMu.Unlock()
		delete(r.watchers, &f)
	}
}

// releasing tells the watchers that [off, off+n) is about to be given back; the
// function it returns, that it is.
func (r *region) releasing(off, n int64) (done func()) {
	r.watchMu.Lock()
	watchers := make([]func(off, n int64) func(), 0, len(r.watchers))
	for f := range r.watchers {
		watchers = append(watchers, *f)
	}
	r.watchMu.Unlock()
	ends := make([]func(), len(watchers))
	for i, f := range watchers {
		ends[i] = f(off, n)
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// free releases all pages and the addresses that were never in use. The others
// stay mapped until the region is garbage: a late reader sees zeros, not a
// fault.
func (r *region) free() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	spare := r.span.n - uintptr(r.mapped)
	if spare > 0 {
		if err := unix.MunmapPtr(unsafe.Add(r.span.base, r.mapped), spare); err != nil {
			return fmt.Errorf("memory: release %d bytes of address space: %w", spare, err)
		}
		r.span.n -= spare
	}
	if r.mapped == 0 {
		return nil
	}
	return unix.Madvise(r.base[:r.mapped], unix.MADV_DONTNEED)
}

// zero clears b page by page where there is something to clear: storing zeros
// in an untouched page would allocate it.
func zero(b []byte) {
	const step = 4096
	for len(b) > 0 {
		part := b[:min(step, len(b))]
		if !allZero(part) {
			clear(part)
		}
		b = b[len(part):]
	}
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if *(*uint64)(unsafe.Pointer(&b[0])) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

package memory

import (
	"context"
	"encoding/binary"
	"iter"
	"os"

	"github.com/iserd/iserd/luns"
)

// Bits of an entry of /proc/self/pagemap, one 64-bit word per page.
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	// scanPages bounds what is read of it at a time.
	scanPages = 2048
)

// Extents implements luns.Extenter from the page table of the process. Pages
// that were read but never written count as mapped, and so does everything
// where /proc is not available.
func (b *Backend) Extents(ctx context.Context, off, n int64) iter.Seq2[luns.Extent, error] {
	return func(yield func(luns.Extent, error) bool) {
		if err := b.enter(off, n); err != nil {
			yield(luns.Extent{}, err)
			return
		}
		defer b.gate.Leave()
		if n == 0 {
			return
		}
		pagemap, err := os.Open("/proc/self/pagemap")
		if err != nil {
			yield(luns.Extent{Off: off, Len: n, State: luns.Mapped}, nil)
			return
		}
		defer pagemap.Close() // only read
		b.scan(ctx, pagemap, off, n, yield)
	}
}

// scan yields runs of pages of the same state, merged within one read.
func (b *Backend) scan(ctx context.Context, pagemap *os.File, off, n int64, yield func(luns.Extent, error) bool) {
	page := b.r.pageSize
	first := int64(uintptr(b.r.span.base)) / page
	entries := make([]byte, 8*min(scanPages, n/page+2))
	for end := off + n; off < end; {
		if err := ctx.Err(); err != nil {
			yield(luns.Extent{}, err)
			return
		}
		got, _ := pagemap.ReadAt(entries, 8*(first+off/page))
		if got = got / 8; got == 0 {
			// Not readable after all: claim nothing.
			yield(luns.Extent{Off: off, Len: end - off, State: luns.Mapped}, nil)
			return
		}
		for i := 0; i < got && off < end; {
			state := stateOf(entries[8*i:])
			j := i + 1
			for j < got && stateOf(entries[8*j:]) == state {
				j++
			}
			next := min((off/page+int64(j-i))*page, end)
			if !yield(luns.Extent{Off: off, Len: next - off, State: state}, nil) {
				return
			}
			off, i = next, j
		}
	}
}

func stateOf(entry []byte) luns.ExtentState {
	if binary.NativeEndian.Uint64(entry)&(pagePresent|pageSwapped) != 0 {
		return luns.Mapped
	}
	return luns.Deallocated
}

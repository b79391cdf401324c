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
	pagePresent   = 1 << 63
	pageSwapped   = 1 << 62
	pageExclusive = 1 << 56 // not so the zero page that reads of nothing map
	// scanPages bounds what is read of it at a time.
	scanPages = 2048
)

// Extents implements luns.Extenter from the page table of the process. Where
// /proc is not available everything counts as mapped.
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

// scan yields runs of pages of the same state.
func (b *Backend) scan(ctx context.Context, pagemap *os.File, off, n int64, yield func(luns.Extent, error) bool) {
	page, end := b.r.pageSize, off+n
	first := int64(uintptr(b.r.span.base)) / page
	entries := make([]byte, 8*min(scanPages, n/page+2))
	run := luns.Extent{Off: off, State: luns.Mapped}
	for next := off; next < end; {
		if err := ctx.Err(); err != nil {
			yield(luns.Extent{}, err)
			return
		}
		got, _ := pagemap.ReadAt(entries, 8*(first+next/page))
		if got < 8 {
			break // not readable after all: the last run takes the rest
		}
		for e := entries[:got&^7]; len(e) > 0 && next < end; e = e[8:] {
			if s := stateOf(e); s != run.State {
				if run.Len > 0 && !yield(run, nil) {
					return
				}
				run = luns.Extent{Off: next, State: s}
			}
			next = min((next/page+1)*page, end)
			run.Len = next - run.Off
		}
	}
	if rest := end - run.Off - run.Len; rest > 0 && run.State != luns.Mapped {
		if run.Len > 0 && !yield(run, nil) {
			return
		}
		run = luns.Extent{Off: end - rest, State: luns.Mapped}
	}
	run.Len = end - run.Off
	yield(run, nil)
}

func stateOf(entry []byte) luns.ExtentState {
	e := binary.NativeEndian.Uint64(entry)
	if e&pageSwapped != 0 || e&pagePresent != 0 && e&pageExclusive != 0 {
		return luns.Mapped
	}
	return luns.Deallocated
}

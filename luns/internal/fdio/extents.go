package fdio

import (
	"context"
	"errors"
	"iter"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
)

// Extents yields the data and holes of a regular file, as lseek(2) SEEK_DATA
// and SEEK_HOLE tell them. It moves the file offset, which nothing else uses.
func (d *Device) Extents(ctx context.Context, off, n int64) iter.Seq2[luns.Extent, error] {
	return func(yield func(luns.Extent, error) bool) {
		end := off + n
		for off < end {
			next, state, err := d.nextExtent(ctx, off, end)
			if err != nil {
				yield(luns.Extent{}, err)
				return
			}
			if !yield(luns.Extent{Off: off, Len: next - off, State: state}, nil) {
				return
			}
			off = next
		}
	}
}

// nextExtent returns where the extent at off ends, at most end, and its state.
// It is inside the gate only while it asks: the consumer may take its time.
func (d *Device) nextExtent(ctx context.Context, off, end int64) (next int64, s luns.ExtentState, err error) {
	if err := d.Enter(ctx); err != nil {
		return 0, 0, err
	}
	defer d.Leave()
	data, err := unix.Seek(d.fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // no data up to the end of the file
		return end, luns.Deallocated, nil
	case err != nil:
		return 0, 0, d.wrap("find data in", off, end-off, err)
	case data > off:
		return min(data, end), luns.Deallocated, nil
	}
	hole, err := unix.Seek(d.fd, off, unix.SEEK_HOLE)
	if errors.Is(err, unix.ENXIO) || err == nil && hole <= off {
		return end, luns.Mapped, nil // changed meanwhile: claim nothing
	}
	if err != nil {
		return 0, 0, d.wrap("find hole in", off, end-off, err)
	}
	return min(hole, end), luns.Mapped, nil
}

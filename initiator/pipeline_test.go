package initiator_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// sweep writes or reads count blocks of size bytes one after the other.
type sweep struct {
	write       bool
	size, count int
	next, done  int
	payload     []byte
	buffers     [][]byte
	t           *testing.T
}

func (w *sweep) Next(io *initiator.IO) bool {
	if w.next == w.count {
		return false
	}
	io.LUN, io.Write, io.Length = pdu.LUNOf(1), w.write, w.size
	io.CDB = [16]byte{0: 0x28}
	if w.write {
		io.CDB[0] = 0x2a
	}
	binary.BigEndian.PutUint32(io.CDB[2:], uint32(w.next*w.size/512))
	binary.BigEndian.PutUint16(io.CDB[7:], uint16(w.size/512))
	io.Data, io.User = nil, uint64(w.next)
	switch {
	case w.write:
		io.Data = w.payload[w.next*w.size:][:w.size]
	case w.buffers != nil:
		io.Data = w.buffers[io.Slot]
	}
	w.next++
	return true
}

func (w *sweep) Done(io *initiator.IO, _ time.Duration) error {
	w.done++
	if !w.write && w.buffers != nil && !bytes.Equal(io.Data, w.payload[int(io.User)*w.size:][:w.size]) {
		w.t.Errorf("I/O %d: wrong data", io.User)
	}
	return io.Err()
}

// ready takes the unit attention of a new nexus.
type ready struct{ good bool }

func (r *ready) Next(io *initiator.IO) bool {
	io.LUN, io.CDB, io.Length, io.Write = pdu.LUNOf(1), [16]byte{}, 0, false
	return !r.good
}

func (r *ready) Done(io *initiator.IO, _ time.Duration) error {
	r.good = r.good || io.Err() == nil
	return nil
}

func newPipeline(t *testing.T, rawURL string, o initiator.Options, depth int) *initiator.Pipeline {
	t.Helper()
	u, err := initiator.ParseURL(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	o.TargetName = u.TargetName
	c, err := initiator.Dial(testContext(t), u.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r, err := initiator.Negotiate(testContext(t), c, o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := initiator.NewPipeline(c, r, initiator.PipelineConfig{Depth: depth})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(testContext(t), new(ready)); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPipeline(t *testing.T) {
	srv := startTgt(t, 32<<20)
	tests := []struct {
		name        string
		o           initiator.Options
		size, depth int
	}{
		{"4K", initiator.Options{}, 4096, 32},
		{"one at a time", initiator.Options{}, 4096, 1},
		{"256K", initiator.Options{}, 256 << 10, 16},
		{"R2T", initiator.Options{ImmediateData: initiator.No, InitialR2T: initiator.Yes, MaxOutstandingR2T: 4}, 64 << 10, 8},
		{"short segments", initiator.Options{MaxRecvDataSegmentLength: 512, MaxBurstLength: 4096, FirstBurstLength: 512}, 64 << 10, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPipeline(t, srv.URL(1), tt.o, tt.depth)
			w := &sweep{t: t, write: true, size: tt.size, count: 16 << 20 / tt.size, payload: randomBytes(16 << 20)}
			if tt.size == 4096 {
				w.count = 512
			}
			if err := p.Run(testContext(t), w); err != nil || w.done != w.count {
				t.Fatalf("%d of %d writes: %v", w.done, w.count, err)
			}
			w.write, w.next, w.done = false, 0, 0
			for range tt.depth {
				w.buffers = append(w.buffers, make([]byte, tt.size))
			}
			if err := p.Run(testContext(t), w); err != nil || w.done != w.count {
				t.Fatalf("%d of %d reads: %v", w.done, w.count, err)
			}
		})
	}
}

func TestPipelineDoesNotAllocate(t *testing.T) {
	srv := startTgt(t, 32<<20)
	p := newPipeline(t, srv.URL(1), initiator.Options{}, 32)
	w := &sweep{t: t, size: 4096, count: 4096}
	ctx := testContext(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := p.Run(ctx, w); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > uint64(w.count)/50 {
		t.Errorf("%d allocations for %d I/Os", n, w.count)
	}
}

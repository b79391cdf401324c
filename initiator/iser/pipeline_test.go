package iser_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/luns/memory"
)

const target = "iqn.2026-11.com.example:pipeline"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves LUN 0, of 32 MiB.
func serve(t *testing.T, limits iserd.Limits) (*iserd.Server, netip.AddrPort) {
	t.Helper()
	srv, err := iserd.NewServer(iserd.WithLimits(limits))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx) // a test may have done it
	})
	disk, err := memory.New(memory.Options{Size: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddTarget(t.Context(), target, iserd.AnyInitiator(), iserd.LUN(0, disk)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddPortal(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return srv, netip.MustParseAddrPort(l.Addr().String())
}

func open(t *testing.T, at netip.AddrPort, depth int) *iser.Pipeline {
	t.Helper()
	c, err := iser.Open(t.Context(), softiwarp.New(softiwarp.Config{}), at, iser.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := initiator.Options{TargetName: target, HeaderDigest: "None", DataDigest: "None", Extra: iser.Keys()}
	p, err := iser.NewPipeline(t.Context(), c, o, initiator.PipelineConfig{Depth: depth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// sweep writes or reads count blocks of size bytes one after the other; a unit
// attention is taken once more.
type sweep struct {
	write       bool
	size, count int
	next, done  int
	data        []byte // of all blocks; nil: reads drop theirs
}

func (w *sweep) Next(io *initiator.IO) bool {
	if w.next == w.count {
		return false
	}
	io.LUN, io.Write, io.Length, io.Data, io.CDB = 0, w.write, w.size, nil, [16]byte{0x28}
	if w.write {
		io.CDB[0] = 0x2a
	}
	binary.BigEndian.PutUint32(io.CDB[2:], uint32(w.next*w.size/512))
	binary.BigEndian.PutUint16(io.CDB[7:], uint16(w.size/512))
	if w.data != nil {
		io.Data = w.data[w.next*w.size:][:w.size]
	}
	w.next++
	return true
}

func (w *sweep) Done(io *initiator.IO, _ time.Duration) error {
	w.done++
	return io.Err()
}

// ready takes the unit attention of a new nexus.
type ready struct{ good bool }

func (r *ready) Next(io *initiator.IO) bool {
	io.LUN, io.CDB, io.Length, io.Write, io.Data = 0, [16]byte{}, 0, false, nil
	return !r.good
}

func (r *ready) Done(io *initiator.IO, _ time.Duration) error {
	r.good = r.good || io.Err() == nil
	return nil
}

func TestPipeline(t *testing.T) {
	_, at := serve(t, iserd.Limits{CommandWindow: 64})
	for _, size := range []int{512, 4096, 8192, 12288, 128 << 10, 1 << 20} {
		for _, depth := range []int{1, 7, 100} {
			p := open(t, at, depth)
			if err := p.Run(t.Context(), &ready{}); err != nil {
				t.Fatal(err)
			}
			count := min(16<<20/size, 1000)
			in, err := p.Memory(count * size)
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.Memory(count * size)
			if err != nil {
				t.Fatal(err)
			}
			for i := range in {
				in[i] = byte(i>>9) ^ byte(i) ^ byte(size+depth)
			}
			for _, w := range []*sweep{
				{write: true, size: size, count: count, data: in},
				{size: size, count: count, data: out},
				{size: size, count: count},
			} {
				if err := p.Run(t.Context(), w); err != nil || w.done != count {
					t.Fatalf("%d bytes, depth %d: %d of %d: %v", size, depth, w.done, count, err)
				}
			}
			if !bytes.Equal(in, out) {
				t.Errorf("%d bytes, depth %d: other data", size, depth)
			}
		}
	}
}

// TestPipelineAnswersPings: an idle pipeline is asked for signs of life as soon as
// it runs again, and long ones go on.
func TestPipelineAnswersPings(t *testing.T) {
	_, at := serve(t, iserd.Limits{NopInterval: 40 * time.Millisecond, NopTimeout: 200 * time.Millisecond})
	p := open(t, at, 4)
	if err := p.Run(t.Context(), &ready{}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		time.Sleep(80 * time.Millisecond)
		w := &sweep{size: 4096, count: 10}
		if err := p.Run(t.Context(), w); err != nil || w.done != 10 {
			t.Fatalf("%d reads: %v", w.done, err)
		}
	}
}

func TestPipelineErrors(t *testing.T) {
	srv, at := serve(t, iserd.Limits{})
	p := open(t, at, 4)
	if err := p.Run(t.Context(), &sweep{size: 4096, count: 4, write: true, data: make([]byte, 16384)}); err == nil {
		t.Error("data that is not the pipeline's was taken")
	}
	p = open(t, at, 4)
	var status *initiator.StatusError
	if err := p.Run(t.Context(), &sweep{size: 4096, count: 1}); !errors.As(err, &status) || len(status.Sense) < 14 || status.Sense[2] != 6 {
		t.Errorf("unit attention: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := p.Run(ctx, &sweep{size: 4096, count: 1 << 20}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	p = open(t, at, 4)
	time.AfterFunc(10*time.Millisecond, func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx)
	})
	for range 100 {
		if err := p.Run(t.Context(), &ready{}); err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("the end of the server was not noticed")
}

func TestPipelineDoesNotAllocate(t *testing.T) {
	_, at := serve(t, iserd.Limits{})
	p := open(t, at, 32)
	if err := p.Run(t.Context(), &ready{}); err != nil {
		t.Fatal(err)
	}
	mem, err := p.Memory(16 << 20)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*sweep{{size: 4096, count: 4096}, {size: 4096, count: 4096, write: true, data: mem}} {
		// The first time queues grow.
		again := *w
		if err := p.Run(t.Context(), &again); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := p.Run(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		// Of both sides; the race detector makes some of its own.
		if n := after.Mallocs - before.Mallocs; n > uint64(w.count)/8 {
			t.Errorf("%d allocations for %d I/Os, write %v", n, w.count, w.write)
		}
	}
}

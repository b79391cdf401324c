package scsi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iserd/iserd/luns/scsi"
)

// async is a submitted command.
type async struct {
	c    *scsi.Command
	done chan struct{}
}

// start decodes and submits a command.
func start(t *testing.T, n *scsi.Nexus, cdb, out []byte) *async {
	t.Helper()
	a := &async{done: make(chan struct{})}
	a.c = &scsi.Command{Nexus: n, CDB: cdb16(cdb), Out: out, Done: func(*scsi.Command) { close(a.done) }}
	if !a.c.Decode() {
		t.Fatalf("% x: %v", cdb, a.c.Status)
	}
	a.c.Buf = make([]byte, a.c.NeedBuf)
	a.c.Submit()
	return a
}

func (a *async) finished() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// TestStaleWriteFence is bar C11: a write that hangs in the backend keeps its
// range. Its session goes, a newer write to the same blocks waits, and in the
// end the newer data is there.
func TestStaleWriteFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFake(mib)
		release := make(chan struct{})
		var first atomic.Bool
		b.hook = func(op string, _, _ int64) error {
			if op == "write" && first.CompareAndSwap(false, true) {
				<-release
			}
			return nil
		}
		r := newRig(t, baseConfig, b)
		old := r.attach()
		stale := start(t, old, rw10(0x2A, 10, 4), fill(2048, 1))
		synctest.Wait()
		if stale.c.Abort() {
			t.Fatal("a running write was reported as not started")
		}
		old.Detach()
		newer := start(t, r.nexus, rw10(0x2A, 8, 4), fill(2048, 2))
		other := start(t, r.nexus, rw10(0x2A, 1000, 4), fill(2048, 3))
		read := start(t, r.nexus, rw10(0x28, 10, 1), nil)
		synctest.Wait()
		if newer.finished() || read.finished() || stale.finished() {
			t.Error("an overlapping command did not wait")
		}
		if !other.finished() {
			t.Error("a command elsewhere waits")
		}
		// An aborted command that waits for the range ends at once.
		waiting := start(t, r.nexus, rw10(0x2A, 11, 1), fill(512, 9))
		synctest.Wait()
		if waiting.c.Abort() {
			t.Error("a started command was reported as not started")
		}
		synctest.Wait()
		if !waiting.finished() || waiting.c.Status != scsi.TaskAborted {
			t.Errorf("aborted waiting command: %v", waiting.c.Status)
		}
		close(release)
		<-newer.done
		<-read.done
		<-stale.done
		if !bytes.Equal(b.mem[8*512:12*512], fill(2048, 2)) || !bytes.Equal(b.mem[12*512:14*512], fill(1024, 1)) {
			t.Error("the stale write won")
		}
		for _, a := range []*async{stale, newer, other, read, waiting} {
			a.c.Release()
		}
	})
}

// TestAbortQueued aborts a command that no worker has started.
func TestAbortQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFake(mib)
		release := make(chan struct{})
		b.hook = func(string, int64, int64) error { <-release; return nil }
		cfg := baseConfig
		cfg.Workers = 1
		r := newRig(t, cfg, b)
		running := start(t, r.nexus, rw10(0x2A, 0, 1), fill(512, 1))
		synctest.Wait()
		var queued []*async
		for i := range 4 {
			queued = append(queued, start(t, r.nexus, rw10(0x2A, uint32(1+i), 1), fill(512, 2)))
		}
		synctest.Wait()
		for _, i := range []int{1, 3, 0} {
			if !queued[i].c.Abort() || queued[i].c.Status != scsi.TaskAborted {
				t.Errorf("%d: %v", i, queued[i].c.Status)
			}
		}
		// The flag alone works too, when the worker gets there.
		queued[2].c.Aborted.Store(true)
		close(release)
		<-running.done
		<-queued[2].done
		if queued[2].c.Status != scsi.TaskAborted || running.c.Status != scsi.Good {
			t.Errorf("got %v, %v", queued[2].c.Status, running.c.Status)
		}
		if queued[1].finished() {
			t.Error("Done was called for a command that Abort took away")
		}
		if len(b.log) != 1 {
			t.Errorf("the backend saw %v", b.log)
		}
	})
}

func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFake(mib)
		release := make(chan struct{})
		b.hook = func(string, int64, int64) error { <-release; return nil }
		cfg := baseConfig
		cfg.Workers = 2
		r := newRig(t, cfg, b)
		decoded := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x2A, 0, 1)), Out: fill(512, 1)}
		if !decoded.Decode() {
			t.Fatal("decode")
		}
		running := start(t, r.nexus, rw10(0x2A, 0, 1), fill(512, 1))
		synctest.Wait()
		waiting := start(t, r.nexus, rw10(0x2A, 0, 1), fill(512, 1))
		queued := start(t, r.nexus, rw10(0x2A, 9, 1), fill(512, 1))
		synctest.Wait()
		if n := r.unit.Inflight(); n != 3 {
			t.Errorf("%d in flight", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := r.port.Revoke(ctx); !errors.Is(err, scsi.ErrFenced) {
			t.Errorf("Revoke returned %v while a write hangs", err)
		}
		<-queued.done
		<-waiting.done
		if queued.c.Status != scsi.Busy || waiting.c.Status != scsi.Busy {
			t.Errorf("got %v, %v", queued.c.Status, waiting.c.Status)
		}
		if got := r.do([]byte{0, 0, 0, 0, 0, 0}, nil); got.status != scsi.Busy {
			t.Errorf("new command: %v", got)
		}
		if !decoded.TryExec() || decoded.Status != scsi.Busy {
			t.Errorf("decoded before, executed after: %v", decoded.Status)
		}
		r.port.SetClosed(scsi.ClosedFailed)
		r.bad([]byte{0, 0, 0, 0, 0, 0}, nil, scsi.NotReady, scsi.ManualInterventionNeeded)
		r.port.SetClosed(scsi.ClosedGone)
		r.bad([]byte{0, 0, 0, 0, 0, 0}, nil, scsi.IllegalRequest, scsi.LUNotSupported)
		close(release)
		if err := r.port.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		<-running.done
		u2, err := scsi.NewUnit(cfg, newFake(2*mib))
		if err != nil {
			t.Fatal(err)
		}
		r.port.Publish(u2)
		r.port.Attention(scsi.AttentionDeviceInternalReset, nil)
		r.bad([]byte{0, 0, 0, 0, 0, 0}, nil, scsi.UnitAttention, scsi.DeviceInternalReset)
		r.good([]byte{0, 0, 0, 0, 0, 0}, nil)
		if err := r.port.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		u2.Close()
		u2.Close()
	})
}

// TestMappedReadHoldsUnit checks that data-in in the unit's memory keeps both
// the range and the unit until Release.
func TestMappedReadHoldsUnit(t *testing.T) {
	b := newFake(mib)
	b.mapper = true
	r := newRig(t, baseConfig, b)
	read := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x28, 0, 8))}
	write := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x2A, 7, 1)), Out: fill(512, 1)}
	if !read.Decode() || !read.TryExec() || !write.Decode() {
		t.Fatal("decode")
	}
	if read.NeedBuf != 0 || len(read.In) != 4096 {
		t.Errorf("NeedBuf %d, %d bytes", read.NeedBuf, len(read.In))
	}
	if write.TryExec() || !write.Contended {
		t.Fatal("a write changed memory that is being sent")
	}
	read2 := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x28, 7, 1))}
	if !read2.Decode() || !read2.TryExec() {
		t.Fatal("two reads exclude each other")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	read2.Release()
	read.Release()
	if !write.TryExec() || write.Status != scsi.Good {
		t.Errorf("after Release: %v", write.Status)
	}
	if !read.Decode() || !read.TryExec() {
		t.Fatal("decode")
	}
	if err := r.port.Revoke(ctx); !errors.Is(err, scsi.ErrFenced) {
		t.Errorf("revoked while data-in is in the unit's memory: %v", err)
	}
	read.Release()
}

// TestPanic is rule S9: a panic of a backend fails the command and is reported;
// neither the range nor the unit stays in use.
func TestPanic(t *testing.T) {
	for name, set := range backends {
		t.Run(name, func(t *testing.T) {
			b := newFake(mib)
			set(b)
			var faults []string
			r := newRig(t, baseConfig, b)
			r.port.Fault = func(v any, stack []byte) {
				if len(stack) == 0 {
					t.Error("no stack")
				}
				faults = append(faults, fmt.Sprint(v))
			}
			if b.mapper {
				b.mem = nil
				r.bad(rw10(0x28, 0, 1), nil, scsi.IllegalRequest, scsi.LUNotSupported)
				return
			}
			b.hook = func(string, int64, int64) error { panic("boom") }
			r.bad(rw10(0x28, 0, 1), nil, scsi.HardwareError, scsi.InternalTargetFailure)
			r.bad(rw10(0x2A, 0, 1), fill(512, 1), scsi.HardwareError, scsi.InternalTargetFailure)
			b.hook = nil
			r.good(rw10(0x2A, 0, 1), fill(512, 1))
			if len(faults) != 2 || faults[0] != "boom" {
				t.Errorf("faults %q", faults)
			}
			if n := r.unit.Inflight(); n != 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}

// TestDonePanic checks that a broken owner does not take a worker along.
func TestDonePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, baseConfig, newFake(mib))
		faults := make(chan any, 1)
		r.port.Fault = func(v any, _ []byte) { faults <- v }
		c := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x28, 0, 1)), Buf: make([]byte, 512)}
		c.Done = func(*scsi.Command) { panic("owner") }
		if !c.Decode() {
			t.Fatal("decode")
		}
		c.Submit()
		if v := <-faults; v != "owner" {
			t.Errorf("fault %v", v)
		}
		c.Release()
		r.good(rw10(0x28, 0, 1), nil)
	})
}

// TestHalfDoneInlineWrite has a write that was stored in part inline, and so
// holds its range, submitted when all workers wait for that range.
func TestHalfDoneInlineWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFake(mib)
		b.trier = true
		cfg := baseConfig
		cfg.Workers, cfg.WriteCache = 1, false
		r := newRig(t, cfg, b)
		done := make(chan struct{})
		c := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x2A, 0, 4)), Out: fill(2048, 1), Done: func(*scsi.Command) { close(done) }}
		if !c.Decode() || c.TryExec() || c.Contended {
			t.Fatal("the write did not stop half-way")
		}
		after := start(t, r.nexus, rw10(0x2A, 0, 4), fill(2048, 2))
		queued := start(t, r.nexus, rw10(0x28, 0, 4), nil)
		synctest.Wait()
		if after.finished() {
			t.Error("a write came between the halves")
		}
		c.Submit()
		<-done
		<-after.done
		<-queued.done
		if !bytes.Equal(queued.c.In, fill(2048, 2)) || c.Status != scsi.Good {
			t.Errorf("%v, read % x…", c.Status, queued.c.In[:8])
		}
		c.Release()
		queued.c.Release()
	})
}

// TestWorkersEndWhenIdle leaves goroutines to goleak and the fake clock.
func TestWorkersEndWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFake(mib)
		cfg := baseConfig
		started := 0
		cfg.Spawn = func(f func()) { started++; go f() }
		r := newRig(t, cfg, b)
		for range 3 {
			for range 5 {
				r.good(rw10(0x28, 0, 1), nil)
				synctest.Wait() // the worker is idle again
			}
			time.Sleep(time.Minute)
		}
		if started != 3 {
			t.Errorf("%d workers started, want one after each pause", started)
		}
	})
}

// TestCounters is bar C7: eight initiators increment counters with COMPARE AND
// WRITE; the final value is the number of GOODs.
func TestCounters(t *testing.T) {
	perInitiator := 400
	if testing.Short() {
		perInitiator = 100
	}
	onEach(t, mib, baseConfig, func(t *testing.T, r *rig, b *fake) {
		const initiators, counters = 8, 3
		var good [counters]atomic.Uint64
		var wg sync.WaitGroup
		for i := range initiators {
			n := r.attach()
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(i)))
				for range perInitiator {
					k := rng.IntN(counters)
					if increment(t, n, uint64(k)*100) {
						good[k].Add(1)
					}
				}
			})
		}
		wg.Wait()
		for k := range counters {
			got := binary.BigEndian.Uint64(b.mem[k*100*512:])
			if want := good[k].Load(); got != want || want == 0 {
				t.Errorf("counter %d is %d after %d increments", k, got, want)
			}
		}
	})
}

// increment reads a counter block and replaces it by compare and write.
func increment(t *testing.T, n *scsi.Nexus, lba uint64) bool {
	old := run(t, n, rw16(0x88, lba, 1), nil)
	if old.status != scsi.Good {
		t.Errorf("read: %v", old)
		return false
	}
	v := binary.BigEndian.Uint64(old.in)
	next := bytes.Repeat(binary.BigEndian.AppendUint64(nil, v+1), 64)
	got := run(t, n, caw(lba, 1), append(old.in, next...))
	if k, _ := got.key(); got.status != scsi.Good && k != scsi.Miscompare {
		t.Errorf("compare and write: %v", got)
	}
	return got.status == scsi.Good
}

// TestAtomicity writes and reads overlapping ranges of many stripes at once:
// every read sees each write whole or not at all.
func TestAtomicity(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	const blocks = 700 // some 6 stripes
	onEach(t, mib, baseConfig, func(t *testing.T, r *rig, _ *fake) {
		var wg sync.WaitGroup
		for i := range 8 {
			n := r.attach()
			wg.Go(func() {
				for round := range rounds {
					if i%2 == 0 {
						if got := run(t, n, rw10(0x2A, 3, blocks), fill(blocks*512, byte(i*rounds+round))); got.status != scsi.Good {
							t.Errorf("write: %v", got)
						}
						continue
					}
					in := run(t, n, rw10(0x28, 3, blocks), nil).in
					if len(in) != blocks*512 || !bytes.Equal(in[1:], in[:len(in)-1]) {
						t.Error("a read saw parts of two writes")
					}
				}
			})
		}
		wg.Wait()
	})
}

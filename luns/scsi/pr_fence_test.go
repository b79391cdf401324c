package scsi_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/iserd/iserd/luns/scsi"
)

// TestFenceRace is the other half of bar B11: while one nexus writes as fast as
// it can, inline and through the workers, another preempts it. Nothing of the
// preempted nexus is stored after the GOOD of PREEMPT.
func TestFenceRace(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	onEach(t, mib, baseConfig, func(t *testing.T, r *rig, b *fake) {
		pr := &prRig{rig: r}
		pr.join(initiator(0, 1))
		pr.join(initiator(1, 1))
		pr.must(1, register, 0, 0, 2)
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			done := make(chan struct{}, 1)
			c := &scsi.Command{Nexus: pr.n[0], Done: func(*scsi.Command) { done <- struct{}{} }}
			for !stop.Load() {
				c.Reset()
				c.CDB, c.Out = cdb16(rw10(0x2A, 0, 8)), fill(4096, 0xEE)
				if c.Decode() && !c.TryExec() {
					c.Submit()
					<-done
				}
				c.Release()
			}
		})
		defer func() { stop.Store(true); wg.Wait() }()
		for i := range rounds {
			// Unit attentions go to whichever command of the nexus is first.
			for pr.out(0, registerIgnore, 0, 0, 1).status != scsi.Good {
			}
			pr.must(0, reserve, scsi.WriteExclusive, 1, 0)
			for range i % 7 {
				runtime.Gosched()
			}
			action := preempt
			if i%2 == 1 {
				action = preemptAbort
			}
			pr.must(1, action, scsi.WriteExclusive, 2, 1)
			if got := pr.do8(1); got.status != scsi.Good {
				t.Fatal(got)
			}
			if got := run(t, pr.n[1], rw10(0x28, 0, 8), nil); !bytes.Equal(got.in, fill(4096, 1)) {
				t.Fatalf("round %d: a write of the preempted nexus landed after PREEMPT: % x", i, got.in[:8])
			}
			pr.must(1, release, scsi.WriteExclusive, 2, 0)
		}
	})
}

func (r *prRig) do8(i int) result {
	return run(r.tb, r.n[i], rw10(0x2A, 0, 8), fill(4096, byte(i)))
}

// TestPreemptWaits: a write that hangs in the backend holds PREEMPT up, and
// PREEMPT AND ABORT; requests elsewhere go on. What was decoded before and has
// not begun is refused, or ends with TASK ABORTED.
func TestPreemptWaits(t *testing.T) {
	for _, action := range []int{preempt, preemptAbort} {
		synctest.Test(t, func(t *testing.T) {
			b := newFake(8 * mib)
			hang := make(chan struct{})
			b.hook = func(op string, off, _ int64) error {
				if op == "write" && off == 0 {
					<-hang
				}
				return nil
			}
			r := &prRig{rig: newRig(t, baseConfig, b)}
			r.join(initiator(0, 1))
			r.join(initiator(1, 1))
			r.must(0, register, 0, 0, 1)
			r.must(1, register, 0, 0, 2)
			r.must(0, reserve, scsi.WriteExclusive, 1, 0)
			stuck := start(t, r.n[0], rw10(0x2A, 0, 1), fill(512, 7))
			synctest.Wait()
			late := &scsi.Command{Nexus: r.n[0], CDB: cdb16(rw10(0x2A, 300, 1)), Out: fill(512, 8)}
			lateDone := make(chan struct{})
			late.Done = func(*scsi.Command) { close(lateDone) }
			if !late.Decode() {
				t.Fatal(late.Status)
			}
			out := start(t, r.n[1], prOutCDB(action, scsi.WriteExclusive, 24), prList(2, 1, 0))
			synctest.Wait()
			if out.finished() {
				t.Error("GOOD while a write of the preempted nexus may still land")
			}
			if late.TryExec() {
				t.Error("a fenced command was done inline")
			}
			late.Submit()
			<-lateDone
			want := scsi.ReservationConflict
			if action == preemptAbort {
				want = scsi.TaskAborted
			}
			if late.Status != want {
				t.Errorf("the late write: %v, want %v", late.Status, want)
			}
			other := start(t, r.n[1], rw10(0x2A, 1024, 1), fill(512, 9))
			synctest.Wait()
			if !other.finished() || other.c.Status != scsi.Good {
				t.Error("the new holder waits elsewhere on the medium")
			}
			close(hang)
			<-out.done
			if out.c.Status != scsi.Good || !stuck.finished() && action == preempt {
				t.Errorf("%v", out.c.Status)
			}
			<-stuck.done
			if got := b.mem[300*512]; got != 0 {
				t.Errorf("the late write landed: %d", got)
			}
			for _, a := range []*async{stuck, out, other} {
				a.c.Release()
			}
			late.Release()
		})
	}
}

// TestAbortTasksHook: GOOD comes after the task manager is through, which is
// told the nexuses of the preempted, and not of the one that preempts.
func TestAbortTasksHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPRRig(t, baseConfig, 3)
		var told []*scsi.Nexus
		var finish func()
		r.port.AbortTasks = func(n []*scsi.Nexus, done func()) { told, finish = n, done }
		r.must(0, register, 0, 0, 1)
		r.must(1, register, 0, 0, 2)
		r.must(2, register, 0, 0, 2)
		r.must(0, reserve, scsi.WriteExclusiveAllRegistrants, 1, 0)
		out := start(t, r.n[1], prOutCDB(preemptAbort, 1, 24), prList(2, 0, 0))
		synctest.Wait()
		if out.finished() || len(told) != 2 || told[0] == r.n[1] || told[1] == r.n[1] {
			t.Fatalf("told %v", told)
		}
		if got := r.write(0); got == scsi.Good {
			t.Error("a fenced nexus writes meanwhile")
		}
		finish()
		finish() // told twice
		<-out.done
		if out.c.Status != scsi.Good {
			t.Error(out.c.Status)
		}
		out.c.Release()
		// Nobody preempted: nobody told.
		told = nil
		r.must(1, preemptAbort, scsi.WriteExclusive, 2, 2)
		if told != nil {
			t.Errorf("told %v", told)
		}
	})
}

// TestFenceWhenWorkersHang: PERSISTENT RESERVE OUT finds a worker although all
// of them hang, so that a fence can be put up.
func TestFenceWhenWorkersHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFake(mib)
		hang := make(chan struct{})
		b.hook = func(string, int64, int64) error { <-hang; return nil }
		cfg := baseConfig
		cfg.Workers = 2
		r := &prRig{rig: newRig(t, cfg, b)}
		r.join(initiator(0, 1))
		r.join(initiator(1, 1))
		var stuck []*async
		for i := range 4 {
			stuck = append(stuck, start(t, r.n[1], rw10(0x28, uint32(i), 1), nil))
		}
		synctest.Wait()
		r.must(0, register, 0, 0, 1)
		out := start(t, r.n[0], prOutCDB(reserve, scsi.WriteExclusive, 24), prList(1, 0, 0))
		synctest.Wait()
		if r.write(1) != scsi.ReservationConflict {
			t.Error("no fence")
		}
		if out.c.Abort() {
			t.Error("had not begun")
		}
		<-out.done
		if out.c.Status != scsi.TaskAborted || r.port.Reservations().Type != scsi.WriteExclusive {
			t.Errorf("%v", out.c.Status)
		}
		close(hang)
		for _, a := range stuck {
			<-a.done
			a.c.Release()
		}
		out.c.Release()
	})
}

// TestDetachedCommands: commands of a session that has ended do not touch the
// medium after that, and its new ones see the fences of the moment.
func TestDetachedCommands(t *testing.T) {
	r := newPRRig(t, baseConfig, 2)
	r.must(1, register, 0, 0, 1)
	c := &scsi.Command{Nexus: r.n[0], CDB: cdb16(rw10(0x2A, 5, 1)), Out: fill(512, 7)}
	done := make(chan struct{})
	c.Done = func(*scsi.Command) { close(done) }
	if !c.Decode() {
		t.Fatal(c.Status)
	}
	r.n[0].Detach()
	if c.TryExec() {
		t.Error("done inline")
	}
	c.Submit()
	<-done
	if c.Status != scsi.TaskAborted || r.b.(*fake).mem[5*512] != 0 {
		t.Errorf("%v", c.Status)
	}
	c.Release()
	if r.write(0) != scsi.Good {
		t.Error("a late command without any fence")
	}
	r.must(1, reserve, scsi.WriteExclusive, 1, 0)
	if r.write(0) != scsi.ReservationConflict {
		t.Error("a late command went through the fence")
	}
}

// TestReserveDuringRevoke: a unit that is revoked while RESERVE waits answers
// BUSY; the fence stays.
func TestReserveDuringRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFake(mib)
		hang := make(chan struct{})
		b.hook = func(string, int64, int64) error { <-hang; return nil }
		r := &prRig{rig: newRig(t, baseConfig, b)}
		r.join(initiator(0, 1))
		r.join(initiator(1, 1))
		stuck := start(t, r.n[1], rw10(0x28, 0, 1), nil)
		synctest.Wait()
		r.must(0, register, 0, 0, 1)
		out := start(t, r.n[0], prOutCDB(reserve, scsi.WriteExclusive, 24), prList(1, 0, 0))
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.port.Revoke(ctx); !errors.Is(err, scsi.ErrFenced) {
			t.Errorf("Revoke: %v", err)
		}
		<-out.done
		if out.c.Status != scsi.Busy || r.port.Reservations().Type == 0 {
			t.Errorf("%v", out.c.Status)
		}
		close(hang)
		<-stuck.done
		stuck.c.Release()
		out.c.Release()
	})
}

// TestFenceAllocs: a reservation costs no allocation, nor does a conflict.
func TestFenceAllocs(t *testing.T) {
	r := newPRRig(t, baseConfig, 2)
	r.must(0, register, 0, 0, 1)
	r.must(0, reserve, scsi.WriteExclusive, 1, 0)
	for i, want := range []scsi.Status{scsi.Good, scsi.ReservationConflict} {
		cdb := cdb16(rw10(0x2A, 0, 1))
		out := fill(512, 1)
		c := &scsi.Command{Nexus: r.n[i]}
		if n := testing.AllocsPerRun(100, func() {
			c.Reset()
			c.CDB, c.Out = cdb, out
			if c.Decode() {
				c.TryExec()
			}
			c.Release()
		}); n != 0 || c.Status != want {
			t.Errorf("%v: %v allocations", c.Status, n)
		}
	}
}

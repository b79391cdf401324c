package scsi_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/iserd/iserd/luns/scsi"
)

func TestReservationStrings(t *testing.T) {
	for _, typ := range append([]scsi.ReservationType{0}, allTypes...) {
		if s := typ.String(); strings.Contains(s, "(") {
			t.Errorf("%s", s)
		}
	}
	for _, s := range []scsi.AccessState{0, 1, 2, 3, 4, 0xE, 0xF} {
		if strings.Contains(s.String(), "(") {
			t.Errorf("%v", s)
		}
	}
	if scsi.ReservationType(4).String() != "ReservationType(0x4)" || scsi.AccessState(9).String() != "AccessState(0x9)" {
		t.Error("numbers without a name")
	}
}

// TestTooManyRegistrants: the table is bounded, and a command that does not fit
// as a whole changes nothing.
func TestTooManyRegistrants(t *testing.T) {
	r := newPRRig(t, baseConfig, 2)
	r.must(0, register, 0, 0, 1)
	r.must(0, reserve, scsi.WriteExclusive, 1, 0)
	spec := func(first, n int) result {
		p := prList(0, 2, 8)
		var ids []byte
		for i := range n {
			itn := initiator(0, 1)
			itn.ISID = [6]byte{0x80, 0, 0, 0, byte((first + i) >> 8), byte(first + i)}
			ids = append(ids, transport(itn)...)
		}
		p = append(append(p, 0, 0, byte(len(ids)>>8), byte(len(ids))), ids...)
		return run(t, r.n[1], prOutCDB(register, 0, len(p)), p)
	}
	for first := 0; first < 1000; first += 500 {
		if got := spec(first, 500); got.status != scsi.Good {
			t.Fatalf("%v", got)
		}
		r.must(1, register, 0, 2, 0)
	}
	if _, asc := spec(1000, 100).key(); asc != scsi.InsufficientRegistrationResources {
		t.Errorf("%v", asc)
	}
	if got := r.port.Reservations(); len(got.Registrations) != 1001 {
		t.Errorf("%d registrations", len(got.Registrations))
	}
	if got := spec(1000, 22); got.status != scsi.Good {
		t.Errorf("%v", got)
	}
	move := moveList(1, 9, 0, initiator(1, 1))
	if got := run(t, r.n[0], prOutCDB(moveTo, 0, len(move)), move); got.status != scsi.Good {
		t.Errorf("to a registered nexus: %v", got)
	}
}

// TestNexusWithoutIdentity: an owner that gives no identity gets a device
// server without RESERVE, and one registration for all such nexuses.
func TestNexusWithoutIdentity(t *testing.T) {
	r := newPRRig(t, baseConfig, 0)
	r.join(nil)
	r.must(0, register, 0, 0, 1)
	r.must(0, reserve, scsi.WriteExclusive, 1, 0)
	r.must(0, clearAll, 0, 1, 0)
	if r.write(0) != scsi.Good {
		t.Error("write")
	}
	if got := run(t, r.n[0], []byte{0x16, 0, 0, 0, 0, 0}, nil); got.status != scsi.ReservationConflict {
		t.Errorf("RESERVE: %v", got)
	}
	if got := run(t, r.n[0], []byte{0x17, 0, 0, 0, 0, 0}, nil); got.status != scsi.Good {
		t.Errorf("RELEASE: %v", got)
	}
}

// TestReleaseBesideSave: RELEASE does not wait on the connection's goroutine
// for a change that is on its way to the disk.
func TestReleaseBesideSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowStore{release: make(chan struct{})}
		r := newPRRig(t, storeConfig(s), 2)
		out := start(t, r.n[0], prOutCDB(register, 0, 24), prList(0, 1, 1))
		synctest.Wait()
		c := &scsi.Command{Nexus: r.n[1], CDB: cdb16([]byte{0x17, 0, 0, 0, 0, 0})}
		done := make(chan struct{})
		c.Done = func(*scsi.Command) { close(done) }
		if !c.Decode() || c.TryExec() {
			t.Error("did not leave it to a worker")
		}
		c.Submit()
		// Everything else goes on, logins and logouts too.
		if r.write(1) != scsi.Good {
			t.Error("write")
		}
		r.join(initiator(7, 1))
		if got := r.port.Reservations(); len(got.Registrations) != 0 {
			t.Error("in effect before it is stored")
		}
		close(s.release)
		<-out.done
		<-done
		if c.Status != scsi.ReservationConflict || out.c.Status != scsi.Good {
			t.Errorf("RELEASE %v, REGISTER %v", c.Status, out.c.Status)
		}
		c.Release()
		out.c.Release()
	})
}

type slowStore struct {
	memStore
	release chan struct{}
}

func (s *slowStore) Save(p []byte) error {
	<-s.release
	return s.memStore.Save(p)
}

// TestAbortTasksNeverEnds: a logical unit that is taken down does not wait for a
// task manager that does not answer.
func TestAbortTasksNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPRRig(t, baseConfig, 2)
		r.port.AbortTasks = func([]*scsi.Nexus, func()) {}
		r.must(0, register, 0, 0, 1)
		r.must(1, register, 0, 0, 2)
		out := start(t, r.n[0], prOutCDB(preemptAbort, 1, 24), prList(1, 2, 0))
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.port.Revoke(ctx); err == nil || out.finished() {
			t.Errorf("Revoke: %v", err)
		}
		r.unit.Close()
		<-out.done
		if out.c.Status != scsi.Busy {
			t.Error(out.c.Status)
		}
		out.c.Release()
	})
}

// TestAbortTasksAborted: an abort of PREEMPT AND ABORT itself ends its wait for the
// task manager, whenever it comes: two nexuses that preempt each other would wait
// for ever.
func TestAbortTasksAborted(t *testing.T) {
	for _, when := range []string{"while it waits", "before it waits"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newPRRig(t, baseConfig, 2)
				r.must(0, register, 0, 0, 1)
				r.must(1, register, 0, 0, 2)
				var out *async
				hook := make(chan struct{})
				r.port.AbortTasks = func([]*scsi.Nexus, func()) {
					<-hook
					if when == "before it waits" && out.c.Abort() {
						t.Error("Abort says that it had not started")
					}
				}
				out = start(t, r.n[0], prOutCDB(preemptAbort, 1, 24), prList(1, 2, 0))
				close(hook)
				synctest.Wait()
				if when == "while it waits" {
					if out.finished() || out.c.Abort() {
						t.Error("it does not wait")
					}
				}
				<-out.done
				if out.c.Status != scsi.TaskAborted {
					t.Error(out.c.Status)
				}
				out.c.Release()
			})
		})
	}
}

// FuzzPersistentReserveOut sends any parameter list to a logical unit with
// registered nexuses: no panic, well-formed answers, a state that can be stored,
// and never more registrations than the table takes.
func FuzzPersistentReserveOut(f *testing.F) {
	f.Add(byte(0), byte(0), byte(1), prList(0, 1, 0))
	f.Add(byte(1), byte(1), byte(5), prList(1, 0, 0))
	f.Add(byte(0), byte(4), byte(7), prList(1, 2, 0))
	f.Add(byte(0), byte(7), byte(0), moveList(1, 5, 3, initiator(1, 1)))
	id := transport(initiator(3, 1))
	f.Add(byte(2), byte(0), byte(0), append(append(prList(0, 2, 13), 0, 0, 0, byte(len(id))), id...))
	f.Fuzz(func(t *testing.T, by, action, typ byte, list []byte) {
		if len(list) > 4096 {
			return
		}
		s := &memStore{}
		r := newPRRig(t, storeConfig(s), 3)
		if err := r.port.SetTargetPortGroups(&scsi.TargetPortGroups{Groups: []scsi.TargetPortGroup{{ID: 1, Ports: []uint16{1, 2}}}}); err != nil {
			t.Fatal(err)
		}
		r.flags(1, register, 0, 2, 1)
		r.flags(0, register, 0, 1, 1)
		r.must(0, reserve, scsi.ReservationType(1+4*(typ>>7)), 1, 0)
		cdb := prOutCDB(int(action&0x1F), scsi.ReservationType(typ&0x7F), len(list))
		for range 2 {
			run(t, r.n[by%3], cdb, list)
		}
		now := r.port.Reservations()
		if len(now.Registrations) > 1024 {
			t.Fatalf("%d registrations", len(now.Registrations))
		}
		for i := range r.n {
			r.attentions(i)
			r.in(i, status)
		}
		if again := newPRRig(t, storeConfig(&memStore{data: s.data}), 0).port.Reservations(); again.Lost {
			t.Errorf("stored %s", s.data)
		} else if now.Persistent && (again.Type != now.Type || len(again.Registrations) != len(now.Registrations)) {
			t.Errorf("stored %s for %+v", s.data, now)
		}
	})
}

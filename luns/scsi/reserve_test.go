package scsi_test

import (
	"context"
	"slices"
	"testing"

	"github.com/iserd/iserd/luns/scsi"
)

// TestCRH is SPC-5 5.14.3: RESERVE and RELEASE beside persistent reservations.
func TestCRH(t *testing.T) {
	reserve6 := []byte{0x16, 0, 0, 0, 0, 0}
	for _, cdb := range [][]byte{reserve6, {0x17, 0, 0, 0, 0, 0}, rw10(0x56, 0, 0), rw10(0x57, 0, 0)} {
		for _, typ := range append([]scsi.ReservationType{0}, allTypes...) {
			r := newPRRig(t, baseConfig, 3)
			r.must(0, register, 0, 0, 1)
			r.must(1, register, 0, 0, 2)
			want := [3]scsi.Status{scsi.ReservationConflict, scsi.ReservationConflict, scsi.ReservationConflict}
			if typ != 0 {
				r.must(0, reserve, typ, 1, 0)
				want[0] = scsi.Good
				if typ >= scsi.WriteExclusiveRegistrantsOnly {
					want[1] = scsi.Good
				}
			}
			for i := range r.n {
				if got := run(t, r.n[i], cdb, nil); got.status != want[i] {
					t.Errorf("% x, %v, nexus %d: %v, want %v", cdb, typ, i, got, want[i])
				}
			}
			if _, got := r.reservation(0); got != typ {
				t.Errorf("the reservation has changed from %v to %v", typ, got)
			}
		}
	}
}

func TestReserveRelease(t *testing.T) {
	for _, ops := range [][2]byte{{0x16, 0x17}, {0x56, 0x57}} {
		r := newPRRig(t, baseConfig, 2)
		take := func(i int) scsi.Status { return run(t, r.n[i], []byte{ops[0], 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil).status }
		free := func(i int) scsi.Status { return run(t, r.n[i], []byte{ops[1], 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil).status }
		if free(0) != scsi.Good || take(0) != scsi.Good || take(0) != scsi.Good || take(1) != scsi.ReservationConflict {
			t.Error("reserve")
		}
		if got := r.port.Reservations().Reserved; got != initiator(0, 1).InitiatorName {
			t.Errorf("reserved by %q", got)
		}
		if free(1) != scsi.Good || r.write(1) != scsi.ReservationConflict || r.write(0) != scsi.Good {
			t.Error("a RELEASE by another nexus had an effect")
		}
		if free(0) != scsi.Good || r.write(1) != scsi.Good {
			t.Error("release")
		}
		take(0)
		r.n[0].Detach() // logout
		if r.write(1) != scsi.Good {
			t.Error("the reservation outlived its session")
		}
		r.n[0] = r.port.Attach(initiator(0, 1))
		drainAttentions(t, r.n[0])
		take(0)
		r.port.Reset()
		drainAttentions(t, r.n[1])
		if r.write(1) != scsi.Good {
			t.Error("the reservation outlived a LOGICAL UNIT RESET")
		}
		for _, b1 := range []byte{0x10, 0x01, 0x02} {
			got := run(t, r.n[1], []byte{ops[0], b1, 0, 0, 0, 0, 0, 0, 0, 0}, nil)
			if _, asc := got.key(); (asc == scsi.InvalidFieldInCDB) != (b1 != 2 || ops[0] == 0x56) {
				t.Errorf("byte 1 %#x: %v", b1, got)
			}
		}
	}
}

// TestRegistrationOutlivesSession: keys belong to the I_T nexus and not to the
// session, and persistent reservations survive a LOGICAL UNIT RESET.
func TestRegistrationOutlivesSession(t *testing.T) {
	r := newPRRig(t, baseConfig, 3)
	r.must(0, register, 0, 0, 1)
	r.must(0, reserve, scsi.WriteExclusive, 1, 0)
	r.n[0].Detach()
	r.port.Reset()
	drainAttentions(t, r.n[1])
	if r.write(1) != scsi.ReservationConflict {
		t.Error("the fence fell with the session")
	}
	again := r.join(initiator(0, 1))
	if got := run(t, again, rw10(0x2A, 0, 1), fill(512, 1)); got.status != scsi.Good {
		t.Errorf("the holder after its return: %v", got)
	}
	elsewhere := initiator(0, 1)
	elsewhere.ISID[5] = 99
	if got := run(t, r.join(elsewhere), rw10(0x2A, 0, 1), fill(512, 1)); got.status != scsi.ReservationConflict {
		t.Errorf("another port of the same initiator: %v", got)
	}
	if got := run(t, r.join(initiator(0, 2)), rw10(0x2A, 0, 1), fill(512, 1)); got.status != scsi.ReservationConflict {
		t.Errorf("the same through another target port: %v", got)
	}
}

// TestUnitRestart: a restart of the logical unit keeps every kind of
// reservation, with or without APTPL.
func TestUnitRestart(t *testing.T) {
	r := newPRRig(t, baseConfig, 2)
	r.must(0, register, 0, 0, 1)
	r.must(0, reserve, scsi.WriteExclusive, 1, 0)
	if err := r.port.Revoke(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := r.write(1); got != scsi.Busy {
		t.Errorf("meanwhile: %v", got)
	}
	u, err := scsi.NewUnit(baseConfig, r.b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	r.port.Publish(u)
	if got := r.write(1); got != scsi.ReservationConflict {
		t.Errorf("after a restart: %v", got)
	}
}

// TestWindowsCluster is the script of cluster validation: for each type, with
// three nexuses, and again after a restart of the target (APTPL).
func TestWindowsCluster(t *testing.T) {
	for _, typ := range allTypes {
		t.Run(typ.String(), func(t *testing.T) {
			const a, b, c = 0, 1, 2
			s := &memStore{}
			r := newPRRig(t, storeConfig(s), 3)
			for i := range 3 {
				if got := r.flags(i, registerIgnore, 0, uint64(0xA0+i), 1); got.status != scsi.Good {
					t.Fatal(got)
				}
			}
			r.must(a, reserve, typ, 0xA0, 0)
			if typ != scsi.WriteExclusive && typ != scsi.ExclusiveAccess {
				if r.write(b) != scsi.Good {
					t.Error("a registrant may write")
				}
			} else if r.write(b) != scsi.ReservationConflict {
				t.Error("a registrant may not write")
			}
			r.must(b, preempt, typ, 0xA1, 0xA0)
			if got := r.attentions(a); !slices.Equal(got, []scsi.ASC{scsi.RegistrationsPreempted}) {
				t.Errorf("the preempted was told %v", got)
			}
			if r.write(a) != scsi.ReservationConflict {
				t.Error("the preempted may write")
			}
			// The target restarts: a new port and new sessions.
			after := newPRRig(t, storeConfig(s), 3)
			if after.write(a) != scsi.ReservationConflict || after.write(b) != scsi.Good {
				t.Error("not as before the restart")
			}
			if got := after.flags(a, registerIgnore, 0, 0xA0, 1); got.status != scsi.Good {
				t.Fatal(got)
			}
			after.must(b, release, typ, 0xA1, 0)
			var want []scsi.ASC
			if typ != scsi.WriteExclusive && typ != scsi.ExclusiveAccess {
				want = []scsi.ASC{scsi.ReservationsReleased}
			}
			if got := after.attentions(c); !slices.Equal(got, want) {
				t.Errorf("after release %v, want %v", got, want)
			}
			after.attentions(a)
			after.must(b, clearAll, 0, 0xA1, 0)
			if got := after.attentions(c); !slices.Equal(got, []scsi.ASC{scsi.ReservationsPreempted}) {
				t.Errorf("after clear %v", got)
			}
		})
	}
}

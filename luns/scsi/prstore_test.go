package scsi_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/luns/scsi/aptpl"
)

// TestAPTPL: what is stored comes back after a restart of the target, and
// without APTPL nothing does.
func TestAPTPL(t *testing.T) {
	f := aptpl.New(filepath.Join(t.TempDir(), "lun0"))
	start := func() *prRig { return newPRRig(t, storeConfig(f), 3) }
	r := start()
	r.must(1, register, 0, 0, 2)
	r.flags(0, register, 0, 1, 1)
	r.must(0, reserve, scsi.ExclusiveAccess, 1, 0)
	want := r.port.Reservations()
	r = start()
	got := r.port.Reservations()
	want.Generation = 0 // SPC-5 6.16.2
	if diff := cmp.Diff(want, got); diff != "" || !got.Persistent {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r.read(1) != scsi.ReservationConflict || r.write(0) != scsi.Good {
		t.Error("the fence is down after a restart")
	}
	r.must(1, preempt, scsi.WriteExclusiveAllRegistrants, 2, 1)
	r = start()
	if key, typ := r.reservation(0); key != 0 || typ != scsi.WriteExclusiveAllRegistrants {
		t.Errorf("after PREEMPT: %x %v", key, typ)
	}
	// The last APTPL bit counts: zero, and nothing is kept.
	r.must(1, register, 0, 2, 2)
	if _, typ := r.reservation(0); typ == 0 {
		t.Error("APTPL zero ended the reservation at once")
	}
	r = start()
	if got := r.port.Reservations(); len(got.Registrations) != 0 || got.Type != 0 {
		t.Errorf("kept without APTPL: %+v", got)
	}
}

// TestSaveFails: never GOOD for what is not stored, and nothing changes.
func TestSaveFails(t *testing.T) {
	var reported []error
	s := &memStore{}
	cfg := storeConfig(s)
	cfg.Report = func(e *scsi.Error) { reported = append(reported, e) }
	r := newPRRig(t, cfg, 2)
	if got := r.flags(0, register, 0, 1, 1); got.status != scsi.Good {
		t.Fatal(got)
	}
	r.must(1, register, 0, 0, 2) // APTPL zero
	if got := r.flags(1, register, 2, 2, 1); got.status != scsi.Good {
		t.Fatal(got)
	}
	r.must(0, reserve, scsi.WriteExclusive, 1, 0)
	before, stored := r.port.Reservations(), s.data
	s.saveErr = errBroken
	for _, x := range []struct {
		by, action     int
		key, actionKey uint64
	}{{0, register, 1, 5}, {0, release, 1, 0}, {0, clearAll, 1, 0}, {1, preempt, 2, 1}, {0, register, 1, 0}, {1, registerIgnore, 0, 9}} {
		reported = nil
		got := r.out(x.by, x.action, scsi.WriteExclusive, x.key, x.actionKey)
		if k, a := got.key(); k != scsi.HardwareError || a != scsi.InternalTargetFailure {
			t.Errorf("service action %d: %v", x.action, got)
		}
		if len(reported) != 1 || !errors.Is(reported[0], errBroken) {
			t.Errorf("reported %v", reported)
		}
		if diff := cmp.Diff(before, r.port.Reservations()); diff != "" {
			t.Errorf("service action %d changed the state:\n%s", x.action, diff)
		}
		if !bytes.Equal(s.data, stored) {
			t.Errorf("service action %d changed the store", x.action)
		}
	}
	if err := r.port.ClearReservations(); !errors.Is(err, errBroken) {
		t.Errorf("ClearReservations: %v", err)
	}
	for i := range r.n {
		if got := r.attentions(i); got != nil {
			t.Errorf("nexus %d was told %v", i, got)
		}
	}
}

// TestDamagedStore is bar D13: what cannot be read fences everybody, the target
// starts, and there are ways out.
func TestDamagedStore(t *testing.T) {
	f := aptpl.New(filepath.Join(t.TempDir(), "lun0"))
	start := func() (*prRig, *[]error) {
		var reported []error
		cfg := storeConfig(f)
		cfg.Report = func(e *scsi.Error) { reported = append(reported, e) }
		return newPRRig(t, cfg, 2), &reported
	}
	damage := func() {
		if err := os.WriteFile(f.Path(), []byte("iserd-reservations 1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fenced := func(r *prRig) {
		t.Helper()
		for i := range r.n {
			r.attentions(i)
			if r.write(i) != scsi.ReservationConflict || r.read(i) != scsi.ReservationConflict {
				t.Errorf("nexus %d is not fenced", i)
			}
			if got := run(t, r.n[i], []byte{0x12, 0, 0, 0, 96, 0}, nil); got.status != scsi.Good {
				t.Errorf("INQUIRY: %v", got)
			}
			for _, action := range []byte{readReservation, status} {
				got := run(t, r.n[i], []byte{0x5E, action, 0, 0, 0, 0, 0, 1, 0, 0}, nil)
				if k, a := got.key(); k != scsi.HardwareError || a != scsi.PersistentReservationLost {
					t.Errorf("PERSISTENT RESERVE IN %d: %v", action, got)
				}
			}
		}
	}
	free := func(r *prRig) {
		t.Helper()
		if r.attentions(0); r.write(0) != scsi.Good || r.port.Reservations().Lost {
			t.Error("still fenced")
		}
		if again, _ := start(); again.port.Reservations().Lost {
			t.Error("fenced again after a restart")
		}
	}

	damage()
	r, reported := start()
	if len(*reported) != 1 || !errors.Is((*reported)[0], aptpl.ErrDamaged) || !strings.Contains((*reported)[0].Error(), "all initiators are fenced") {
		t.Errorf("reported %v", *reported)
	}
	if !r.port.Reservations().Lost {
		t.Error("not told")
	}
	fenced(r)
	r.conflicts(0, reserve, scsi.WriteExclusive, 0, 0)
	r.must(0, registerIgnore, 0, 0, 1)
	r.conflicts(0, reserve, scsi.WriteExclusive, 1, 0)
	r.conflicts(0, preempt, scsi.WriteExclusive, 1, 9)
	r.must(0, release, scsi.WriteExclusive, 1, 0)
	if got := run(t, r.n[0], []byte{0x16, 0, 0, 0, 0, 0}, nil); got.status != scsi.ReservationConflict {
		t.Errorf("RESERVE: %v", got)
	}
	fenced(r)
	again, _ := start() // the REGISTER has been stored, and the fence with it
	fenced(again)
	again.must(0, clearAll, 0, 1, 0)
	free(again)

	damage()
	r, _ = start()
	for name, list := range map[string][]byte{"key": prList(1, 2, 0), "no key": prList(0, 0, 0)} {
		got := run(t, r.n[0], prOutCDB(replaceLost, 1, 24), list)
		if _, asc := got.key(); asc != scsi.InvalidFieldInParamList {
			t.Errorf("REPLACE LOST RESERVATION, %s: %v", name, got)
		}
	}
	r.must(0, replaceLost, scsi.WriteExclusive, 0, 3)
	if key, typ := r.reservation(0); key != 3 || typ != scsi.WriteExclusive || r.write(1) != scsi.ReservationConflict {
		t.Errorf("replaced by %x %v", key, typ)
	}
	free(r)

	damage()
	r, _ = start()
	if err := r.port.ClearReservations(); err != nil {
		t.Fatal(err)
	}
	free(r)
	if r.write(1) != scsi.Good {
		t.Error("still fenced")
	}
}

// TestStoredForms: every flip and truncation of what is stored that the store
// itself does not find (it has no checksum here) is refused, or is a state that
// could have been stored.
func TestStoredForms(t *testing.T) {
	s := &memStore{}
	r := newPRRig(t, storeConfig(s), 2)
	r.flags(1, register, 0, 2, 1)
	r.flags(0, register, 0, 1, 1)
	r.must(0, reserve, scsi.WriteExclusive, 1, 0)
	good := slices.Clone(s.data)
	for _, bad := range []string{
		"", "{}", "null", "[]", `{"version":2}`, `{"version":1} `, `{"version":1,"x":1}`,
		`{"version":1,"type":1}`, `{"version":1,"type":7}`,
		`{"version":1,"type":1,"registrants":[{"initiator":"a","isid":"400000000000","port":1,"key":"1"}]}`,
		`{"version":1,"type":1,"holder":{"initiator":"b","isid":"400000000000","port":1},"registrants":[{"initiator":"a","isid":"400000000000","port":1,"key":"1"}]}`,
		`{"version":1,"holder":{"initiator":"a","isid":"400000000000","port":1},"registrants":[{"initiator":"a","isid":"400000000000","port":1,"key":"1"}]}`,
		`{"version":1,"registrants":[{"initiator":"a","isid":"400000000000","port":1,"key":"0"}]}`,
		`{"version":1,"registrants":[{"initiator":"a","isid":"4000","port":1,"key":"1"}]}`,
		`{"version":1,"registrants":[{"initiator":"a","isid":"400000000000","port":1,"key":"1"},{"initiator":"a","isid":"400000000000","port":1,"key":"2"}]}`,
		`{"version":1,"type":2,"holder":{"initiator":"a","isid":"400000000000","port":1},"registrants":[{"initiator":"a","isid":"400000000000","port":1,"key":"1"}]}`,
	} {
		if r := newPRRig(t, storeConfig(&memStore{data: []byte(bad)}), 0); !r.port.Reservations().Lost {
			t.Errorf("%s was taken for %+v", bad, r.port.Reservations())
		}
	}
	for i := range good {
		if r := newPRRig(t, storeConfig(&memStore{data: good[:i]}), 0); !r.port.Reservations().Lost {
			t.Errorf("%q was taken for %+v", good[:i], r.port.Reservations())
		}
	}
	if r := newPRRig(t, storeConfig(&memStore{loadErr: errBroken}), 0); !r.port.Reservations().Lost {
		t.Error("an error of Load was taken for an empty state")
	}
}

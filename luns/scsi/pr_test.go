package scsi_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns/scsi"
)

func storeConfig(s scsi.Store) scsi.Config {
	cfg := baseConfig
	cfg.Store = s
	return cfg
}

// TestPRGolden compares the data of PERSISTENT RESERVE IN byte for byte.
func TestPRGolden(t *testing.T) {
	r := newPRRig(t, storeConfig(&memStore{}), 2)
	check := func(name string, action int, want ...string) {
		t.Helper()
		if diff := cmp.Diff(unhex(t, want...), r.in(0, action)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	check("no keys", readKeys, "00000000 00000000")
	check("no reservation", readReservation, "00000000 00000000")
	check("capabilities", capabilities, "0008 99 90 ea01 0000")
	check("no status", status, "00000000 00000000")
	if got := r.flags(0, register, 0, 0xA1, 1); got.status != scsi.Good { // APTPL
		t.Fatal(got)
	}
	r.must(1, registerIgnore, 0, 99, 0xB1)
	check("capabilities without APTPL", capabilities, "0008 99 90 ea01 0000")
	if got := r.flags(0, register, 0xA1, 0xA1, 1); got.status != scsi.Good {
		t.Fatal(got)
	}
	check("capabilities with APTPL", capabilities, "0008 99 91 ea01 0000")
	check("keys", readKeys, "00000003 00000010 00000000000000a1 00000000000000b1")
	r.must(1, reserve, scsi.ExclusiveAccessRegistrantsOnly, 0xB1, 0)
	check("reservation", readReservation, "00000003 00000010 00000000000000b1 00000000 00 06 0000")
	id := func(i string) string {
		return "45 00 0030" + ascii("iqn.2024-01.org.example:host"+i+",i,0x40000000000"+i) + nul(2)
	}
	check("status", status, "00000003 00000098",
		"00000000000000a1 00000000 00 00 00000000 0001 00000034", id("0"),
		"00000000000000b1 00000000 01 06 00000000 0001 00000034", id("1"))
	r.must(1, release, scsi.ExclusiveAccessRegistrantsOnly, 0xB1, 0)
	r.attentions(0)
	r.must(1, reserve, scsi.WriteExclusiveAllRegistrants, 0xB1, 0)
	check("all registrants", readReservation, "00000003 00000010 0000000000000000 00000000 00 07 0000")
	check("all hold", status, "00000003 00000098",
		"00000000000000a1 00000000 01 07 00000000 0001 00000034", id("0"),
		"00000000000000b1 00000000 01 07 00000000 0001 00000034", id("1"))
	// Truncation is no error, and lengths tell of the whole.
	got := run(t, r.n[0], []byte{0x5E, readKeys, 0, 0, 0, 0, 0, 0, 12, 0}, nil)
	if !bytes.Equal(got.in, unhex(t, "00000003 00000010 00000000")) {
		t.Errorf("truncated: % x", got.in)
	}
}

// TestRegister is SPC-5 tables 76 and 77: what REGISTER and REGISTER AND IGNORE
// EXISTING KEY do.
func TestRegister(t *testing.T) {
	const mine, other = 0xA, 0xB
	for _, tt := range []struct {
		name           string
		registered     bool
		action         int
		key, actionKey uint64
		conflict       bool
		want           []uint64
	}{
		{"new", false, register, 0, other, false, []uint64{other}},
		{"nothing", false, register, 0, 0, false, nil},
		{"new with a key", false, register, mine, other, true, nil},
		{"change", true, register, mine, other, false, []uint64{other}},
		{"same", true, register, mine, mine, false, []uint64{mine}},
		{"wrong key", true, register, other, other, true, []uint64{mine}},
		{"zero key", true, register, 0, other, true, []uint64{mine}},
		{"unregister", true, register, mine, 0, false, nil},
		{"unregister, wrong key", true, register, other, 0, true, []uint64{mine}},
		{"ignore: new", false, registerIgnore, 77, other, false, []uint64{other}},
		{"ignore: nothing", false, registerIgnore, 77, 0, false, nil},
		{"ignore: change", true, registerIgnore, 77, other, false, []uint64{other}},
		{"ignore: unregister", true, registerIgnore, 77, 0, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newPRRig(t, baseConfig, 2)
			if tt.registered {
				r.must(0, register, 0, 0, mine)
			}
			before, _ := r.keys(1)
			got := r.out(0, tt.action, 0, tt.key, tt.actionKey)
			if (got.status == scsi.ReservationConflict) != tt.conflict || !tt.conflict && got.status != scsi.Good {
				t.Errorf("%v", got)
			}
			after, keys := r.keys(1)
			if !slices.Equal(keys, tt.want) {
				t.Errorf("keys %x, want %x", keys, tt.want)
			}
			if (after == before) != tt.conflict {
				t.Errorf("PRGENERATION from %d to %d", before, after)
			}
		})
	}
}

func TestPROutErrors(t *testing.T) {
	r := newPRRig(t, baseConfig, 2)
	r.must(0, register, 0, 0, 0xA)
	r.must(1, register, 0, 0, 0xB)
	bad := func(name string, i int, cdb, list []byte, key scsi.SenseKey, asc scsi.ASC) {
		t.Helper()
		got := run(t, r.n[i], cdb, list)
		if k, a := got.key(); got.status != scsi.CheckCondition || k != key || a != asc {
			t.Errorf("%s: %v, want %v %v", name, got, key, asc)
		}
	}
	const ill = scsi.IllegalRequest
	lenErr, cdbErr, listErr := scsi.ParameterListLengthError, scsi.InvalidFieldInCDB, scsi.InvalidFieldInParamList
	bad("no list", 0, prOutCDB(register, 0, 0), nil, ill, lenErr)
	bad("short list", 0, prOutCDB(register, 0, 23), prList(0xA, 1, 0), ill, lenErr)
	bad("long list", 0, prOutCDB(register, 0, 25), append(prList(0xA, 1, 0), 0), ill, lenErr)
	bad("huge list", 0, prOutCDB(register, 0, 0xFFFFFFFF), nil, ill, cdbErr)
	bad("data missing", 0, prOutCDB(register, 0, 24), prList(0xA, 1, 0)[:20], ill, lenErr)
	bad("type 0", 0, prOutCDB(reserve, 0, 24), prList(0xA, 0, 0), ill, cdbErr)
	bad("type 2", 0, prOutCDB(reserve, 2, 24), prList(0xA, 0, 0), ill, cdbErr)
	bad("type 4", 0, prOutCDB(reserve, 4, 24), prList(0xA, 0, 0), ill, cdbErr)
	bad("type 9", 0, prOutCDB(reserve, 9, 24), prList(0xA, 0, 0), ill, cdbErr)
	bad("scope", 0, prOutCDB(reserve, 0x11, 24), prList(0xA, 0, 0), ill, cdbErr)
	bad("APTPL without a store", 0, prOutCDB(register, 0, 24), prList(0xA, 0xA, 1), ill, listErr)
	bad("ALL_TG_PT with unknown ports", 0, prOutCDB(register, 0, 24), prList(0xA, 0xA, 4), ill, listErr)
	bad("SPEC_I_PT with ignore", 0, prOutCDB(registerIgnore, 0, 24), prList(0xA, 0xA, 8), ill, listErr)
	bad("SPEC_I_PT of a registered nexus", 0, prOutCDB(register, 0, 28), append(prList(0xA, 0xA, 8), 0, 0, 0, 0), ill, cdbErr)
	bad("PREEMPT of key 0", 0, prOutCDB(preempt, 1, 24), prList(0xA, 0, 0), ill, listErr)
	bad("REPLACE LOST, nothing lost", 0, prOutCDB(replaceLost, 1, 24), prList(0, 0xA, 0), ill, cdbErr)
	bad("service action 9", 0, prOutCDB(9, 1, 24), prList(0xA, 0, 0), ill, cdbErr)
	bad("IN service action 4", 0, []byte{0x5E, 4, 0, 0, 0, 0, 0, 0, 8, 0}, nil, ill, cdbErr)
	r.conflicts(0, preempt, 1, 0xA, 0xC) // no such key
	r.conflicts(0, reserve, 1, 0xB, 0)   // the key of another nexus
	r.conflicts(0, clearAll, 0, 0xB, 0)
	r.must(0, reserve, scsi.WriteExclusive, 0xA, 0)
	r.must(0, reserve, scsi.WriteExclusive, 0xA, 0) // again
	r.conflicts(0, reserve, scsi.ExclusiveAccess, 0xA, 0)
	bad("RELEASE of another type", 0, prOutCDB(release, 3, 24), prList(0xA, 0, 0), ill, scsi.InvalidReleaseOfReservation)
	bad("RELEASE of another scope", 0, prOutCDB(release, 0x11, 24), prList(0xA, 0, 0), ill, scsi.InvalidReleaseOfReservation)
	bad("PREEMPT with a bad type", 1, prOutCDB(preempt, 2, 24), prList(0xB, 0xA, 0), ill, cdbErr)
	if key, typ := r.reservation(0); key != 0xA || typ != scsi.WriteExclusive {
		t.Errorf("reservation %x %v", key, typ)
	}
	if _, keys := r.keys(0); !slices.Equal(keys, []uint64{0xA, 0xB}) {
		t.Errorf("keys %x", keys)
	}
}

// TestAttentions checks who is told what, with three registrants and one
// nexus that is not registered: nexus 0 holds the reservation.
func TestAttentions(t *testing.T) {
	const none = scsi.ASC(0)
	const gone, freed, removed = scsi.ReservationsPreempted, scsi.ReservationsReleased, scsi.RegistrationsPreempted
	type step struct {
		name   string
		by     int
		action int
		typ    scsi.ReservationType // 0: that of the reservation
		key    uint64
		other  uint64
		want   func(typ scsi.ReservationType) [4]scsi.ASC
	}
	same := func(w ...scsi.ASC) func(scsi.ReservationType) [4]scsi.ASC {
		return func(scsi.ReservationType) [4]scsi.ASC { return [4]scsi.ASC(w) }
	}
	single := func(typ scsi.ReservationType) bool {
		return typ == scsi.WriteExclusive || typ == scsi.ExclusiveAccess
	}
	registrants := func(typ scsi.ReservationType) bool {
		return typ == scsi.WriteExclusiveRegistrantsOnly || typ == scsi.ExclusiveAccessRegistrantsOnly
	}
	for _, s := range []step{
		{"release", 0, release, 0, 1, 0, func(typ scsi.ReservationType) [4]scsi.ASC {
			if single(typ) {
				return [4]scsi.ASC{}
			}
			return [4]scsi.ASC{none, freed, freed, none}
		}},
		{"unregister", 0, register, 0, 1, 0, func(typ scsi.ReservationType) [4]scsi.ASC {
			if registrants(typ) {
				return [4]scsi.ASC{none, freed, freed, none}
			}
			return [4]scsi.ASC{}
		}},
		{"clear", 1, clearAll, 0, 2, 0, same(gone, none, gone, none)},
		{"preempt a registration", 1, preempt, 0, 2, 3, same(none, none, removed, none)},
		{"preempt, same type", 1, preempt, 0, 2, 1, same(removed, none, none, none)},
		{"preempt and abort, same type", 1, preemptAbort, 0, 2, 1, same(removed, none, none, none)},
		{"preempt, other type", 1, preempt, scsi.ExclusiveAccess, 2, 1, func(typ scsi.ReservationType) [4]scsi.ASC {
			if typ == scsi.ExclusiveAccess || !single(typ) && !registrants(typ) {
				return [4]scsi.ASC{removed, none, none, none}
			}
			return [4]scsi.ASC{removed, none, freed, none}
		}},
	} {
		for _, typ := range allTypes {
			t.Run(s.name+"/"+typ.String(), func(t *testing.T) {
				r := newPRRig(t, baseConfig, 4)
				for i := range 3 {
					r.must(i, register, 0, 0, uint64(i+1))
				}
				r.must(0, reserve, typ, 1, 0)
				as := s.typ
				if as == 0 {
					as = typ
				}
				r.must(s.by, s.action, as, s.key, s.other)
				for i, want := range s.want(typ) {
					var list []scsi.ASC
					if want != none {
						list = []scsi.ASC{want}
					}
					if got := r.attentions(i); !slices.Equal(got, list) {
						t.Errorf("nexus %d: %v, want %v", i, got, list)
					}
				}
			})
		}
	}
}

func TestPreempt(t *testing.T) {
	t.Run("all registrants by key 0", func(t *testing.T) {
		r := newPRRig(t, baseConfig, 3)
		for i := range 3 {
			r.must(i, register, 0, 0, uint64(i+1))
		}
		r.must(0, reserve, scsi.ExclusiveAccessAllRegistrants, 1, 0)
		r.must(1, preempt, scsi.WriteExclusive, 2, 0)
		if _, keys := r.keys(1); !slices.Equal(keys, []uint64{2}) {
			t.Errorf("keys %x", keys)
		}
		if key, typ := r.reservation(1); key != 2 || typ != scsi.WriteExclusive {
			t.Errorf("reservation %x %v", key, typ)
		}
	})
	t.Run("all registrants by key", func(t *testing.T) {
		r := newPRRig(t, baseConfig, 3)
		for i := range 3 {
			r.must(i, register, 0, 0, uint64(i+1))
		}
		r.must(0, reserve, scsi.ExclusiveAccessAllRegistrants, 1, 0)
		r.must(1, preempt, scsi.WriteExclusive, 2, 1)
		if _, typ := r.reservation(1); typ != scsi.ExclusiveAccessAllRegistrants {
			t.Errorf("reservation %v", typ)
		}
		r.must(1, preempt, scsi.WriteExclusive, 2, 3)
		r.must(1, preempt, scsi.WriteExclusive, 2, 2) // itself, the last one
		if _, typ := r.reservation(1); typ != 0 {
			t.Errorf("reservation %v without registrants", typ)
		}
	})
	t.Run("own key", func(t *testing.T) {
		r := newPRRig(t, baseConfig, 2)
		r.must(0, register, 0, 0, 1)
		r.must(1, register, 0, 0, 2)
		r.must(0, reserve, scsi.WriteExclusive, 1, 0)
		// The holder changes the type of its own reservation.
		r.must(0, preempt, scsi.ExclusiveAccess, 1, 1)
		if key, typ := r.reservation(0); key != 1 || typ != scsi.ExclusiveAccess {
			t.Errorf("reservation %x %v", key, typ)
		}
		// One that does not hold it removes its own registration.
		r.attentions(1)
		r.must(1, preempt, scsi.ExclusiveAccess, 2, 2)
		if _, keys := r.keys(0); !slices.Equal(keys, []uint64{1}) {
			t.Errorf("keys %x", keys)
		}
	})
	t.Run("shared key", func(t *testing.T) {
		r := newPRRig(t, baseConfig, 4)
		for i, key := range []uint64{7, 7, 8, 9} {
			r.must(i, register, 0, 0, key)
		}
		r.must(0, reserve, scsi.WriteExclusiveRegistrantsOnly, 7, 0)
		r.must(2, preemptAbort, scsi.WriteExclusiveRegistrantsOnly, 8, 7)
		if _, keys := r.keys(2); !slices.Equal(keys, []uint64{8, 9}) {
			t.Errorf("keys %x", keys)
		}
		for i, want := range []scsi.Status{scsi.ReservationConflict, scsi.ReservationConflict, scsi.Good, scsi.Good} {
			if r.attentions(i); r.write(i) != want {
				t.Errorf("write from %d", i)
			}
		}
	})
	t.Run("no reservation", func(t *testing.T) {
		r := newPRRig(t, baseConfig, 2)
		r.must(0, register, 0, 0, 1)
		r.must(1, register, 0, 0, 2)
		r.must(1, preempt, scsi.WriteExclusive, 2, 1)
		if _, typ := r.reservation(1); typ != 0 {
			t.Errorf("PREEMPT of a registration made a reservation of type %v", typ)
		}
	})
}

package scsi_test

import (
	"bytes"
	"context"
	"encoding/binary"
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

func moveList(key, actionKey uint64, flags byte, to *scsi.ITNexus) []byte {
	id := transport(to)
	p := prList(key, actionKey, 0)
	p[17] = flags
	binary.BigEndian.PutUint16(p[18:], to.RelativePort)
	binary.BigEndian.PutUint32(p[20:], uint32(len(id)))
	return append(p, id...)
}

func TestRegisterAndMove(t *testing.T) {
	r := newPRRig(t, baseConfig, 3)
	move := func(i int, list []byte) result {
		return run(t, r.n[i], prOutCDB(moveTo, 0, len(list)), list)
	}
	r.must(0, register, 0, 0, 1)
	if got := move(0, moveList(1, 5, 0, initiator(1, 1))); got.status != scsi.ReservationConflict {
		t.Errorf("without a reservation: %v", got)
	}
	r.must(0, reserve, scsi.ExclusiveAccess, 1, 0)
	for name, list := range map[string][]byte{
		"key 0":      moveList(1, 0, 0, initiator(1, 1)),
		"to itself":  moveList(1, 5, 0, initiator(0, 1)),
		"no port":    moveList(1, 5, 0, initiator(1, 9)),
		"no APTPL":   moveList(1, 5, 1, initiator(1, 1)),
		"protocol":   func() []byte { p := moveList(1, 5, 0, initiator(1, 1)); p[24] = 0x46; return p }(),
		"two IDs":    func() []byte { p := moveList(1, 5, 0, initiator(1, 1)); p[23] *= 2; return append(p, p[24:]...) }(),
		"any port":   func() []byte { p := moveList(1, 5, 0, initiator(1, 1)); p[24] = 5; return p }(),
		"format 10b": func() []byte { p := moveList(1, 5, 0, initiator(1, 1)); p[24] = 0x85; return p }(),
	} {
		got := move(0, list)
		if _, asc := got.key(); asc != scsi.InvalidFieldInParamList {
			t.Errorf("%s: %v", name, got)
		}
	}
	cut := moveList(1, 5, 0, initiator(1, 1))
	if _, asc := move(0, cut[:len(cut)-4]).key(); asc != scsi.ParameterListLengthError {
		t.Errorf("cut short: %v", asc)
	}
	if got := move(0, moveList(1, 5, 0, initiator(1, 1))); got.status != scsi.Good {
		t.Fatal(got)
	}
	if key, typ := r.reservation(2); key != 5 || typ != scsi.ExclusiveAccess {
		t.Errorf("reservation %x %v", key, typ)
	}
	if r.write(0) != scsi.ReservationConflict || r.write(1) != scsi.Good {
		t.Error("rights did not move")
	}
	if got := move(0, moveList(1, 6, 0, initiator(2, 1))); got.status != scsi.ReservationConflict {
		t.Errorf("by one that holds nothing: %v", got)
	}
	if got := move(1, moveList(5, 6, 2, initiator(2, 1))); got.status != scsi.Good { // UNREG
		t.Fatal(got)
	}
	if _, keys := r.keys(2); !slices.Equal(keys, []uint64{1, 6}) {
		t.Errorf("keys %x", keys)
	}
	for i := range r.n {
		if got := r.attentions(i); got != nil {
			t.Errorf("nexus %d was told %v", i, got)
		}
	}
}

func TestSpecIPT(t *testing.T) {
	spec := func(key, actionKey uint64, flags byte, ids ...[]byte) []byte {
		all := bytes.Join(ids, nil)
		p := binary.BigEndian.AppendUint32(prList(key, actionKey, 8|flags), uint32(len(all)))
		return append(p, all...)
	}
	device := func(name string) []byte {
		p := make([]byte, 4+(len(name)+4)&^3)
		p[0], p[3] = 5, byte(len(p)-4)
		copy(p[4:], name)
		return p
	}
	for _, tt := range []struct {
		name string
		list []byte
		want []uint64
		asc  scsi.ASC
	}{
		{"none", spec(0, 7, 0), []uint64{9, 7}, 0},
		{"one", spec(0, 7, 0, transport(initiator(1, 1))), []uint64{9, 7, 7}, 0},
		{"not logged in", spec(0, 7, 0, transport(initiator(5, 1))), []uint64{9, 7, 7}, 0},
		{"device", spec(0, 7, 0, device("iqn.2024-01.org.example:host1")), []uint64{9, 7, 7, 7}, 0},
		{"all ports", spec(0, 7, 4, transport(initiator(1, 1))), []uint64{9, 7, 7, 7, 7}, 0},
		{"capitals", spec(0, 7, 0, bytes.ToUpper(transport(initiator(1, 1)))), []uint64{9, 7, 7}, 0},
		{"registered with that key", spec(0, 9, 0, transport(initiator(2, 1))), []uint64{9, 9}, 0},
		{"registered with another", spec(0, 7, 0, transport(initiator(1, 1)), transport(initiator(2, 1))), []uint64{9}, 0},
		{"itself", spec(0, 7, 0, transport(initiator(0, 1))), []uint64{9}, scsi.InvalidFieldInParamList},
		{"device unknown", spec(0, 7, 0, device("iqn.2024-01.org.example:nobody")), []uint64{9}, scsi.InvalidFieldInParamList},
		{"second bad", spec(0, 7, 0, transport(initiator(1, 1)), make([]byte, 24)), []uint64{9}, scsi.InvalidFieldInParamList},
		{"cut", spec(0, 7, 0, transport(initiator(1, 1))[:16]), []uint64{9}, scsi.ParameterListLengthError},
		{"no length", prList(0, 7, 8), []uint64{9}, scsi.ParameterListLengthError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newPRRig(t, baseConfig, 3)
			r.join(&scsi.ITNexus{InitiatorName: initiator(1, 1).InitiatorName, ISID: [6]byte{0x80}, TargetName: testITN.TargetName, RelativePort: 2})
			if err := r.port.SetTargetPortGroups(&scsi.TargetPortGroups{Groups: []scsi.TargetPortGroup{{ID: 1, Ports: []uint16{1, 2}}}}); err != nil {
				t.Fatal(err)
			}
			r.must(2, register, 0, 0, 9)
			got := run(t, r.n[0], prOutCDB(register, 0, len(tt.list)), tt.list)
			if _, asc := got.key(); asc != tt.asc {
				t.Errorf("%v, want %v", got, tt.asc)
			}
			_, keys := r.keys(2)
			if !slices.Equal(keys, tt.want) {
				t.Errorf("keys %x, want %x", keys, tt.want)
			}
		})
	}
}

// TestAllTgPt registers an initiator port on both target ports with one command.
func TestAllTgPt(t *testing.T) {
	r := newPRRig(t, baseConfig, 2)
	r.join(initiator(0, 2))
	if err := r.port.SetTargetPortGroups(&scsi.TargetPortGroups{Groups: []scsi.TargetPortGroup{{ID: 1, Ports: []uint16{1}}, {ID: 2, Ports: []uint16{2}}}}); err != nil {
		t.Fatal(err)
	}
	if got := r.in(0, capabilities); got[2]&4 == 0 {
		t.Error("ATP_C is not set")
	}
	do := func(i, action int, key, actionKey uint64) {
		t.Helper()
		if got := r.flags(i, action, key, actionKey, 4); got.status != scsi.Good {
			t.Errorf("%v", got)
		}
	}
	do(0, register, 0, 5)
	r.must(0, reserve, scsi.WriteExclusiveRegistrantsOnly, 5, 0)
	if r.write(2) != scsi.Good || r.write(1) != scsi.ReservationConflict {
		t.Error("the other path is not registered, or everybody is")
	}
	r.must(2, register, 0, 5, 6) // one path changes its key
	if got := r.flags(0, register, 5, 7, 4); got.status != scsi.ReservationConflict {
		t.Errorf("a key that differs was overwritten: %v", got)
	}
	do(0, registerIgnore, 0, 8)
	do(2, register, 8, 0)
	if _, keys := r.keys(0); keys != nil {
		t.Errorf("keys %x", keys)
	}
	r.must(0, register, 0, 0, 3)
	do(0, register, 3, 4) // the other path is new
	if _, keys := r.keys(0); !slices.Equal(keys, []uint64{4, 4}) {
		t.Errorf("keys %x", keys)
	}
}

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

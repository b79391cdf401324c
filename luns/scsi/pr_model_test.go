package scsi_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/luns/scsi"
)

// prModel is SPC-5 5.14 in the plainest form: maps of nexus numbers.
type prModel struct {
	keys       map[int]uint64
	typ        scsi.ReservationType
	holder     int
	generation uint32
	told       [4][]scsi.ASC
}

func (m *prModel) all() bool { return m.typ == 7 || m.typ == 8 }

func (m *prModel) holds(i int) bool {
	return m.typ != 0 && (m.holder == i && !m.all() || m.all() && m.keys[i] != 0)
}

func (m *prModel) tell(i int, a scsi.ASC) {
	if !slices.Contains(m.told[i], a) {
		m.told[i] = append(m.told[i], a)
	}
}

func (m *prModel) tellRegistered(by int, a scsi.ASC) {
	for i := range m.keys {
		if i != by {
			m.tell(i, a)
		}
	}
}

func (m *prModel) drop(i, by int) {
	held := m.holds(i)
	delete(m.keys, i)
	if !held || m.all() && len(m.keys) > 0 {
		return
	}
	typ := m.typ
	m.typ = 0
	if typ == 5 || typ == 6 {
		m.tellRegistered(by, scsi.ReservationsReleased)
	}
}

// step performs a service action and returns whether it conflicts, and an
// additional sense code if it fails.
func (m *prModel) step(by, action int, typ scsi.ReservationType, key, other uint64) (conflict bool, asc scsi.ASC) {
	mine := m.keys[by]
	if action == register && key != mine || action != register && action != registerIgnore && (mine == 0 || key != mine) {
		return true, 0
	}
	switch action {
	case register, registerIgnore:
		m.generation++
		if other == 0 {
			m.drop(by, by)
		} else {
			m.keys[by] = other
		}
	case reserve:
		if m.typ != 0 {
			return !m.holds(by) || m.typ != typ, 0
		}
		m.typ, m.holder = typ, by
	case release:
		if !m.holds(by) {
			return false, 0
		}
		if typ != m.typ {
			return false, scsi.InvalidReleaseOfReservation
		}
		m.typ = 0
		if typ >= 5 {
			m.tellRegistered(by, scsi.ReservationsReleased)
		}
	case clearAll:
		m.generation++
		m.tellRegistered(by, scsi.ReservationsPreempted)
		m.keys, m.typ = map[int]uint64{}, 0
	case preempt, preemptAbort:
		return m.preempt(by, typ, other)
	}
	return false, 0
}

func (m *prModel) preempt(by int, typ scsi.ReservationType, other uint64) (conflict bool, asc scsi.ASC) {
	if other == 0 && !m.all() {
		return false, scsi.InvalidFieldInParamList
	}
	takes := m.all() && other == 0 || !m.all() && m.typ != 0 && m.keys[m.holder] == other
	var victims []int
	for i, k := range m.keys {
		if (k == other || takes && other == 0) && (i != by || !takes) {
			victims = append(victims, i)
		}
	}
	if len(victims) == 0 && !takes {
		return true, 0
	}
	m.generation++
	for _, i := range victims {
		if i != by {
			m.tell(i, scsi.RegistrationsPreempted)
		}
		delete(m.keys, i)
	}
	if takes {
		if m.typ != typ {
			m.tellRegistered(by, scsi.ReservationsReleased)
		}
		m.typ, m.holder = typ, by
	} else if m.all() && len(m.keys) == 0 {
		m.typ = 0
	}
	return false, 0
}

// may returns whether i may read and write.
func (m *prModel) may(i int) (read, write bool) {
	switch {
	case m.typ == 0, m.holds(i), m.typ >= 5 && m.keys[i] != 0:
		return true, true
	case m.typ == 1 || m.typ == 5 || m.typ == 7:
		return true, false
	default:
		return false, false
	}
}

// TestReservationModel runs random service actions of four nexuses, with
// restarts of the target in between, against the model.
func TestReservationModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store := &memStore{}
		cfg := storeConfig(store)
		b := newFake(mib)
		b.mapper = true
		var r *prRig
		m := &prModel{keys: map[int]uint64{}}
		boot := func() {
			r = &prRig{rig: newRig(t, cfg, b)}
			for i := range 4 {
				r.join(initiator(i, 1))
			}
			m.told, m.generation = [4][]scsi.ASC{}, 0
		}
		boot()
		key := rapid.SampledFrom([]uint64{0, 1, 1, 2, 3})
		check := func() {
			for i := range 4 {
				got := r.attentions(i)
				slices.Sort(got)
				slices.Sort(m.told[i])
				if !slices.Equal(got, m.told[i]) {
					rt.Fatalf("nexus %d was told %v, want %v", i, got, m.told[i])
				}
				m.told[i] = nil
				read, write := m.may(i)
				if (r.read(i) == scsi.Good) != read || (r.write(i) == scsi.Good) != write {
					rt.Fatalf("nexus %d: read %v, write %v; want %v, %v", i, r.read(i), r.write(i), read, write)
				}
			}
			state := r.port.Reservations()
			if state.Type != m.typ || state.Generation != m.generation || len(state.Registrations) != len(m.keys) {
				rt.Fatalf("state %+v, want %+v", state, *m)
			}
			for _, x := range state.Registrations {
				if i := int(x.ISID[5]); m.keys[i] != x.Key || m.holds(i) != x.Holder {
					rt.Fatalf("registration %+v, want %+v", x, *m)
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"restart": func(*rapid.T) { boot() },
			"out": func(rt *rapid.T) {
				by := rapid.IntRange(0, 3).Draw(rt, "by")
				action := rapid.SampledFrom([]int{register, register, registerIgnore, reserve, reserve, release, clearAll, preempt, preempt, preemptAbort}).Draw(rt, "action")
				typ := rapid.SampledFrom(allTypes).Draw(rt, "type")
				mine, other := m.keys[by], key.Draw(rt, "other")
				if rapid.IntRange(0, 5).Draw(rt, "guess") == 0 {
					mine = key.Draw(rt, "key")
				}
				flags := byte(0)
				if action == register || action == registerIgnore {
					flags = 1 // APTPL
				}
				conflict, asc := m.step(by, action, typ, mine, other)
				got := run(t, r.n[by], prOutCDB(action, typ, 24), prList(mine, other, flags))
				_, gotASC := got.key()
				if (got.status == scsi.ReservationConflict) != conflict || gotASC != asc {
					rt.Fatalf("%v, want conflict %v, %v", got, conflict, asc)
				}
			},
			"": func(*rapid.T) { check() },
		})
	})
}

// TestKeyGuess is bar B11: a nexus that is not registered, or whose key is
// stale, cannot use the keys of others.
func TestKeyGuess(t *testing.T) {
	r := newPRRig(t, baseConfig, 3)
	r.must(0, register, 0, 0, 1)
	r.must(1, register, 0, 0, 2)
	r.must(0, reserve, scsi.ExclusiveAccess, 1, 0)
	before := fmt.Sprint(r.port.Reservations())
	for _, by := range []int{1, 2} {
		for _, action := range []int{register, reserve, release, clearAll, preempt, preemptAbort} {
			for _, key := range []uint64{1, 3, 0} {
				if action == register && key == 0 && by == 2 {
					continue // may register
				}
				r.conflicts(by, action, scsi.ExclusiveAccess, key, 1)
			}
		}
	}
	if got := fmt.Sprint(r.port.Reservations()); got != before {
		t.Errorf("got %s, want %s", got, before)
	}
}

package scsi_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/iserd/iserd/luns/scsi"
)

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

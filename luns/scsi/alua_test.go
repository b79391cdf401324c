package scsi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns/scsi"
)

var rtpg = []byte{0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}

func stpg(changes ...scsi.AccessChange) (cdb, list []byte) {
	list = make([]byte, 4)
	for _, x := range changes {
		list = append(list, byte(x.State), 0, byte(x.Group>>8), byte(x.Group))
	}
	cdb = []byte{0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(cdb[6:], uint32(len(list)))
	return cdb, list
}

// newALUARig has nexus 0 through port 1 of group 100 and nexus 1 through port 2
// of group 200.
func newALUARig(t *testing.T, g scsi.TargetPortGroups) *prRig {
	t.Helper()
	r := newPRRig(t, baseConfig, 1)
	r.join(initiator(1, 2))
	g.Groups = []scsi.TargetPortGroup{
		{ID: 100, Ports: []uint16{1, 3}, Preferred: true},
		{ID: 200, Ports: []uint16{2}, State: scsi.AccessActiveNonOptimized},
	}
	if err := r.port.SetTargetPortGroups(&g); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestALUAData(t *testing.T) {
	r := newALUARig(t, scsi.TargetPortGroups{Implicit: true, Explicit: true})
	if got := r.attentions(0); !slices.Equal(got, []scsi.ASC{scsi.InquiryDataHasChanged}) {
		t.Errorf("nexus 0 was told %v", got)
	}
	if got := r.attentions(1); !slices.Equal(got, []scsi.ASC{scsi.InquiryDataHasChanged, scsi.AccessStateChanged}) {
		t.Errorf("nexus 1 was told %v", got)
	}
	in := func(i int, cdb []byte) []byte {
		t.Helper()
		got := run(t, r.n[i], cdb, nil)
		if got.status != scsi.Good {
			t.Fatalf("% x: %v", cdb, got)
		}
		return got.in
	}
	if got := in(0, []byte{0x12, 0, 0, 0, 96, 0}); got[5]&0x30 != 0x30 {
		t.Errorf("INQUIRY byte 5 %#x", got[5])
	}
	groups := "80 cf 0064 00 00 00 02 00000001 00000003 01 cf 00c8 00 00 00 01 00000002"
	if diff := cmp.Diff(unhex(t, "0000001c", groups), in(0, rtpg)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(unhex(t, "00000020 10000000", groups), in(0, with(rtpg, 1, 0x20))); diff != "" {
		t.Errorf("extended header (-want +got)\n%s", diff)
	}
	if got := run(t, r.n[0], with(rtpg, 1, 0x40), nil); got.status != scsi.CheckCondition {
		t.Errorf("PARAMETER DATA FORMAT 2: %v", got)
	}
	for i, want := range []string{"51 95 00 04 0000 0064", "51 95 00 04 0000 00c8"} {
		if got := in(i, []byte{0x12, 1, 0x83, 1, 0, 0}); !bytes.Contains(got, unhex(t, want)) {
			t.Errorf("VPD 83h of nexus %d has no group: % x", i, got)
		}
	}
	if diff := cmp.Diff(in(0, rtpg)[:10], in(0, []byte{0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0})); diff != "" {
		t.Errorf("truncated (-want +got)\n%s", diff)
	}
	if err := r.port.SetTargetPortGroups(nil); err != nil {
		t.Fatal(err)
	}
	r.attentions(0)
	if got := in(0, []byte{0x12, 0, 0, 0, 96, 0}); got[5]&0x30 != 0 {
		t.Errorf("INQUIRY byte 5 %#x", got[5])
	}
	if got := run(t, r.n[0], rtpg, nil); !got.unknown() {
		t.Errorf("without groups: %v", got)
	}
}

// TestTPGS: only what is said to work does.
func TestTPGS(t *testing.T) {
	cdb, list := stpg(scsi.AccessChange{Group: 100, State: scsi.AccessStandby})
	for _, tt := range []struct {
		implicit, explicit bool
		tpgs               byte
		report, set        scsi.ASC
	}{
		{false, false, 0, scsi.InvalidFieldInCDB, scsi.InvalidFieldInCDB},
		{true, false, 0x10, 0, scsi.InvalidFieldInCDB},
		{false, true, 0x20, 0, 0},
	} {
		r := newALUARig(t, scsi.TargetPortGroups{Implicit: tt.implicit, Explicit: tt.explicit})
		r.attentions(0)
		if got := run(t, r.n[0], []byte{0x12, 0, 0, 0, 96, 0}, nil).in[5] & 0x30; got != tt.tpgs {
			t.Errorf("TPGS %#x, want %#x", got, tt.tpgs)
		}
		_, report := run(t, r.n[0], rtpg, nil).key()
		_, set := run(t, r.n[0], cdb, list).key()
		if report != tt.report || set != tt.set {
			t.Errorf("REPORT %v, SET %v; want %v, %v", report, set, tt.report, tt.set)
		}
	}
}

// TestAccessStates is SPC-5 5.18.2: what each state lets through, and what the
// rest is told.
func TestAccessStates(t *testing.T) {
	type row struct {
		name string
		cdb  []byte
		// In standby, unavailable, offline, transitioning: 'A' is allowed.
		allowed string
		out     int
	}
	modeList := 0
	rows := []row{
		{"TEST UNIT READY", []byte{0, 0, 0, 0, 0, 0}, "----", 0},
		{"REQUEST SENSE", []byte{3, 0, 0, 0, 18, 0}, "AAAA", 0},
		{"INQUIRY", []byte{0x12, 0, 0, 0, 96, 0}, "AAAA", 0},
		{"REPORT LUNS", []byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "AAAA", 0},
		{"REPORT TARGET PORT GROUPS", rtpg, "AAAA", 0},
		{"SET TARGET PORT GROUPS", []byte{0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "AAA-", 0},
		{"MODE SENSE(6)", []byte{0x1A, 0, 0x3F, 0, 255, 0}, "A---", 0},
		{"MODE SELECT(6)", []byte{0x15, 0x10, 0, 0, 0, 0}, "A---", modeList},
		{"READ CAPACITY(10)", []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "A---", 0},
		{"READ CAPACITY(16)", with(rw16(0x9E, 0, 32), 1, 0x10), "A---", 0},
		{"PERSISTENT RESERVE IN", []byte{0x5E, 0, 0, 0, 0, 0, 0, 1, 0, 0}, "A---", 0},
		{"PERSISTENT RESERVE OUT", prOutCDB(registerIgnore, 0, 24), "A---", 24},
		{"SEND DIAGNOSTIC", []byte{0x1D, 4, 0, 0, 0, 0}, "A---", 0},
		{"REPORT SUPPORTED OPERATION CODES", []byte{0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "A---", 0},
		{"READ(10)", rw10(0x28, 0, 1), "----", 0},
		{"WRITE(10)", rw10(0x2A, 0, 1), "----", 512},
		{"SYNCHRONIZE CACHE(10)", rw10(0x35, 0, 0), "----", 0},
		{"UNMAP", []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "----", 0},
		{"START STOP UNIT", []byte{0x1B, 0, 0, 0, 1, 0}, "----", 0},
		{"RESERVE(6)", []byte{0x16, 0, 0, 0, 0, 0}, "----", 0},
		{"GET LBA STATUS", with(rw16(0x9E, 0, 32), 1, 0x12), "----", 0},
	}
	r := newALUARig(t, scsi.TargetPortGroups{Implicit: true, Explicit: true})
	r.attentions(0)
	r.attentions(1)
	for col, s := range []struct {
		state scsi.AccessState
		asc   scsi.ASC
	}{
		{scsi.AccessStandby, scsi.TargetPortStandby},
		{scsi.AccessUnavailable, scsi.TargetPortUnavailable},
		{scsi.AccessOffline, scsi.LogicalUnitOffline},
		{scsi.AccessTransitioning, scsi.AccessStateTransition},
	} {
		if err := r.port.SetAccessState(200, s.state); err != nil {
			t.Fatal(err)
		}
		// The unit attention comes first, on every nexus.
		for i := range r.n {
			got := run(t, r.n[i], []byte{0, 0, 0, 0, 0, 0}, nil)
			if k, a := got.key(); k != scsi.UnitAttention || a != scsi.AccessStateChanged {
				t.Errorf("%v: nexus %d: %v", s.state, i, got)
			}
		}
		for _, row := range rows {
			if got := run(t, r.n[0], row.cdb, make([]byte, row.out)); got.status != scsi.Good {
				t.Errorf("%v: %s through the other group: %v", s.state, row.name, got)
			}
			if row.cdb[0] == 0x16 {
				run(t, r.n[0], []byte{0x17, 0, 0, 0, 0, 0}, nil)
			}
			got := run(t, r.n[1], row.cdb, make([]byte, row.out))
			k, a := got.key()
			refused := k == scsi.NotReady && a == s.asc
			if refused != (row.allowed[col] == '-') || !refused && got.status != scsi.Good {
				t.Errorf("%v: %s: %v", s.state, row.name, got)
			}
		}
	}
	for _, s := range []scsi.AccessState{scsi.AccessActiveOptimized, scsi.AccessLBADependent, scsi.AccessActiveNonOptimized} {
		if err := r.port.SetAccessState(200, s); err != nil {
			t.Fatal(err)
		}
		r.attentions(1)
		if r.write(1) != scsi.Good {
			t.Errorf("%v: no write", s)
		}
		if got := r.port.TargetPortGroups().Groups[1].State; got != s {
			t.Errorf("state %v, want %v", got, s)
		}
	}
	if err := r.port.SetAccessState(200, scsi.AccessActiveNonOptimized); err != nil || r.n[1].Pending() {
		t.Error("told of no change")
	}
	if got := run(t, r.n[1], rtpg, nil).in; got[4+16+5] != 2 {
		t.Errorf("STATUS CODE of an implicit change: % x", got)
	}
}

func TestSetTargetPortGroups(t *testing.T) {
	var asked []scsi.AccessChange
	var refuse error
	r := newALUARig(t, scsi.TargetPortGroups{Explicit: true, Set: func(by *scsi.ITNexus, x []scsi.AccessChange) error {
		if by.InitiatorName == "" {
			t.Error("asked by nobody")
		}
		asked = x
		return refuse
	}})
	r.attentions(0)
	r.attentions(1)
	set := func(changes ...scsi.AccessChange) result {
		cdb, list := stpg(changes...)
		return run(t, r.n[0], cdb, list)
	}
	both := []scsi.AccessChange{{Group: 100, State: scsi.AccessStandby}, {Group: 200, State: scsi.AccessActiveOptimized}}
	if got := set(both...); got.status != scsi.Good || !slices.Equal(asked, both) {
		t.Fatalf("%v, asked %v", got, asked)
	}
	if r.n[0].Pending() {
		t.Error("the nexus that asked was told")
	}
	if got := r.attentions(1); !slices.Equal(got, []scsi.ASC{scsi.AccessStateChanged}) {
		t.Errorf("the other nexus was told %v", got)
	}
	if _, asc := run(t, r.n[0], rw10(0x28, 0, 1), nil).key(); asc != scsi.TargetPortStandby {
		t.Errorf("read in standby: %v", asc)
	}
	if got := run(t, r.n[0], rtpg, nil).in; got[4] != 0x82 || got[9] != 1 || got[4+16] != 0 {
		t.Errorf("REPORT: % x", got)
	}
	before := r.port.TargetPortGroups().Groups
	for name, tt := range map[string]struct {
		change scsi.AccessChange
		asc    scsi.ASC
	}{
		"transitioning": {scsi.AccessChange{Group: 100, State: scsi.AccessTransitioning}, scsi.InvalidFieldInParamList},
		"offline":       {scsi.AccessChange{Group: 100, State: scsi.AccessOffline}, scsi.InvalidFieldInParamList},
		"LBA dependent": {scsi.AccessChange{Group: 100, State: scsi.AccessLBADependent}, scsi.InvalidFieldInParamList},
		"reserved":      {scsi.AccessChange{Group: 100, State: 9}, scsi.InvalidFieldInParamList},
		"unknown group": {scsi.AccessChange{Group: 101}, scsi.InvalidFieldInParamList},
	} {
		if _, asc := set(both[0], tt.change).key(); asc != tt.asc {
			t.Errorf("%s: %v", name, asc)
		}
	}
	refuse = errors.New("the other node does not answer")
	if k, asc := set(scsi.AccessChange{Group: 100}).key(); k != scsi.HardwareError || asc != scsi.SetTargetPortGroupsErr {
		t.Errorf("refused: %v %v", k, asc)
	}
	cdb, list := stpg(both...)
	cdb[9]--
	if _, asc := run(t, r.n[0], cdb, list).key(); asc != scsi.ParameterListLengthError {
		t.Errorf("odd length: %v", asc)
	}
	binary.BigEndian.PutUint32(cdb[6:], 1<<31)
	if _, asc := run(t, r.n[0], cdb, nil).key(); asc != scsi.InvalidFieldInCDB {
		t.Errorf("huge length: %v", asc)
	}
	if diff := cmp.Diff(before, r.port.TargetPortGroups().Groups); diff != "" {
		t.Errorf("a failed command changed states:\n%s", diff)
	}
}

func TestBadTargetPortGroups(t *testing.T) {
	p := scsi.NewPort()
	for name, g := range map[string]scsi.TargetPortGroups{
		"no groups":     {Implicit: true},
		"group twice":   {Groups: []scsi.TargetPortGroup{{ID: 1}, {ID: 1}}},
		"port twice":    {Groups: []scsi.TargetPortGroup{{ID: 1, Ports: []uint16{1}}, {ID: 2, Ports: []uint16{1}}}},
		"port 0":        {Groups: []scsi.TargetPortGroup{{ID: 1, Ports: []uint16{0}}}},
		"unknown state": {Groups: []scsi.TargetPortGroup{{ID: 1, State: 7}}},
	} {
		if p.SetTargetPortGroups(&g) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if p.SetAccessState(1, 0) == nil || p.SetPreferred(1, true) == nil || p.TargetPortGroups().Groups != nil {
		t.Error("state of a group that is not there")
	}
}

// TestPreferred: PREF is shown, and initiators are told to look.
func TestPreferred(t *testing.T) {
	r := newALUARig(t, scsi.TargetPortGroups{Implicit: true})
	r.attentions(0)
	r.attentions(1)
	if err := r.port.SetPreferred(200, true); err != nil {
		t.Fatal(err)
	}
	for i := range r.n {
		if got := r.attentions(i); !slices.Equal(got, []scsi.ASC{scsi.AccessStateChanged}) {
			t.Errorf("nexus %d was told %v", i, got)
		}
	}
	if got := run(t, r.n[0], rtpg, nil).in; got[4] != 0x80 || got[4+16] != 0x81 {
		t.Errorf("REPORT: % x", got)
	}
	if err := r.port.SetPreferred(200, true); err != nil || r.n[1].Pending() {
		t.Errorf("told of no change: %v", err)
	}
	// A new configuration that only prefers another group is told as well.
	g := r.port.TargetPortGroups()
	g.Groups[1].Preferred = false
	if err := r.port.SetTargetPortGroups(&g); err != nil {
		t.Fatal(err)
	}
	if got := r.attentions(1); !slices.Equal(got, []scsi.ASC{scsi.AccessStateChanged}) || r.n[0].Pending() {
		t.Errorf("nexus 1 was told %v", got)
	}
}

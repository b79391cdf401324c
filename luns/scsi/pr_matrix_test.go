package scsi_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/iserd/iserd/luns/scsi"
)

// accessRow is one line of the tables of commands that are allowed in the
// presence of a reservation: SPC-4 table 66 and SBC-3 table 13, written down
// here from the standards' columns, and not from the dispatch table. A 'A' is
// allowed, a 'C' a conflict, in the order of the columns: from any nexus, Write
// Exclusive; Exclusive Access; from a registered nexus, types of registrants;
// from one not registered, Write Exclusive of registrants; Exclusive Access of
// registrants. spc2 is the column of a RESERVE of another nexus, SPC-2 table 10
// and SBC table 3.
type accessRow struct {
	name    string
	cdb     []byte
	columns string
	spc2    byte
	out     int // data-out, if the CDB is to be valid
}

var accessTable = []accessRow{
	{"TEST UNIT READY", []byte{0, 0, 0, 0, 0, 0}, "AAAAA", 'C', 0},
	{"REQUEST SENSE", []byte{3, 0, 0, 0, 18, 0}, "AAAAA", 'A', 0},
	{"READ(6)", []byte{8, 0, 0, 0, 1, 0}, "ACAAC", 'C', 0},
	{"WRITE(6)", []byte{0x0A, 0, 0, 0, 1, 0}, "CCACC", 'C', 512},
	{"INQUIRY", []byte{0x12, 0, 0, 0, 96, 0}, "AAAAA", 'A', 0},
	{"INQUIRY VPD", []byte{0x12, 1, 0x83, 0, 255, 0}, "AAAAA", 'A', 0},
	{"MODE SELECT(6)", []byte{0x15, 0x10, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"MODE SENSE(6)", []byte{0x1A, 0, 0x3F, 0, 255, 0}, "ACAAC", 'C', 0},
	{"START STOP UNIT, start", []byte{0x1B, 0, 0, 0, 1, 0}, "AAAAA", 'A', 0},
	{"START STOP UNIT, stop", []byte{0x1B, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"SEND DIAGNOSTIC", []byte{0x1D, 4, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"PREVENT ALLOW, allow", []byte{0x1E, 0, 0, 0, 0, 0}, "AAAAA", 'A', 0},
	{"PREVENT ALLOW, prevent", []byte{0x1E, 0, 0, 0, 1, 0}, "CCACC", 'C', 0},
	{"READ CAPACITY(10)", []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "AAAAA", 'A', 0},
	{"READ(10)", rw10(0x28, 0, 1), "ACAAC", 'C', 0},
	{"WRITE(10)", rw10(0x2A, 0, 1), "CCACC", 'C', 512},
	{"WRITE AND VERIFY(10)", rw10(0x2E, 0, 1), "CCACC", 'C', 512},
	{"VERIFY(10)", rw10(0x2F, 0, 1), "ACAAC", 'C', 0},
	{"PRE-FETCH(10)", rw10(0x34, 0, 1), "ACAAC", 'C', 0},
	{"SYNCHRONIZE CACHE(10)", rw10(0x35, 0, 0), "CCACC", 'C', 0},
	{"READ DEFECT DATA(10)", []byte{0x37, 0, 0x18, 0, 0, 0, 0, 0, 8, 0}, "ACAAC", 'C', 0},
	{"WRITE BUFFER", []byte{0x3B, 2, 0, 0, 0, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"READ BUFFER", []byte{0x3C, 3, 0, 0, 0, 0, 0, 0, 4, 0}, "ACAAC", 'C', 0},
	{"WRITE SAME(10)", rw10(0x41, 0, 1), "CCACC", 'C', 512},
	{"UNMAP", []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"SANITIZE", []byte{0x48, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"LOG SELECT", []byte{0x4C, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"LOG SENSE", []byte{0x4D, 0, 0x40, 0, 0, 0, 0, 0, 255, 0}, "AAAAA", 'A', 0},
	{"MODE SELECT(10)", []byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"MODE SENSE(10)", []byte{0x5A, 0, 0x3F, 0, 0, 0, 0, 1, 0, 0}, "ACAAC", 'C', 0},
	{"PERSISTENT RESERVE IN", []byte{0x5E, 0, 0, 0, 0, 0, 0, 1, 0, 0}, "AAAAA", 'C', 0},
	{"READ(16)", rw16(0x88, 0, 1), "ACAAC", 'C', 0},
	{"COMPARE AND WRITE", caw(0, 1), "CCACC", 'C', 1024},
	{"WRITE(16)", rw16(0x8A, 0, 1), "CCACC", 'C', 512},
	{"ORWRITE(16)", rw16(0x8B, 0, 1), "CCACC", 'C', 512},
	{"WRITE AND VERIFY(16)", rw16(0x8E, 0, 1), "CCACC", 'C', 512},
	{"VERIFY(16)", rw16(0x8F, 0, 1), "ACAAC", 'C', 0},
	{"PRE-FETCH(16)", rw16(0x90, 0, 1), "ACAAC", 'C', 0},
	{"SYNCHRONIZE CACHE(16)", rw16(0x91, 0, 0), "CCACC", 'C', 0},
	{"WRITE SAME(16)", rw16(0x93, 0, 1), "CCACC", 'C', 512},
	{"WRITE ATOMIC(16)", func() []byte { b := rw16(0x9C, 0, 0); b[13] = 1; return b }(), "CCACC", 'C', 512},
	{"READ CAPACITY(16)", with(rw16(0x9E, 0, 32), 1, 0x10), "AAAAA", 'A', 0},
	{"GET LBA STATUS(16)", with(rw16(0x9E, 0, 32), 1, 0x12), "ACAAC", 'C', 0},
	{"REPORT LUNS", []byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "AAAAA", 'A', 0},
	{"REPORT TARGET PORT GROUPS", []byte{0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "AAAAA", 'A', 0},
	{"REPORT SUPPORTED OPERATION CODES", []byte{0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "AAAAA", 'A', 0},
	{"REPORT SUPPORTED TMF", []byte{0xA3, 0x0D, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "AAAAA", 'A', 0},
	{"REPORT TIMESTAMP", []byte{0xA3, 0x0F, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, "AAAAA", 'A', 0},
	{"SET TARGET PORT GROUPS", []byte{0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"SET TIMESTAMP", []byte{0xA4, 0x0F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "CCACC", 'C', 0},
	{"READ(12)", []byte{0xA8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, "ACAAC", 'C', 0},
	{"WRITE(12)", []byte{0xAA, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, "CCACC", 'C', 512},
	{"WRITE AND VERIFY(12)", []byte{0xAE, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, "CCACC", 'C', 512},
	{"VERIFY(12)", []byte{0xAF, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, "ACAAC", 'C', 0},
	{"READ DEFECT DATA(12)", []byte{0xB7, 0x18, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}, "ACAAC", 'C', 0},
}

// column returns the column of the table for a nexus that is no holder.
func column(typ scsi.ReservationType, registered bool) int {
	switch {
	case typ == scsi.WriteExclusive:
		return 0
	case typ == scsi.ExclusiveAccess:
		return 1
	case registered:
		return 2
	case typ == scsi.WriteExclusiveRegistrantsOnly, typ == scsi.WriteExclusiveAllRegistrants:
		return 3
	default:
		return 4
	}
}

// known reports whether the unit has the command of a row.
func (r *prRig) known(row accessRow) bool {
	return !run(r.tb, r.nexus, row.cdb, fill(row.out, 0)).unknown()
}

// covered fails the test if the unit has a command that is in no row.
func (r *prRig) covered(own map[byte]bool) {
	r.tb.Helper()
	in := r.good([]byte{0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0}, nil)
	for d := in[4:]; len(d) > 0; d = d[8:] {
		found := own[d[0]]
		for _, row := range accessTable {
			found = found || row.cdb[0] == d[0] && (d[5]&1 == 0 || row.cdb[1]&0x1F == d[3])
		}
		if !found {
			r.tb.Errorf("operation code %02xh/%02xh has no row", d[0], d[3])
		}
	}
}

// TestReservationMatrix is bar B11: every type against the holder, a registered
// and an unregistered nexus and every command.
func TestReservationMatrix(t *testing.T) {
	for _, typ := range allTypes {
		t.Run(typ.String(), func(t *testing.T) {
			const holder, registrant, none = 0, 1, 2
			r := newPRRig(t, baseConfig, 3)
			if err := r.port.SetTargetPortGroups(&scsi.TargetPortGroups{Implicit: true, Explicit: true, Groups: []scsi.TargetPortGroup{{ID: 1, Ports: []uint16{1, 2}}}}); err != nil {
				t.Fatal(err)
			}
			for _, n := range append(r.n, r.nexus) {
				drainAttentions(t, n)
			}
			// Those of reservations look for themselves; copies, SANITIZE and
			// FORMAT UNIT have effects that would spoil the rows after them.
			r.covered(map[byte]bool{0x5E: true, 0x5F: true, 0x16: true, 0x17: true, 0x56: true, 0x57: true, 0x04: true, 0x48: true, 0x83: true, 0x84: true})
			known := map[string]bool{}
			for _, row := range accessTable {
				known[row.name] = r.known(row)
			}
			r.must(holder, register, 0, 0, 0xA)
			r.must(registrant, register, 0, 0, 0xB)
			r.must(holder, reserve, typ, 0xA, 0)
			for i := range r.n {
				r.attentions(i)
			}
			for _, row := range accessTable {
				if !known[row.name] {
					continue
				}
				for who := holder; who <= none; who++ {
					want := byte('A')
					if who != holder {
						want = row.columns[column(typ, who == registrant)]
					}
					got := run(t, r.n[who], row.cdb, fill(row.out, 0)).status
					if (got == scsi.ReservationConflict) != (want == 'C') {
						t.Errorf("%s from nexus %d: %v, want %c", row.name, who, got, want)
					}
					for i := range r.n {
						r.attentions(i)
					}
				}
			}
		})
	}
}

// TestOutConflicts is SPC-4 table 67: PERSISTENT RESERVE OUT while somebody
// else holds a reservation.
func TestOutConflicts(t *testing.T) {
	for _, typ := range allTypes {
		all := typ == scsi.WriteExclusiveAllRegistrants || typ == scsi.ExclusiveAccessAllRegistrants
		for _, tt := range []struct {
			name               string
			action             int
			registered, unreg  byte
			registeredIsHolder byte // all registrants: what holders may
		}{
			{"REGISTER", register, 'A', 'A', 'A'},
			{"REGISTER AND IGNORE EXISTING KEY", registerIgnore, 'A', 'A', 'A'},
			{"RESERVE", reserve, 'C', 'C', 'A'},
			{"RELEASE", release, 'A', 'C', 'A'},
			{"CLEAR", clearAll, 'A', 'C', 'A'},
			{"PREEMPT", preempt, 'A', 'C', 'A'},
			{"PREEMPT AND ABORT", preemptAbort, 'A', 'C', 'A'},
			{"REGISTER AND MOVE", moveTo, 'C', 'C', 'C'},
		} {
			for who := 1; who <= 2; who++ {
				t.Run(fmt.Sprintf("%v/%s/%d", typ, tt.name, who), func(t *testing.T) {
					r := newPRRig(t, baseConfig, 3)
					r.must(0, register, 0, 0, 0xA)
					r.must(1, register, 0, 0, 0xB)
					r.must(0, reserve, typ, 0xA, 0)
					r.attentions(1)
					want, key, actionKey := tt.unreg, uint64(0), uint64(0xA)
					if who == 1 {
						want, key = tt.registered, 0xB
						if all {
							want = tt.registeredIsHolder
						}
					}
					cdb, list := prOutCDB(tt.action, typ, 24), prList(key, actionKey, 0)
					if tt.action == moveTo {
						id := transport(initiator(2, 1))
						list = append(list, id...)
						list[19], list[20], list[23] = 1, 0, byte(len(id))
						cdb = prOutCDB(tt.action, typ, len(list))
					}
					got := run(t, r.n[who], cdb, list).status
					if (got == scsi.ReservationConflict) != (want == 'C') || want == 'A' && got != scsi.Good {
						t.Errorf("%v, want %c", got, want)
					}
				})
			}
		}
	}
}

// TestReserveMatrix holds every command against an SPC-2 reservation.
func TestReserveMatrix(t *testing.T) {
	for _, op := range []byte{0x16, 0x56} {
		r := newPRRig(t, baseConfig, 2)
		known := map[string]bool{}
		for _, row := range accessTable {
			known[row.name] = r.known(row)
		}
		if got := run(t, r.n[0], []byte{op, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil); got.status != scsi.Good {
			t.Fatal(got)
		}
		for _, row := range accessTable {
			if !known[row.name] {
				continue
			}
			for who := range 2 {
				want := row.spc2 == 'C' && who == 1 || row.cdb[0] == 0x5E
				got := run(t, r.n[who], row.cdb, fill(row.out, 0)).status
				if (got == scsi.ReservationConflict) != want {
					t.Errorf("%s from nexus %d: %v, want conflict %v", row.name, who, got, want)
				}
				for i := range r.n {
					r.attentions(i)
				}
			}
		}
		for action := range 9 {
			for who := range 2 {
				if action != moveTo {
					r.conflicts(who, action, 1, 0, 1)
				}
			}
		}
	}
}

// TestConflictOutLen: a refused command still tells what it would have taken.
func TestConflictOutLen(t *testing.T) {
	r := newPRRig(t, baseConfig, 2)
	r.must(0, register, 0, 0, 0xA)
	r.must(0, reserve, scsi.WriteExclusive, 0xA, 0)
	got := run(t, r.n[1], rw10(0x2A, 0, 3), fill(3*512, 9))
	if got.status != scsi.ReservationConflict || got.outLen != 3*512 {
		t.Errorf("%v, OutLen %d", got, got.outLen)
	}
	if b := r.b.(*fake).mem[:512]; bytes.Contains(b, []byte{9}) {
		t.Error("written")
	}
}

package scsi_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/iserd/iserd/luns/scsi"
)

// Service actions.
const (
	register, reserve, release, clearAll            = 0, 1, 2, 3
	preempt, preemptAbort, registerIgnore, moveTo   = 4, 5, 6, 7
	replaceLost                                     = 8
	readKeys, readReservation, capabilities, status = 0, 1, 2, 3
)

// memStore is a Store that a test can break.
type memStore struct {
	data    []byte
	loadErr error
	saveErr error
	saves   int
}

func (s *memStore) Load() ([]byte, error) { return s.data, s.loadErr }

func (s *memStore) Save(p []byte) error {
	s.saves++
	if s.saveErr != nil {
		return s.saveErr
	}
	s.data = append([]byte(nil), p...)
	return nil
}

var errBroken = errors.New("broken")

// prRig is a logical unit with several I_T nexuses.
type prRig struct {
	*rig
	n []*scsi.Nexus
}

// initiator returns the identity of initiator i through target port rtpi.
func initiator(i int, rtpi uint16) *scsi.ITNexus {
	return &scsi.ITNexus{
		InitiatorName: fmt.Sprintf("iqn.2024-01.org.example:host%d", i),
		ISID:          [6]byte{0x40, 0, 0, 0, 0, byte(i)},
		TargetName:    testITN.TargetName, RelativePort: rtpi, PortalGroupTag: rtpi,
	}
}

func newPRRig(tb testing.TB, cfg scsi.Config, nexuses int) *prRig {
	tb.Helper()
	b := newFake(mib)
	b.mapper = true
	r := &prRig{rig: newRig(tb, cfg, b)}
	for i := range nexuses {
		r.join(initiator(i, 1))
	}
	return r
}

func (r *prRig) join(itn *scsi.ITNexus) *scsi.Nexus {
	n := r.port.Attach(itn)
	drainAttentions(r.tb, n)
	r.n = append(r.n, n)
	r.tb.Cleanup(n.Detach)
	return n
}

func prOutCDB(action int, typ scsi.ReservationType, n int) []byte {
	cdb := []byte{0x5F, byte(action), byte(typ), 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(cdb[5:], uint32(n))
	return cdb
}

func prList(key, actionKey uint64, flags byte) []byte {
	p := make([]byte, 24)
	binary.BigEndian.PutUint64(p, key)
	binary.BigEndian.PutUint64(p[8:], actionKey)
	p[20] = flags
	return p
}

func transport(itn *scsi.ITNexus) []byte {
	s := fmt.Sprintf("%s,i,0x%x", itn.InitiatorName, itn.ISID)
	n := (len(s) + 4) &^ 3
	p := make([]byte, 4+n)
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[2:], uint16(n))
	copy(p[4:], s)
	return p
}

func (r *prRig) out(i, action int, typ scsi.ReservationType, key, actionKey uint64) result {
	r.tb.Helper()
	return run(r.tb, r.n[i], prOutCDB(action, typ, 24), prList(key, actionKey, 0))
}

func (r *prRig) flags(i, action int, key, actionKey uint64, flags byte) result {
	r.tb.Helper()
	return run(r.tb, r.n[i], prOutCDB(action, 0, 24), prList(key, actionKey, flags))
}

// must performs a PERSISTENT RESERVE OUT that has to succeed.
func (r *prRig) must(i, action int, typ scsi.ReservationType, key, actionKey uint64) {
	r.tb.Helper()
	if got := r.out(i, action, typ, key, actionKey); got.status != scsi.Good {
		r.tb.Fatalf("nexus %d, service action %d: %v", i, action, got)
	}
}

func (r *prRig) conflicts(i, action int, typ scsi.ReservationType, key, actionKey uint64) {
	r.tb.Helper()
	if got := r.out(i, action, typ, key, actionKey); got.status != scsi.ReservationConflict {
		r.tb.Errorf("nexus %d, service action %d: %v", i, action, got)
	}
}

func (r *prRig) in(i, action int) []byte {
	r.tb.Helper()
	got := run(r.tb, r.n[i], []byte{0x5E, byte(action), 0, 0, 0, 0, 0, 0x10, 0, 0}, nil)
	if got.status != scsi.Good {
		r.tb.Fatalf("PERSISTENT RESERVE IN %d: %v", action, got)
	}
	return got.in
}

// keys returns PRGENERATION and the registered keys.
func (r *prRig) keys(i int) (generation uint32, keys []uint64) {
	r.tb.Helper()
	p := r.in(i, readKeys)
	if int(binary.BigEndian.Uint32(p[4:])) != len(p)-8 {
		r.tb.Fatalf("ADDITIONAL LENGTH of % x", p)
	}
	for q := p[8:]; len(q) > 0; q = q[8:] {
		keys = append(keys, binary.BigEndian.Uint64(q))
	}
	return binary.BigEndian.Uint32(p), keys
}

// reservation returns key and type of the reservation; type 0 is none.
func (r *prRig) reservation(i int) (uint64, scsi.ReservationType) {
	r.tb.Helper()
	p := r.in(i, readReservation)
	if len(p) == 8 {
		return 0, 0
	}
	return binary.BigEndian.Uint64(p[8:]), scsi.ReservationType(p[21])
}

// attentions takes all unit attentions that are pending for nexus i.
func (r *prRig) attentions(i int) (asc []scsi.ASC) {
	r.tb.Helper()
	for r.n[i].Pending() {
		got := run(r.tb, r.n[i], []byte{0, 0, 0, 0, 0, 0}, nil)
		_, a := got.key()
		asc = append(asc, a)
	}
	return asc
}

func (r *prRig) write(i int) scsi.Status {
	r.tb.Helper()
	return run(r.tb, r.n[i], rw10(0x2A, 0, 1), fill(512, byte(i))).status
}

func (r *prRig) read(i int) scsi.Status {
	r.tb.Helper()
	return run(r.tb, r.n[i], rw10(0x28, 0, 1), nil).status
}

var allTypes = []scsi.ReservationType{
	scsi.WriteExclusive, scsi.ExclusiveAccess,
	scsi.WriteExclusiveRegistrantsOnly, scsi.ExclusiveAccessRegistrantsOnly,
	scsi.WriteExclusiveAllRegistrants, scsi.ExclusiveAccessAllRegistrants,
}

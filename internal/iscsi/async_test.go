package iscsi_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

func (r *rig) asyncMessage() (m pdu.AsyncMessage, data []byte) {
	r.t.Helper()
	o := r.one(pdu.OpAsyncMessage)
	if err := m.Decode(&o.bhs); err != nil {
		r.t.Fatal(err)
	}
	return m, o.data
}

// TestDrop drops a session or its connection with a task in each state: the initiator
// is told, no task is answered, and nothing is taken any more.
func TestDrop(t *testing.T) {
	for i, tt := range states {
		t.Run(tt.name, func(t *testing.T) {
			event, cid := pdu.AsyncDropAllConnections, uint16(0)
			if i%2 == 0 {
				event, cid = pdu.AsyncDropConnection, 3
			}
			o := tt.o
			o.keys = append(slices.Clip(o.keys), "DefaultTime2Wait=5")
			r := newRig(t, o)
			r.s.Identity.CID = 3
			tt.set(r)
			r.take()
			if err := r.c.Drop(event); !errors.Is(err, iscsi.ErrDropped) {
				t.Fatal(err)
			}
			m, data := r.asyncMessage()
			if m.Event != event || m.Parameter1 != cid || m.Parameter2 != 5 || m.Parameter3 != 0 || len(data) != 0 {
				t.Errorf("%+v, %d bytes", m, len(data))
			}
			r.keepPut = false
			r.command(command{cdb: make([]byte, 6)})
			r.nothing()
			if err := r.c.Drop(event); err != nil {
				t.Errorf("dropped again: %v", err)
			}
			if r.c.RequestLogout(5) {
				t.Error("a dropped session is asked to log out")
			}
			r.nothing()
		})
	}
}

// TestSCSIEvent: the message has the LUN, SenseLength and sense data, and uses up a
// StatSN.
func TestSCSIEvent(t *testing.T) {
	r := newRig(t, options{mapped: true})
	before := r.c.StatSN()
	r.c.SCSIEvent(pdu.LUNOf(3), scsi.AttentionCapacityChanged.Sense())
	m, data := r.asyncMessage()
	want := []byte{0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2A, 9, 0, 0, 0, 0}
	if m.Event != pdu.AsyncSCSI || m.LUN != pdu.LUNOf(3) || m.StatSN != before || r.c.StatSN() != before+1 || !bytes.Equal(data, want) {
		t.Errorf("%+v, % x", m, data)
	}
}

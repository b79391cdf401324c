package iscsi_test

import (
	"testing"

	"github.com/iserd/iserd/pdu"
)

// states brings a rig's connection into each state that a task can be in. What
// is left afterwards is checked by the rig's end: no buffer, no lock.
var states = []struct {
	name string
	o    options
	set  func(r *rig) (tag uint32)
}{
	{"receiving immediate data", options{mapped: true}, func(r *rig) uint32 {
		p := pdu.SCSICommand{Final: true, Write: true, InitiatorTaskTag: 9, ExpectedDataTransferLength: 2 * blk, CmdSN: r.cmdSN, DataLen: 2 * blk}
		r.cmdSN++
		copy(p.CDB[:], write10(0, 2))
		var h pdu.BHS
		p.Encode(&h)
		if dst, err := r.c.Begin(&h, nil); err != nil || len(dst) != 2*blk {
			r.t.Fatalf("Begin: %d bytes, %v", len(dst), err)
		}
		return 9
	}},
	{"waiting for unsolicited data", options{mapped: true, keys: []string{"InitialR2T=No"}}, func(r *rig) uint32 {
		return r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, open: true})
	}},
	{"receiving unsolicited data", options{mapped: true, keys: []string{"InitialR2T=No"}}, func(r *rig) uint32 {
		tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, open: true})
		d := pdu.DataOut{Final: true, InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag, DataLen: 2 * blk}
		var h pdu.BHS
		d.Encode(&h)
		if dst, err := r.c.Begin(&h, nil); err != nil || len(dst) != 2*blk {
			r.t.Fatalf("Begin: %d bytes, %v", len(dst), err)
		}
		return tag
	}},
	{"draining", options{mapped: true, keys: []string{"InitialR2T=No"}}, func(r *rig) uint32 {
		tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, open: true})
		r.dataOut(tag, 5, 0, pattern(blk, 1), false, false)
		return tag
	}},
	{"solicited", options{mapped: true}, func(r *rig) uint32 {
		return r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk})
	}},
	{"receiving solicited data", options{mapped: true}, func(r *rig) uint32 {
		tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk})
		r.getting[0].Place(0, blk)
		return tag
	}},
	{"queued for a worker", options{}, func(r *rig) uint32 {
		r.store.hang()
		r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
		r.inBackend(1)
		return r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1)})
	}},
	{"waiting for a range lock", options{workers: 2}, func(r *rig) uint32 {
		r.store.hang()
		r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
		r.inBackend(1)
		return r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1)})
	}},
	{"hanging in the backend", options{}, func(r *rig) uint32 {
		r.store.hang()
		tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1)})
		r.inBackend(1)
		return tag
	}},
	{"finished by the worker", options{}, func(r *rig) uint32 {
		tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1)})
		<-r.wake
		return tag
	}},
	{"sending", options{mapped: true}, func(r *rig) uint32 {
		r.keepPut = true
		return r.command(command{cdb: read10(0, 2), read: true, edtl: 2 * blk})
	}},
	{"held", options{mapped: true}, func(r *rig) uint32 {
		return r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1), cmdSN: new(r.cmdSN + 1)})
	}},
	{"none", options{mapped: true}, func(r *rig) uint32 { return 77 }},
}

// TestClose closes a connection with a task in each state.
func TestClose(t *testing.T) {
	for _, tt := range states {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.o)
			tt.set(r)
			r.take()
			r.c.Close()
			r.c.Close()
			r.c.Completed() // a wake-up that was under way
			r.nothing()
			if tt.name != "sending" && tt.name != "hanging in the backend" && tt.name != "queued for a worker" &&
				tt.name != "waiting for a range lock" && r.pool.InUse() != 0 {
				t.Errorf("%d bytes in use", r.pool.InUse())
			}
			var h pdu.BHS
			(&pdu.NOPOut{InitiatorTaskTag: 1, Immediate: true}).Encode(&h)
			if err := r.c.Receive(&h, nil, nil); err != nil {
				t.Error(err)
			}
			r.nothing()
		})
	}
}

// TestCloseWhileCompleting closes while workers finish commands.
func TestCloseWhileCompleting(t *testing.T) {
	for range 200 {
		r := newRig(t, options{workers: 4, depth: 32})
		r.store.hang()
		for i := range 16 {
			r.command(command{cdb: write10(i*200, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, byte(i))})
		}
		released := make(chan struct{})
		go func() {
			r.store.release()
			close(released)
		}()
		r.c.Close()
		<-released
		r.end()
	}
}

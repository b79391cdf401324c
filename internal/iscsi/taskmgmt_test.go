package iscsi_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// TestAbort aborts a task in each of its states, by ABORT TASK and by ABORT
// TASK SET: no response comes for the task, the function is answered
// "complete" when nothing of the task can happen any more and not before, and
// data that is still on its way is no error.
func TestAbort(t *testing.T) {
	for _, fn := range []pdu.TMFunction{pdu.AbortTask, pdu.AbortTaskSet} {
		t.Run(fn.String(), func(t *testing.T) {
			for _, tt := range states {
				t.Run(tt.name, func(t *testing.T) {
					r := newRig(t, tt.o)
					tag := tt.set(r)
					sn := r.cmdSN - 1
					r.take()
					before := bytes.Clone(r.store.mem)
					want := pdu.FunctionComplete
					if receiving := strings.HasPrefix(tt.name, "receiving"); receiving {
						// No request can come in the middle of a PDU, but a
						// function of another session may end its task.
						ended := -1
						r.c.Abort(r.nexus, iscsi.ByNexus, func(n int) { ended = n })
						if ended >= 0 {
							t.Error("ended while the datamover receives into the task")
						}
						r.finishAborted(tt.name, tag)
						if ended != 1 || !bytes.Equal(before, r.store.mem) {
							t.Errorf("%d tasks ended", ended)
						}
						r.late(tag)
						return
					}
					fid := r.tmf(fn, tag, sn)
					switch tt.name {
					case "hanging in the backend", "waiting for a range lock":
						r.nothing()
						if len(r.limited) != 1 {
							t.Errorf("no time limit for an answer that has to wait")
						}
						r.finishAborted(tt.name, tag)
					case "queued for a worker":
						if fn == pdu.AbortTaskSet { // the other one hangs
							r.nothing()
							r.store.release()
							r.completed()
						}
					case "finished by the worker":
						// It is done, but not answered: it ends without an
						// answer when the wake-up comes.
						r.nothing()
						r.c.Completed()
					case "sending":
						r.keepPut = false
						if fn == pdu.AbortTask {
							want = pdu.TaskDoesNotExist // §11.6.1: it is answered already
						}
					case "none":
						if fn == pdu.AbortTask {
							want = pdu.TaskDoesNotExist
						}
					}
					if got := r.tmResponse(fid); got != want {
						t.Fatalf("%v, want %v", got, want)
					}
					if tt.name != "hanging in the backend" && tt.name != "finished by the worker" && !bytes.Equal(before, r.store.mem) {
						t.Error("an aborted write was stored")
					}
					r.late(tag)
				})
			}
		})
	}
}

// finishAborted lets the transport or the backend let go of an aborted task.
func (r *rig) finishAborted(state string, tag uint32) {
	r.t.Helper()
	switch state {
	case "receiving immediate data":
		p := pdu.SCSICommand{Final: true, Write: true, InitiatorTaskTag: tag, ExpectedDataTransferLength: 2 * blk, CmdSN: r.cmdSN - 1}
		copy(p.CDB[:], write10(0, 2))
		r.receive(&p, make([]byte, 2*blk), false, nil)
	case "receiving unsolicited data":
		r.dataOut(tag, 0, 0, make([]byte, 2*blk), true, false)
	case "receiving solicited data":
		d := pdu.DataOut{Final: false, InitiatorTaskTag: tag, TargetTransferTag: 1, DataLen: blk}
		var h pdu.BHS
		d.Encode(&h)
		if err := r.c.StrayDataOut(&h, &d); err != nil {
			r.t.Fatal(err)
		}
	case "waiting for a range lock":
		r.store.release()
		for len(r.sent) == 0 || r.c.Tasks() > 0 {
			r.completed()
		}
		for i, o := range r.sent { // the read that had the lock, if it is not aborted
			if o.put != nil {
				r.sent = append(r.sent[:i], r.sent[i+1:]...)
				break
			}
		}
	default:
		r.store.release()
		r.completed()
	}
}

// late sends data of an aborted task, which is dropped, and checks that the
// connection works.
func (r *rig) late(tag uint32) {
	r.t.Helper()
	r.store.release()
	if r.c.Tasks() > 0 {
		r.completed()
		r.take()
	}
	r.good(r.command(command{cdb: make([]byte, 6)}))
}

// TestAbortTwice: a second function for a task that hangs must not be answered
// "complete" before the task is gone: its write may still land.
func TestAbortTwice(t *testing.T) {
	r := newRig(t, options{})
	r.store.hang()
	tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1)})
	r.inBackend(1)
	first := r.tmf(pdu.AbortTask, tag, r.cmdSN-1)
	second := r.tmf(pdu.AbortTask, tag, r.cmdSN-1)
	third := r.tmf(pdu.AbortTaskSet, pdu.ReservedTag, 0)
	done := 0
	r.c.Abort(nil, iscsi.ByNexus, func(int) { done++ })
	r.nothing()
	if done > 0 || len(r.limited) != 3 {
		t.Errorf("done %d, %d time limits", done, len(r.limited))
	}
	// The time of the first is over: it is answered, and only once.
	r.c.Managed(r.limited[0], pdu.FunctionRejected)
	if got := r.tmResponse(first); got != pdu.FunctionRejected {
		t.Error(got)
	}
	r.store.release()
	r.completed()
	s := r.take()
	if len(s) != 2 || s[0].bhs.InitiatorTaskTag() != second || s[1].bhs.InitiatorTaskTag() != third || done != 1 {
		t.Errorf("sent %v, done %d", names(s), done)
	}
}

// TestDataOutForRunning: a stray Data-Out for a task that was aborted while a
// worker runs it must not end it under the worker.
func TestDataOutForRunning(t *testing.T) {
	r := newRig(t, options{})
	r.store.hang()
	data := pattern(2*blk, 1)
	tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: data})
	r.inBackend(1)
	fid := r.tmf(pdu.AbortTask, tag, r.cmdSN-1)
	r.dataOut(tag, 0, 0, data, true, false)
	r.rejected(pdu.RejectInvalidPDUField)
	d := pdu.DataOut{Final: true, InitiatorTaskTag: tag, TargetTransferTag: 5, DataLen: blk}
	var h pdu.BHS
	d.Encode(&h)
	_ = r.c.StrayDataOut(&h, &d)
	r.rejected(pdu.RejectInvalidPDUField)
	if r.pool.InUse() == 0 {
		t.Fatal("the buffer that the worker uses was given back")
	}
	r.store.release()
	r.completed()
	if got := r.tmResponse(fid); got != pdu.FunctionComplete {
		t.Error(got)
	}
}

// TestAbortUnseen is ABORT TASK for a command that has not come, §11.6.1.
func TestAbortUnseen(t *testing.T) {
	tur := make([]byte, 6)
	t.Run("inside the window", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.cmdSN++ // a command that is lost
		if got := r.tmResponse(r.tmf(pdu.AbortTask, 4711, r.cmdSN-1)); got != pdu.FunctionComplete {
			t.Fatal(got)
		}
		r.command(command{cdb: tur, cmdSN: new(r.cmdSN - 1)}) // it comes after all, and is a duplicate now
		r.nothing()
		r.good(r.command(command{cdb: tur}))
	})
	t.Run("with commands waiting for it", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.cmdSN += 2
		next := r.command(command{cdb: tur})
		r.nothing()
		if got := r.tmResponse(r.tmf(pdu.AbortTask, 4711, r.cmdSN-2)); got != pdu.FunctionComplete {
			t.Fatal(got)
		}
		fid := r.tmf(pdu.AbortTask, 4711, r.cmdSN-3)
		s := r.take()
		if len(s) != 2 || s[0].bhs.InitiatorTaskTag() != fid || s[1].bhs.InitiatorTaskTag() != next {
			t.Fatalf("sent %v; want the function's answer and that of the command that waited", names(s))
		}
	})
	t.Run("of a held command", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.cmdSN++
		held := r.command(command{cdb: tur})
		if got := r.tmResponse(r.tmf(pdu.AbortTask, held, r.cmdSN-1)); got != pdu.FunctionComplete {
			t.Fatal(got)
		}
		first := r.command(command{cdb: tur, cmdSN: new(r.cmdSN - 2)})
		r.good(first)
		r.good(r.command(command{cdb: tur}))
	})
	for name, off := range map[string]uint32{"before the window": ^uint32(0), "behind the window": 100, "not before the request": 0, "after the request": 3} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, options{mapped: true})
			if got := r.tmResponse(r.tmf(pdu.AbortTask, 4711, r.cmdSN+off)); got != pdu.TaskDoesNotExist {
				t.Fatal(got)
			}
			r.good(r.command(command{cdb: tur}))
		})
	}
}

// TestFunctions are the answers of the other functions, §11.6.1.
func TestFunctions(t *testing.T) {
	for _, tt := range []struct {
		fn   pdu.TMFunction
		lun  pdu.LUN
		want pdu.TMResponse
	}{
		{pdu.AbortTaskSet, 0, pdu.FunctionComplete},
		{pdu.AbortTaskSet, pdu.LUNOf(3), pdu.LUNDoesNotExist},
		{pdu.ClearTaskSet, pdu.LUNOf(3), pdu.LUNDoesNotExist},
		{pdu.LogicalUnitReset, pdu.LUNOf(3), pdu.LUNDoesNotExist},
		{pdu.ClearACA, 0, pdu.FunctionNotSupported},
		{pdu.TaskReassign, 0, pdu.TaskReassignmentNotSupported},
		{99, 0, pdu.FunctionNotSupported},
	} {
		t.Run(tt.fn.String(), func(t *testing.T) {
			r := newRig(t, options{mapped: true})
			r.receive(&pdu.TaskManagementRequest{
				Immediate: true, Function: tt.fn, LUN: tt.lun, InitiatorTaskTag: 5, ReferencedTaskTag: pdu.ReservedTag, CmdSN: r.cmdSN,
			}, nil, false, nil)
			if got := r.tmResponse(5); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if len(r.limited) != 0 {
				t.Error("a time limit for a function that is answered")
			}
		})
	}
	for _, fn := range []pdu.TMFunction{pdu.ClearTaskSet, pdu.LogicalUnitReset, pdu.TargetWarmReset, pdu.TargetColdReset} {
		t.Run("managed "+fn.String(), func(t *testing.T) {
			r := newRig(t, options{mapped: true})
			fid := r.tmf(fn, pdu.ReservedTag, 0)
			r.nothing()
			if len(r.managed) != 1 || r.managed[0].Function != fn || (r.managed[0].Nexus != nil) != (fn == pdu.ClearTaskSet || fn == pdu.LogicalUnitReset) {
				t.Fatalf("%+v", r.managed)
			}
			r.c.Managed(r.managed[0], pdu.FunctionComplete)
			if got := r.tmResponse(fid); got != pdu.FunctionComplete {
				t.Error(got)
			}
			r.c.Managed(r.managed[0], pdu.FunctionRejected) // its time limit
			r.nothing()
		})
	}
	t.Run("in its turn", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.receive(&pdu.TaskManagementRequest{Function: pdu.AbortTaskSet, InitiatorTaskTag: 5, ReferencedTaskTag: pdu.ReservedTag, CmdSN: r.cmdSN + 1}, nil, false, nil)
		r.nothing()
		tag := r.command(command{cdb: make([]byte, 6)})
		s := r.take()
		if len(s) != 2 || s[0].bhs.InitiatorTaskTag() != tag || s[1].bhs.InitiatorTaskTag() != 5 {
			t.Errorf("sent %v", names(s))
		}
	})
	t.Run("reserved tag", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.receive(&pdu.TaskManagementRequest{Immediate: true, Function: pdu.AbortTaskSet, InitiatorTaskTag: pdu.ReservedTag}, nil, false, nil)
		r.rejected(pdu.RejectInvalidPDUField)
	})
}

// TestAbortedUnsolicited: the data of an aborted write that is still coming is
// dropped; data of no task at all is not.
func TestAbortedUnsolicited(t *testing.T) {
	r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=No"}})
	tag := r.command(command{cdb: write10(0, 4), write: true, edtl: 4 * blk, open: true})
	r.dataOut(tag, 0, 0, pattern(blk, 1), false, true)
	if got := r.tmResponse(r.tmf(pdu.AbortTask, tag, r.cmdSN-1)); got != pdu.FunctionComplete {
		t.Fatal(got)
	}
	r.dataOut(tag, 1, blk, pattern(blk, 1), false, true)
	r.dataOut(tag, 2, 2*blk, pattern(2*blk, 1), true, false)
	r.nothing()
	r.dataOut(tag+1, 0, 0, pattern(blk, 1), true, false)
	r.rejected(pdu.RejectInvalidPDUField)
}

// prOut runs a PERSISTENT RESERVE OUT of a nexus, past its unit attentions.
func prOut(t *testing.T, n *scsi.Nexus, action byte, key, other uint64) {
	t.Helper()
	list := make([]byte, 24)
	binary.BigEndian.PutUint64(list, key)
	binary.BigEndian.PutUint64(list[8:], other)
	done := make(chan struct{}, 1)
	c := &scsi.Command{Nexus: n, Done: func(*scsi.Command) { done <- struct{}{} }}
	for range 3 {
		c.Reset()
		c.CDB, c.Out = []byte{0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0}, list
		if c.Decode() && !c.TryExec() {
			c.Submit()
			<-done
		}
		c.Release()
		if c.Status == scsi.Good {
			return
		}
	}
	t.Fatalf("PERSISTENT RESERVE OUT: %v, sense % x", c.Status, c.Sense)
}

// TestCleared: a command that the device server ends because another I_T nexus has
// aborted it gets no response, and its initiator a unit attention; with TAS it
// gets the status TASK ABORTED.
func TestCleared(t *testing.T) {
	const register, preemptAndAbort = 6, 5
	for _, tas := range []bool{false, true} {
		r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=No"}})
		if tas {
			list := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0x0A, 0x0A, 2, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0}
			r.command(command{cdb: []byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(list)), 0}, write: true, edtl: uint32(len(list)), data: list})
			r.take()
		}
		other := r.port.Attach(&scsi.ITNexus{InitiatorName: "iqn.2026-11.com.example:other"})
		prOut(t, r.nexus, register, 0, 1)
		prOut(t, other, register, 0, 2)
		tag := r.command(command{cdb: write10(0, 1), write: true, edtl: blk, open: true})
		prOut(t, other, preemptAndAbort, 2, 1)
		r.dataOut(tag, 0, 0, pattern(blk, 1), true, false)
		r.completed()
		_, n := r.nexus.Attentions()
		if !tas {
			r.nothing()
			if n != 2 { // REGISTRATIONS PREEMPTED, COMMANDS CLEARED BY ANOTHER INITIATOR
				t.Errorf("%d unit attentions", n)
			}
		} else if o := r.one(pdu.OpSCSIResponse); o.bhs[3] != byte(scsi.TaskAborted) || n != 1 {
			t.Errorf("status %#x, %d unit attentions", o.bhs[3], n)
		}
		if r.c.Outstanding() != 0 {
			t.Error("the task is left")
		}
		other.Detach()
	}
}

// TestAbortedByBoth: with TAS, a task that others abort gets TASK ABORTED once; one
// that its own initiator aborts as well gets nothing.
func TestAbortedByBoth(t *testing.T) {
	for _, own := range []pdu.TMFunction{0, pdu.AbortTask, pdu.AbortTaskSet} {
		r := newRig(t, options{workers: 2})
		list := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0x0A, 0x0A, 2, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0}
		r.command(command{cdb: []byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(list)), 0}, write: true, edtl: uint32(len(list)), data: list})
		r.take()
		r.store.hang()
		sn := r.cmdSN
		tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1)})
		r.inBackend(1)
		ended := 0
		for range 2 {
			r.c.Abort(r.nexus, iscsi.ByOther, func(int) { ended++ })
		}
		want := []pdu.Opcode{pdu.OpSCSIResponse}
		if own != 0 {
			r.tmf(own, tag, sn)
			want = []pdu.Opcode{pdu.OpTaskManagementResponse}
		}
		r.nothing()
		r.store.release()
		r.completed()
		var got []pdu.Opcode
		for _, o := range r.take() {
			got = append(got, o.bhs.Opcode())
			if o.bhs.Opcode() == pdu.OpSCSIResponse && o.bhs[3] != byte(scsi.TaskAborted) {
				t.Errorf("status %#x", o.bhs[3])
			}
		}
		if !slices.Equal(got, want) || ended != 2 {
			t.Errorf("%v: sent %v, want %v; %d of 2 ended", own, got, want, ended)
		}
	}
}

// TestAbortRefCmdSN: a RefCmdSN that is not the CmdSN of the task is refused; for a
// task with the I bit it says nothing.
func TestAbortRefCmdSN(t *testing.T) {
	r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=No"}})
	write := command{cdb: write10(0, 4), write: true, edtl: 4 * blk, open: true}
	tag := r.command(write)
	for _, off := range []uint32{0, 2, 1 << 31} {
		if got := r.tmResponse(r.tmf(pdu.AbortTask, tag, r.cmdSN-off)); got != pdu.FunctionRejected {
			t.Errorf("CmdSN - %d: %v", off, got)
		}
	}
	if got := r.tmResponse(r.tmf(pdu.AbortTask, tag, r.cmdSN-1)); got != pdu.FunctionComplete {
		t.Error(got)
	}
	write.immediate = true
	tag = r.command(write)
	if got := r.tmResponse(r.tmf(pdu.AbortTask, tag, r.cmdSN)); got != pdu.FunctionComplete {
		t.Error(got)
	}
}

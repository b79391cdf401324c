package iscsi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// level2 is a login that negotiates the functions of RFC 7144.
var level2 = []string{"iSCSIProtocolLevel=2"}

// TestLevel1: without iSCSIProtocolLevel 2 there are no functions of RFC 7144, and
// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS says so.
func TestLevel1(t *testing.T) {
	report := []byte{0xA3, 0x0D, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0}
	for _, tt := range []struct {
		keys []string
		told string
		want pdu.TMResponse
	}{
		{nil, "d8000000", pdu.FunctionNotSupported},
		{[]string{"iSCSIProtocolLevel=1"}, "d8000000", pdu.FunctionNotSupported},
		{level2, "dc070000", pdu.FunctionComplete},
	} {
		t.Run(strings.Join(tt.keys, ""), func(t *testing.T) {
			r := newRig(t, options{mapped: true, keys: tt.keys})
			r.command(command{cdb: report, read: true, edtl: 4})
			if got := fmt.Sprintf("%x", r.one(pdu.OpDataIn).data); got != tt.told {
				t.Errorf("functions reported: %s, want %s", got, tt.told)
			}
			for _, fn := range []pdu.TMFunction{pdu.QueryTask, pdu.QueryTaskSet, pdu.QueryAsyncEvent, pdu.ITNexusReset} {
				if got := r.tmResponse(r.tmf(fn, pdu.ReservedTag, 0)); got != tt.want {
					t.Errorf("%v: %v, want %v", fn, got, tt.want)
				}
			}
		})
	}
}

// TestQueryTask asks for a task in each of its states, and for the set.
func TestQueryTask(t *testing.T) {
	for _, tt := range states {
		if strings.HasPrefix(tt.name, "receiving") {
			continue // no request can come in the middle of a PDU
		}
		t.Run(tt.name, func(t *testing.T) {
			o := tt.o
			o.keys = append(slices.Clip(o.keys), level2...)
			r := newRig(t, o)
			tag := tt.set(r)
			r.take()
			want := pdu.FunctionSucceeded
			if tt.name == "none" || tt.name == "sending" {
				want = pdu.FunctionComplete // answered already
			}
			for fn, ref := range map[pdu.TMFunction]uint32{pdu.QueryTask: tag, pdu.QueryTaskSet: pdu.ReservedTag} {
				if got := r.tmResponse(r.tmf(fn, ref, 0)); got != want {
					t.Errorf("%v: %v, want %v", fn, got, want)
				}
			}
			if got := r.tmResponse(r.tmf(pdu.QueryTask, tag+1000, 0)); got != pdu.FunctionComplete {
				t.Errorf("QUERY TASK of no task: %v", got)
			}
			r.keepPut = false
		})
	}
}

// TestQueryLUN: the queries address a logical unit.
func TestQueryLUN(t *testing.T) {
	for _, fn := range []pdu.TMFunction{pdu.QueryTask, pdu.QueryTaskSet, pdu.QueryAsyncEvent} {
		r := newRig(t, options{mapped: true, keys: level2})
		r.receive(&pdu.TaskManagementRequest{
			Immediate: true, Function: fn, LUN: pdu.LUNOf(3), InitiatorTaskTag: 5, ReferencedTaskTag: pdu.ReservedTag, CmdSN: r.cmdSN,
		}, nil, false, nil)
		if got := r.tmResponse(5); got != pdu.LUNDoesNotExist {
			t.Errorf("%v: %v", fn, got)
		}
	}
}

// TestQueryAsyncEvent: the answer tells the first unit attention condition and
// whether there are more, and clears none.
func TestQueryAsyncEvent(t *testing.T) {
	r := newRig(t, options{mapped: true, keys: level2})
	ask := func(want pdu.TMResponse, info string) {
		t.Helper()
		tag := r.tmf(pdu.QueryAsyncEvent, pdu.ReservedTag, 0)
		var p pdu.TaskManagementResponse
		o := r.one(pdu.OpTaskManagementResponse)
		if err := p.Decode(&o.bhs); err != nil {
			t.Fatal(err)
		}
		if p.InitiatorTaskTag != tag || p.Response != want || fmt.Sprintf("%x", p.Information) != info {
			t.Errorf("%v, information %x; want %v, %s", p.Response, p.Information, want, info)
		}
	}
	ask(pdu.FunctionComplete, "000000")
	r.nexus.Attention(scsi.AttentionCapacityChanged)
	ask(pdu.FunctionSucceeded, "162a09")
	r.nexus.Attention(scsi.AttentionReportedLUNsChanged)
	ask(pdu.FunctionSucceeded, "263f0e")
	ask(pdu.FunctionSucceeded, "263f0e")
	for r.nexus.Pending() {
		r.command(command{cdb: make([]byte, 6)})
	}
	r.take()
	ask(pdu.FunctionComplete, "000000")
}

// TestNexusReset ends a task in each of its states: it is answered when nothing of
// the task can happen any more, and the logical unit knows of the loss.
func TestNexusReset(t *testing.T) {
	for _, tt := range states {
		if strings.HasPrefix(tt.name, "receiving") {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			o := tt.o
			o.keys = append(slices.Clip(o.keys), level2...)
			r := newRig(t, o)
			tag := tt.set(r)
			r.take()
			fid := r.tmf(pdu.ITNexusReset, pdu.ReservedTag, 0)
			switch tt.name {
			case "hanging in the backend", "waiting for a range lock":
				r.nothing()
				if len(r.limited) != 1 {
					t.Error("no time limit for an answer that has to wait")
				}
				r.finishAborted(tt.name, tag)
			case "queued for a worker": // the other one hangs
				r.nothing()
				r.store.release()
				r.completed()
			case "finished by the worker":
				r.nothing()
				r.c.Completed()
			}
			r.keepPut = false
			if got := r.tmResponse(fid); got != pdu.FunctionComplete {
				t.Fatal(got)
			}
			if a, n := r.nexus.Attentions(); n != 1 || a != scsi.AttentionNexusLoss {
				t.Errorf("%d conditions, the first %v", n, a)
			}
			if r.err != nil {
				t.Errorf("the session ended: %v", r.err)
			}
		})
	}
}

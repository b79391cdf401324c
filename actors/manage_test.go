package actors_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// tmf runs a function in the background.
func (r *rig) tmf(s *initiator.Session, fn pdu.TMFunction, ref *initiator.Task) <-chan pdu.TMResponse {
	got := make(chan pdu.TMResponse, 1)
	go func() {
		resp, err := s.TaskManagement(testContext(r.t), fn, 0, ref)
		if err != nil {
			r.t.Error(fn, err)
		}
		got <- resp
	}()
	return got
}

func (r *rig) pending(got <-chan pdu.TMResponse, d time.Duration) {
	r.t.Helper()
	select {
	case resp := <-got:
		r.t.Fatalf("answered %v while the write may still land", resp)
	case <-time.After(d):
	}
}

func (r *rig) complete(got <-chan pdu.TMResponse, want pdu.TMResponse) {
	r.t.Helper()
	select {
	case resp := <-got:
		if resp != want {
			r.t.Fatalf("%v, want %v", resp, want)
		}
	case <-time.After(patience):
		r.t.Fatal("no answer")
	}
}

// TestResets: the functions that reach beyond a session end the commands of all
// sessions without a response, wait for those in the backend, and tell every
// session by a unit attention, once.
func TestResets(t *testing.T) {
	for _, tt := range []struct {
		fn         pdu.TMFunction
		own, other []string // unit attentions
	}{
		{pdu.LogicalUnitReset, []string{"6/29/03"}, []string{"6/29/03"}},
		{pdu.TargetWarmReset, []string{"6/29/03"}, []string{"6/29/03"}},
		{pdu.ClearTaskSet, nil, []string{"6/2f/00"}},
		{pdu.AbortTaskSet, nil, nil},
	} {
		t.Run(tt.fn.String(), func(t *testing.T) {
			r := newRig(t, actors.Limits{})
			a, b := r.ready(1, nil), r.ready(2, nil)
			victim := b
			if tt.fn == pdu.AbortTaskSet {
				victim = a
			}
			inj := r.hang(100)
			data := bytes.Repeat([]byte{1}, blk)
			hung, err := r.write(victim, 100, data)
			if err != nil {
				t.Fatal(err)
			}
			r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
			got := r.tmf(a, tt.fn, nil)
			r.pending(got, 50*time.Millisecond)
			inj.Remove()
			r.complete(got, pdu.FunctionComplete)
			select {
			case <-hung.Done():
				if victim == b {
					t.Error("an aborted command was answered")
				}
			case <-time.After(20 * time.Millisecond):
			}
			if diff := cmp.Diff(tt.own, r.attentions(a, 0)); diff != "" {
				t.Error("own session:", diff)
			}
			if diff := cmp.Diff(tt.other, r.attentions(b, 0)); diff != "" {
				t.Error("other session:", diff)
			}
			r.mustWrite(a, 100, data)
			r.mustWrite(b, 100, data)
		})
	}
}

// TestColdReset ends all sessions of the target.
func TestColdReset(t *testing.T) {
	r := newRig(t, actors.Limits{})
	a, b := r.ready(1, nil), r.ready(2, nil)
	if resp, err := a.TaskManagement(testContext(t), pdu.TargetColdReset, 0, nil); err != nil || resp != pdu.FunctionComplete {
		t.Errorf("%v, %v; want the answer before the connection ends", resp, err)
	}
	for _, s := range []*initiator.Session{a, b} {
		select {
		case <-s.Done():
		case <-time.After(patience):
			t.Fatal("a session is left")
		}
	}
	r.eventually("a new login", func() bool {
		s, err := r.login(1, nil)
		return err == nil && slices.Equal(r.attentions(s, 0), []string{"6/29/00"})
	})
}

// TestManageTimeout: a function that cannot end what hangs is answered
// "function rejected" in time, and never "complete" after it.
func TestManageTimeout(t *testing.T) {
	r := newRig(t, actors.Limits{ManageTimeout: 200 * time.Millisecond})
	s := r.ready(1, nil)
	inj := r.hang(100)
	hung, err := r.write(s, 100, bytes.Repeat([]byte{1}, blk))
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
	for _, fn := range []pdu.TMFunction{pdu.AbortTask, pdu.AbortTaskSet, pdu.LogicalUnitReset} {
		begin := time.Now()
		ref := hung
		if fn != pdu.AbortTask {
			ref = nil
		}
		r.complete(r.tmf(s, fn, ref), pdu.FunctionRejected)
		if d := time.Since(begin); d < 150*time.Millisecond || d > 2*time.Second {
			t.Errorf("%v: answered after %v", fn, d)
		}
	}
	if _, err := s.NOP(testContext(t), []byte("alive")); err != nil {
		t.Fatal(err)
	}
	inj.Remove()
	r.complete(r.tmf(s, pdu.LogicalUnitReset, nil), pdu.FunctionComplete)
	r.attentions(s, 0)
	r.mustWrite(s, 100, bytes.Repeat([]byte{2}, blk))
}

// TestResetWaitsForLostConnection: the connection that sent a write is gone,
// the write hangs in the backend: a reset must still wait for it.
func TestResetWaitsForLostConnection(t *testing.T) {
	for _, during := range []bool{false, true} {
		r := newRig(t, actors.Limits{})
		a, b := r.ready(1, nil), r.ready(2, nil)
		inj := r.hang(100)
		if _, err := r.write(b, 100, bytes.Repeat([]byte{1}, blk)); err != nil {
			t.Fatal(err)
		}
		r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
		var got <-chan pdu.TMResponse
		if during {
			got = r.tmf(a, pdu.LogicalUnitReset, nil)
			r.pending(got, 20*time.Millisecond)
		}
		_ = b.Close()
		r.eventually("the session is gone", func() bool { return r.sessions() == 1 })
		if !during {
			got = r.tmf(a, pdu.LogicalUnitReset, nil)
		}
		r.pending(got, 50*time.Millisecond)
		inj.Remove()
		r.complete(got, pdu.FunctionComplete)
		r.shutdown()
	}
}

// TestTargetCrash: a target that starts over knows its sessions: a function
// right after reaches all of them, LUN changes are seen, and a login of a known
// initiator port reinstates.
func TestTargetCrash(t *testing.T) {
	r := newRig(t, actors.Limits{})
	a, b := r.ready(1, nil), r.ready(2, nil)
	inj := r.hang(100)
	if _, err := r.write(b, 100, bytes.Repeat([]byte{1}, blk)); err != nil {
		t.Fatal(err)
	}
	r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
	r.crash("target")
	got := r.tmf(a, pdu.LogicalUnitReset, nil)
	r.pending(got, 300*time.Millisecond)
	inj.Remove()
	r.complete(got, pdu.FunctionComplete)
	if diff := cmp.Diff([]string{"6/29/03"}, r.attentions(b, 0)); diff != "" {
		t.Error(diff)
	}
	r.crash("target")
	r.attach(1)
	r.eventually("the new LUN is seen", func() bool { return r.tur(a, 1) != "5/25/00" })
	r.crash("target")
	r.ready(2, nil)
	select {
	case <-b.Done():
	case <-time.After(patience):
		t.Error("two sessions of one initiator port")
	}
}

// TestLUNChanges: sessions see LUNs come, grow and go, and are told once each.
func TestLUNChanges(t *testing.T) {
	r := newRig(t, actors.Limits{})
	a, b := r.ready(1, nil), r.ready(2, nil)
	both := func(what string, want []string) {
		t.Helper()
		for _, s := range []*initiator.Session{a, b} {
			if diff := cmp.Diff(want, r.attentions(s, 0)); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
	}
	if got := r.tur(a, 1); got != "5/25/00" {
		t.Errorf("a LUN that is not there: %q", got)
	}
	r.attach(1)
	both("attached", []string{"6/3f/0e"})
	r.eventually("the new LUN", func() bool { return r.tur(a, 1) == "6/29/00" })
	if got := r.tur(a, 1); got != "" {
		t.Errorf("new LUN: %q", got)
	}
	if err := r.mem.Resize(t.Context(), 32<<20); err != nil {
		t.Fatal(err)
	}
	if err := r.target.Resize(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	both("resized", []string{"6/2a/09"})
	if err := r.target.Resize(t.Context(), 0); err != nil { // nothing new
		t.Fatal(err)
	}
	both("resized to the same", nil)
	if err := r.target.DetachLUN(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	both("detached", []string{"6/3f/0e"})
	for _, s := range []*initiator.Session{a, b} {
		if got := r.tur(s, 1); got != "5/25/00" {
			t.Errorf("a LUN that is gone: %q", got)
		}
	}
	if err := r.target.DetachLUN(t.Context(), 1); err == nil {
		t.Error("detached twice")
	}
}

// TestRemoveTarget ends its sessions and takes it out of discovery.
func TestRemoveTarget(t *testing.T) {
	r := newRig(t, actors.Limits{})
	s := r.ready(1, nil)
	if err := r.target.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Error("the session lives")
	}
	if _, err := r.login(1, nil); err == nil {
		t.Error("logged in to a target that was removed")
	}
}

// TestNexusReset: I_T NEXUS RESET (RFC 7144) ends the tasks of the session on all
// logical units and its SPC-2 reservation; the session, and those of others, go on.
func TestNexusReset(t *testing.T) {
	r := newRig(t, actors.Limits{})
	s := r.ready(1, func(o *initiator.Options) { o.Extra = []text.Pair{{Key: "iSCSIProtocolLevel", Value: "2"}} })
	other := r.ready(2, nil)
	if res, err := s.Exec(testContext(t), 0, []byte{0x16, 0, 0, 0, 0, 0}, nil, 0); err != nil || res.Err() != nil {
		t.Fatalf("RESERVE: %v, %+v", err, res)
	}
	hung := r.hang(0)
	task, err := r.write(s, 0, make([]byte, blk))
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the write hangs", func() bool { return hung.Hanging() == 1 })
	answer := r.tmf(s, pdu.ITNexusReset, nil)
	r.pending(answer, 50*time.Millisecond)
	hung.Remove()
	r.complete(answer, pdu.FunctionComplete)
	if _, err := task.Wait(testContext(t)); !errors.Is(err, initiator.ErrAborted) {
		t.Errorf("the task: %v", err)
	}
	if got := r.attentions(s, 0); !slices.Equal(got, []string{"6/29/07"}) {
		t.Errorf("conditions of the session: %v", got)
	}
	if got := r.attentions(other, 0); got != nil {
		t.Errorf("conditions of another session: %v", got)
	}
	r.mustWrite(other, 1, make([]byte, blk)) // a reservation would refuse it
}

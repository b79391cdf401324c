package actors_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// Service actions of PERSISTENT RESERVE OUT, SPC-5 6.16.
const (
	prRegister     = 0
	prPreemptAbort = 5
)

// reserve sends PERSISTENT RESERVE OUT, for a write exclusive type.
func (r *rig) reserve(s *initiator.Session, action byte, key, other uint64) *initiator.Task {
	r.t.Helper()
	list := make([]byte, 24)
	binary.BigEndian.PutUint64(list, key)
	binary.BigEndian.PutUint64(list[8:], other)
	task, err := s.Start(testContext(r.t), initiator.Command{CDB: []byte{0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0}, DataOut: list})
	if err != nil {
		r.t.Fatal(err)
	}
	return task
}

func (r *rig) good(task *initiator.Task) {
	r.t.Helper()
	if res, err := task.Wait(testContext(r.t)); err != nil || res.Err() != nil {
		r.t.Fatalf("%v, %+v", err, res)
	}
}

// reportAborts sets TAS in the Control mode page.
func (r *rig) reportAborts(s *initiator.Session) {
	r.t.Helper()
	list := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0x0A, 0x0A, 2, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0}
	res, err := s.Exec(testContext(r.t), 0, []byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(list)), 0}, list, 0)
	if err != nil || res.Err() != nil {
		r.t.Fatalf("MODE SELECT: %v, %+v", err, res)
	}
}

// silent checks that a task gets no response.
func silent(t *testing.T, task *initiator.Task) {
	t.Helper()
	select {
	case <-task.Done():
		t.Error("an aborted command was answered")
	case <-time.After(20 * time.Millisecond):
	}
}

// taskAborted checks that a task ends with the status TASK ABORTED.
func (r *rig) taskAborted(task *initiator.Task) {
	r.t.Helper()
	if res, err := task.Wait(testContext(r.t)); err != nil || res.Status != 0x40 {
		r.t.Errorf("%v, %+v, want TASK ABORTED", err, res)
	}
}

// TestPreemptAndAbort: PREEMPT AND ABORT is answered when no command of the
// preempted nexus can touch the unit any more. These commands end without a
// response, of which their initiator is told by 2F/00, or, with TAS, with the
// status TASK ABORTED.
func TestPreemptAndAbort(t *testing.T) {
	for _, tas := range []bool{false, true} {
		name := "TAS 0"
		if tas {
			name = "TAS 1"
		}
		t.Run(name, func(t *testing.T) {
			r := newRig(t, actors.Limits{})
			a, b, c := r.ready(1, nil), r.ready(2, nil), r.ready(3, nil)
			if tas {
				r.reportAborts(a)
				r.attentions(b, 0)
				r.attentions(c, 0)
			}
			r.good(r.reserve(a, prRegister, 0, 1))
			r.good(r.reserve(b, prRegister, 0, 2))

			inj := r.hang(100)
			hung, err := r.write(b, 100, make([]byte, blk))
			if err != nil {
				t.Fatal(err)
			}
			r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
			queued, err := r.write(b, 100, make([]byte, blk)) // waits for the range
			if err != nil {
				t.Fatal(err)
			}
			r.eventually("the other write waits", func() bool { return r.target.LUNs()[0].Port().Unit().Inflight() == 2 })
			preempt := r.reserve(a, prPreemptAbort, 1, 2)
			silent(t, preempt)
			r.mustWrite(c, 2000, make([]byte, blk))
			inj.Remove()
			r.good(preempt)
			want := []string{"6/2a/05", "6/2f/00"}
			if tas {
				r.taskAborted(hung)
				r.taskAborted(queued)
				want = want[:1]
			} else {
				silent(t, hung)
				silent(t, queued)
			}
			if got := r.attentions(b, 0); !slices.Equal(got, want) {
				t.Errorf("conditions of the preempted: %v, want %v", got, want)
			}
			if got := r.attentions(c, 0); got != nil {
				t.Errorf("conditions of a bystander: %v", got)
			}
		})
	}
}

// TestPreemptEachOther: two nexuses that preempt each other at once do not wait for
// each other: one of them is left, and the unit works.
func TestPreemptEachOther(t *testing.T) {
	r := newRig(t, actors.Limits{})
	a, b := r.ready(1, nil), r.ready(2, nil)
	for range 20 {
		for i, s := range []*initiator.Session{a, b} {
			r.attentions(s, 0)
			r.good(r.reserve(s, 6, 0, uint64(i)+1)) // REGISTER AND IGNORE EXISTING KEY
		}
		x, y := r.reserve(a, prPreemptAbort, 1, 2), r.reserve(b, prPreemptAbort, 2, 1)
		// One preempts the other, whose command is refused, or aborted without an
		// answer.
		won := func(task *initiator.Task) bool {
			res, err := task.Wait(testContext(t))
			return err == nil && res.Status == 0
		}
		select {
		case <-x.Done():
			if !won(x) && !won(y) {
				t.Fatal("nobody preempted the other")
			}
		case <-y.Done():
			if !won(y) && !won(x) {
				t.Fatal("nobody preempted the other")
			}
		case <-time.After(patience):
			t.Fatal("they wait for each other")
		}
	}
}

// TestTaskAbortedStatus: with TAS, the functions that reach beyond a session end the
// commands of others with the status TASK ABORTED, and those of the requester
// without a response.
func TestTaskAbortedStatus(t *testing.T) {
	for fn, want := range map[pdu.TMFunction][]string{
		pdu.ClearTaskSet: nil, pdu.LogicalUnitReset: {"6/29/03"}, pdu.TargetWarmReset: {"6/29/03"},
	} {
		t.Run(fn.String(), func(t *testing.T) {
			r := newRig(t, actors.Limits{})
			a, b := r.ready(1, nil), r.ready(2, nil)
			r.reportAborts(a)
			r.attentions(b, 0)
			inj := r.hang(100)
			other, err := r.write(b, 100, make([]byte, blk))
			if err != nil {
				t.Fatal(err)
			}
			r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
			own, err := r.write(a, 100, make([]byte, blk))
			if err != nil {
				t.Fatal(err)
			}
			r.eventually("the other write waits", func() bool { return r.target.LUNs()[0].Port().Unit().Inflight() == 2 })
			got := r.tmf(a, fn, nil)
			r.pending(got, 50*time.Millisecond)
			inj.Remove()
			r.complete(got, pdu.FunctionComplete)
			r.taskAborted(other)
			if _, err := own.Wait(testContext(t)); !errors.Is(err, initiator.ErrAborted) {
				t.Errorf("own command: %v", err)
			}
			if c := r.attentions(b, 0); !slices.Equal(c, want) {
				t.Errorf("conditions of the other: %v, want %v", c, want)
			}
		})
	}
}

package actors_test

import (
	"testing"
	"time"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// elsewhere is a block that is not locked together with block 100.
const elsewhere = 1000

// attributed starts a READ of one block with a task attribute, and returns when it
// has arrived.
func (r *rig) attributed(s *initiator.Session, attr pdu.TaskAttr, lba int) *initiator.Task {
	r.t.Helper()
	task, err := s.Start(testContext(r.t), initiator.Command{CDB: read10(lba, 1), DataInLen: blk, Attr: attr})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := s.NOP(testContext(r.t), nil); err != nil { // it comes after the command
		r.t.Fatal(err)
	}
	return task
}

// TestTaskAttributes: ORDERED and HEAD OF QUEUE count for the commands of all
// sessions on a logical unit, and no further.
func TestTaskAttributes(t *testing.T) {
	r := newRig(t, actors.Limits{})
	r.attach(1)
	a, b := r.ready(1, nil), r.ready(2, nil)
	r.attentions(b, 1)
	inj := r.hang(100)
	older, err := r.write(a, 100, make([]byte, blk))
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })

	ordered := r.attributed(b, pdu.AttrOrdered, elsewhere)
	r.tur(b, 1)                                             // another logical unit is another task set
	r.good(r.attributed(a, pdu.AttrHeadOfQueue, elsewhere)) // passes them all
	later := r.attributed(a, pdu.AttrSimple, elsewhere)     // waits for ORDERED
	last := r.attributed(b, pdu.AttrUntagged, elsewhere)    // as SIMPLE
	second := r.attributed(a, pdu.AttrOrdered, elsewhere)   // after those
	time.Sleep(30 * time.Millisecond)
	for what, task := range map[string]*initiator.Task{"ORDERED": ordered, "SIMPLE": later, "untagged": last, "second ORDERED": second} {
		select {
		case <-task.Done():
			t.Errorf("the %s command did not wait", what)
		default:
		}
	}
	inj.Remove()
	for _, task := range []*initiator.Task{older, ordered, later, last, second} {
		r.good(task)
	}
}

// TestTaskAttributesAbort: an ORDERED command whose initiator is gone holds nobody up,
// whether it waits for its turn or for its data, and neither does one that is
// aborted.
func TestTaskAttributesAbort(t *testing.T) {
	r := newRig(t, actors.Limits{})
	a, b, c := r.ready(1, nil), r.ready(2, nil), r.ready(3, nil)
	inj := r.hang(100)
	older, err := r.write(a, 100, make([]byte, blk))
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
	r.attributed(b, pdu.AttrOrdered, elsewhere)
	aborted := r.attributed(c, pdu.AttrOrdered, elsewhere)
	behind := r.attributed(a, pdu.AttrSimple, elsewhere)
	silent(t, behind)
	r.complete(r.tmf(c, pdu.AbortTask, aborted), pdu.FunctionComplete)
	silent(t, behind)
	b.Close()
	r.good(behind)
	inj.Remove()
	r.good(older)
}

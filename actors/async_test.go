package actors_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// asyncLog has a session report its Asynchronous Messages.
func asyncLog() (<-chan string, func(*initiator.Options)) {
	got := make(chan string, 16)
	return got, func(o *initiator.Options) {
		o.Async = func(m pdu.AsyncMessage, data []byte) {
			got <- fmt.Sprintf("%d lun %v %d %d %d % x", m.Event, m.LUN, m.Parameter1, m.Parameter2, m.Parameter3, data)
		}
	}
}

func next(t *testing.T, got <-chan string, want string) {
	t.Helper()
	select {
	case m := <-got:
		if m != want {
			t.Errorf("message %q, want %q", m, want)
		}
	case <-time.After(patience):
		t.Fatalf("no message, want %q", want)
	}
}

func none(t *testing.T, got <-chan string) {
	t.Helper()
	select {
	case m := <-got:
		t.Errorf("message %q", m)
	case <-time.After(20 * time.Millisecond):
	}
}

func (r *rig) ended(s *initiator.Session) {
	r.t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		r.t.Fatal("the session goes on")
	}
	r.eventually("the session is gone", func() bool { return r.sessions() == 0 })
}

// TestLogoutRequest: an initiator is asked to log out; if it does not, the session is
// dropped in the end, and it is told.
func TestLogoutRequest(t *testing.T) {
	r := newRig(t, actors.Limits{LogoutTimeout: 3 * time.Second})
	got, async := asyncLog()
	s := r.ready(1, async)
	tsih := s.LoginResult().TSIH
	for range 2 { // the second request does not prolong the time
		if err := r.n.LogoutSession(testContext(t), tsih, false); err != nil {
			t.Fatal(err)
		}
		next(t, got, "1 lun 0 0 0 3 ")
	}
	r.mustWrite(s, 0, make([]byte, blk)) // until then everything works
	next(t, got, "3 lun 0 0 2 0 ")
	r.ended(s)
}

// TestForcedLogout ends a session at once, also in the middle of a command.
func TestForcedLogout(t *testing.T) {
	r := newRig(t, actors.Limits{})
	got, async := asyncLog()
	s := r.ready(1, async)
	inj := r.hang(100)
	if _, err := r.write(s, 100, make([]byte, blk)); err != nil {
		t.Fatal(err)
	}
	r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
	if err := r.n.LogoutSession(testContext(t), s.LoginResult().TSIH, true); err != nil {
		t.Fatal(err)
	}
	next(t, got, "3 lun 0 0 2 0 ")
	r.ended(s)
	inj.Remove()
}

// TestAsyncEvents: where the configuration says so, initiators are told of LUNs that
// come and of capacities that change, after REPORT LUNS and READ CAPACITY tell the
// same; nobody else is.
func TestAsyncEvents(t *testing.T) {
	r := newRig(t, actors.Limits{})
	got, async := asyncLog()
	s := r.ready(1, async)
	r.attach(1)
	none(t, got)
	cfg := *r.target.Config()
	cfg.AsyncEvents = true
	if _, err := r.target.Replace(cfg); err != nil {
		t.Fatal(err)
	}
	none(t, got) // no LUN has changed
	r.attach(2)
	next(t, got, "0 lun 0 0 0 0 00 12 70 00 06 00 00 00 00 0a 00 00 00 00 3f 0e 00 00 00 00")
	res, err := s.Exec(testContext(t), 0, []byte{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, nil, 64)
	if err != nil || len(res.Data) != 8+3*8 {
		t.Errorf("REPORT LUNS: %v, %+v", err, res)
	}
	if err := r.target.DetachLUN(testContext(t), 2); err != nil {
		t.Fatal(err)
	}
	next(t, got, "0 lun 0 0 0 0 00 12 70 00 06 00 00 00 00 0a 00 00 00 00 3f 0e 00 00 00 00")
	if err := r.target.ResizeTo(testContext(t), 1, 32<<20); err == nil {
		next(t, got, "0 lun 1 0 0 0 00 12 70 00 06 00 00 00 00 0a 00 00 00 00 2a 09 00 00 00 00")
	} else {
		t.Error(err)
	}
	none(t, got)
}

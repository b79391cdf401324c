package verbstest

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// readable waits for the CQ's descriptor.
func readable(cq verbs.CQ, timeout time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(cq.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(timeout.Milliseconds()))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// An armed CQ that is empty is not readable until a completion comes.
func testNotify(e *env) {
	t, i := e.pair()
	for round := range 5 {
		e.check(e.target.cq.Arm(), "Arm")
		e.turn()
		if round == 0 && readable(e.target.cq, 20*time.Millisecond) {
			// Once more: Arm may have come before a late notification.
			e.check(e.target.cq.Arm(), "Arm")
			e.turn()
			if readable(e.target.cq, 20*time.Millisecond) {
				e.Error("readable without a completion")
			}
		}
		i.post(i.msg(1, "ring"))
		for end := time.Now().Add(e.c.Timeout); len(t.wc) == 0; {
			i.s.poll() // a software provider sends now
			if time.Now().After(end) {
				e.Fatal("the descriptor does not become readable")
			}
			if readable(e.target.cq, 10*time.Millisecond) {
				e.check(e.target.cq.Arm(), "Arm")
				t.s.poll()
			}
		}
		e.same(t.received(), "ring")
		i.ok(1)
	}
}

// A Poller sleeps until there is something, or it is woken.
func testPoller(e *env) {
	t, i := e.pair()
	p, err := verbs.NewPoller(e.target.cq, 50*time.Microsecond)
	e.check(err, "NewPoller")
	defer func() { e.check(p.Close(), "Close") }()
	var wc [8]verbs.WC
	for range 20 {
		i.post(i.msg(1, "ring"))
		n := 0
		for end := time.Now().Add(e.c.Timeout); n == 0; {
			if time.Now().After(end) {
				e.Fatal("Wait does not return the completion")
			}
			i.s.poll()
			n, err = p.Wait(wc[:], 10*time.Millisecond)
			e.check(err, "Wait")
		}
		t.wc = append(t.wc, wc[:n]...)
		e.same(t.received(), "ring")
		i.ok(1)
	}
	woken := time.AfterFunc(20*time.Millisecond, p.Wake)
	defer woken.Stop()
	start := time.Now()
	for time.Since(start) < 15*time.Millisecond { // it may return for nothing
		n, err := p.Wait(wc[:], e.c.Timeout)
		if n != 0 || err != nil {
			e.Fatalf("Wait: %d, %v", n, err)
		}
	}
	if time.Since(start) > e.c.Timeout/2 {
		e.Error("Wake did not end Wait")
	}
}

// The data path allocates nothing.
func testAllocations(e *env) {
	t, i := e.pair()
	send := []verbs.SendWR{i.msg(1, "m")}
	send[0].Flags |= verbs.SendSignaled
	recv := make([]verbs.RecvWR, 1)
	sg := make([]verbs.SGE, 1)
	wc := make([]verbs.WC, 16)
	end := time.Now().Add(e.c.Timeout)
	got := testing.AllocsPerRun(50, func() {
		if n, _ := i.qp.PostSend(send); n != 1 {
			e.Fatal("PostSend")
		}
		var w verbs.WC
		for done := 0; done < 2; { // a provider may need both CQs polled
			if time.Now().After(end) {
				e.Fatal("no completion")
			}
			if n, _ := e.target.cq.Poll(wc); n > 0 {
				w = wc[0]
				done++
			}
			if n, _ := e.initiator.cq.Poll(wc); n > 0 {
				done++
			}
		}
		slotOf := int(w.ID &^ recvMark)
		sg[0] = t.at(slotOf*slot, slot)
		recv[0] = verbs.RecvWR{ID: w.ID, SG: sg}
		if n, _ := t.qp.PostRecv(recv); n != 1 {
			e.Fatal("PostRecv")
		}
	})
	if got != 0 {
		e.Errorf("%v allocations per message", got)
	}
}

package rawsuite

import (
	"testing"

	"github.com/iserd/iserd/pdu"
)

// testCmdSN checks the command window, §4.2.2.1.
func (s *suite) testCmdSN(t *testing.T) {
	s.sub(t, "out of order", s.commandsOutOfOrder)
	s.sub(t, "duplicate within the window", s.duplicateCommand)
	s.sub(t, "beyond the window", func(t *testing.T) {
		x := s.login(t, nil)
		x.outcome()
		window := s.window(x)
		x.ignored(t, window+1)
		x.ignored(t, window+1000)
		x.ignored(t, x.cmdSN+1<<31)
		x.works(t)
	})
	s.sub(t, "before the window", func(t *testing.T) {
		x := s.login(t, nil)
		x.ignored(t, x.cmdSN-1)
		x.ignored(t, x.cmdSN-1000)
		x.works(t)
	})
	s.sub(t, "window is kept full", func(t *testing.T) {
		x := s.login(t, nil)
		x.outcome()
		n := int(s.window(x) - x.cmdSN + 1)
		for range n {
			x.send(x.command(make([]byte, 6), 0), nil)
		}
		if o := x.outcome(); o.closed || len(o.pdus) != n {
			t.Errorf("%d commands fill the window, %d were answered (closed %v)", n, len(o.pdus), o.closed)
		}
	})
}

// window asks for the current MaxCmdSN.
func (s *suite) window(x *raw) uint32 {
	x.t.Helper()
	x.send(x.ping(), nil)
	return x.mustRead().BHS.MaxCmdSN()
}

// works checks that an ordinary command still does.
func (x *raw) works(t *testing.T) {
	t.Helper()
	c := x.command(make([]byte, 6), 0)
	x.send(c, nil)
	if p := x.mustRead(); p.BHS.Opcode() != pdu.OpSCSIResponse || p.BHS.InitiatorTaskTag() != c.InitiatorTaskTag || status(p) != 0 {
		t.Errorf("TEST UNIT READY: %v for tag %d, status %#x", p.BHS.Opcode(), p.BHS.InitiatorTaskTag(), status(p))
	}
}

// commandsOutOfOrder sends the second command first.
func (s *suite) commandsOutOfOrder(t *testing.T) {
	x := s.login(t, nil)
	first, second := x.command(make([]byte, 6), 0), x.command(make([]byte, 6), 0)
	x.send(second, nil)
	if o := x.outcome(); o.closed || len(o.pdus) > 0 {
		t.Fatalf("a command was answered before its predecessor came (closed %v)", o.closed)
	}
	x.send(first, nil)
	for _, want := range []uint32{first.InitiatorTaskTag, second.InitiatorTaskTag} {
		if p := x.mustRead(); p.BHS.InitiatorTaskTag() != want || status(p) != 0 {
			t.Fatalf("answer to tag %d with status %#x, want tag %d", p.BHS.InitiatorTaskTag(), status(p), want)
		}
	}
}

// duplicateCommand sends one command twice before its turn.
func (s *suite) duplicateCommand(t *testing.T) {
	x := s.login(t, nil)
	first, second := x.command(make([]byte, 6), 0), x.command(make([]byte, 6), 0)
	x.send(second, nil)
	x.send(second, nil)
	x.send(first, nil)
	seen := make(map[uint32]int)
	for _, p := range x.outcome().pdus {
		seen[p.BHS.InitiatorTaskTag()]++
	}
	if seen[first.InitiatorTaskTag] != 1 || seen[second.InitiatorTaskTag] != 1 || len(seen) != 2 {
		t.Errorf("answers by tag: %v", seen)
	}
}

// ignored sends a command with cmdSN and wants nothing to happen: "The target
// MUST silently ignore any non-immediate command outside of this range or
// non-immediate duplicates within the range."
func (x *raw) ignored(t *testing.T, cmdSN uint32) {
	t.Helper()
	c := x.command(make([]byte, 6), 0)
	x.cmdSN--
	c.CmdSN = cmdSN
	x.send(c, nil)
	if o := x.outcome(); o.closed || len(o.pdus) > 0 {
		t.Fatalf("CmdSN %d, expected is %d: closed %v, %d answers", cmdSN, x.cmdSN, o.closed, len(o.pdus))
	}
}

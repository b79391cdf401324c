package rawsuite

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// testCmdSN checks the command window, §4.2.2.1.
func (s *suite) testCmdSN(t *testing.T) {
	ignored := func(t *testing.T, x *raw, cmdSN uint32) {
		t.Helper()
		c := x.command(make([]byte, 6), 0)
		x.cmdSN--
		c.CmdSN = cmdSN
		x.send(c, nil)
		// "The target MUST silently ignore any non-immediate command outside
		// of this range or non-immediate duplicates within the range."
		o := x.outcome()
		if o.closed || len(o.pdus) > 0 {
			t.Fatalf("CmdSN %d, expected is %d: closed %v, %d answers", cmdSN, x.cmdSN, o.closed, len(o.pdus))
		}
	}
	s.sub(t, "beyond the window", func(t *testing.T) {
		x := s.login(t, nil)
		x.outcome()
		window := s.window(x)
		ignored(t, x, window+1)
		ignored(t, x, window+1000)
		ignored(t, x, x.cmdSN+1<<31)
		x.works(t)
	})
	s.sub(t, "before the window", func(t *testing.T) {
		x := s.login(t, nil)
		ignored(t, x, x.cmdSN-1)
		ignored(t, x, x.cmdSN-1000)
		x.works(t)
	})
	s.sub(t, "out of order", func(t *testing.T) {
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
	})
	s.sub(t, "duplicate within the window", func(t *testing.T) {
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

// solicited logs in for writes that wait for R2T.
func (s *suite) solicited(t *testing.T) *raw {
	t.Helper()
	return s.login(t, func(o *initiator.Options) { o.InitialR2T, o.ImmediateData = initiator.Yes, initiator.No })
}

// askedFor starts a write of data and returns its command and first R2T.
func (x *raw) askedFor(lba int, n int) (*pdu.SCSICommand, pdu.R2T) {
	x.t.Helper()
	c := x.writeCommand(lba, n, 0)
	x.send(c, nil)
	p := x.mustRead()
	var r pdu.R2T
	if err := r.Decode(&p.BHS); err != nil || r.InitiatorTaskTag != c.InitiatorTaskTag || r.BufferOffset != 0 {
		x.t.Fatalf("want an R2T, got %v (%v)", p.BHS.Opcode(), err)
	}
	return c, r
}

// testDataOut answers an R2T wrongly. The write must not end with GOOD, and
// must not put anything where the command does not point.
func (s *suite) testDataOut(t *testing.T) {
	const n = 4096
	old := pattern("dataout", "old", 2*n)
	data := pattern("dataout", "new", n)
	right := func(c *pdu.SCSICommand, r pdu.R2T, x *raw) pdu.DataOut {
		return pdu.DataOut{
			Final: true, LUN: c.LUN, InitiatorTaskTag: c.InitiatorTaskTag, TargetTransferTag: r.TargetTransferTag,
			ExpStatSN: x.expStatSN, DataLen: n,
		}
	}
	tests := []struct {
		name  string
		wrong func(d *pdu.DataOut)
		// task: the write itself has been spoilt and must not end with GOOD
		// before its data has come in full.
	}{
		{"BufferOffset behind", func(d *pdu.DataOut) { d.BufferOffset = 512 }},
		{"BufferOffset beyond the end", func(d *pdu.DataOut) { d.BufferOffset = 0xfffff000 }},
		{"DataSN 1", func(d *pdu.DataOut) { d.DataSN = 1 }},
		{"too short with F", func(d *pdu.DataOut) { d.DataLen = 512 }},
		{"unknown TargetTransferTag", func(d *pdu.DataOut) { d.TargetTransferTag ^= 0x5555 }},
		{"reserved TargetTransferTag", func(d *pdu.DataOut) { d.TargetTransferTag = pdu.ReservedTag }},
		{"unknown InitiatorTaskTag", func(d *pdu.DataOut) { d.InitiatorTaskTag += 1000 }},
		{"reserved InitiatorTaskTag", func(d *pdu.DataOut) { d.InitiatorTaskTag = pdu.ReservedTag }},
		{"no data", func(d *pdu.DataOut) { d.DataLen = 0 }},
	}
	for _, tt := range tests {
		s.sub(t, tt.name, func(t *testing.T) {
			if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
				t.Fatal(err)
			}
			x := s.solicited(t)
			c, r := x.askedFor(scratchLBA, n)
			d := right(c, r, x)
			tt.wrong(&d)
			x.send(&d, data[:d.DataLen])
			if o := x.outcome(); o.good(c.InitiatorTaskTag) {
				t.Error("GOOD")
			}
			_ = x.c.Close()
			s.mustHoldEither(t, scratchLBA, old, append(bytes.Clone(data), old[n:]...))
		})
	}
	s.sub(t, "more than asked for", func(t *testing.T) {
		if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
			t.Fatal(err)
		}
		x := s.solicited(t)
		c, r := x.askedFor(scratchLBA, n)
		d := right(c, r, x)
		d.DataLen = 2 * n
		x.send(&d, append(bytes.Clone(data), data...))
		if o := x.outcome(); o.good(c.InitiatorTaskTag) {
			t.Error("GOOD")
		}
		_ = x.c.Close()
		s.mustHold(t, scratchLBA+n/blockSize, old[n:])
	})
	s.sub(t, "without a command", func(t *testing.T) {
		x := s.login(t, nil)
		x.send(&pdu.DataOut{Final: true, LUN: s.lun(), InitiatorTaskTag: 4711, TargetTransferTag: 1, DataLen: n}, data)
		x.outcome()
	})
	s.sub(t, "one block per PDU", func(t *testing.T) {
		x := s.solicited(t)
		c, r := x.askedFor(scratchLBA, n)
		for i := range n / blockSize {
			d := right(c, r, x)
			d.Final, d.DataSN, d.BufferOffset, d.DataLen = i == n/blockSize-1, uint32(i), uint32(i*blockSize), blockSize
			x.send(&d, data[i*blockSize:][:blockSize])
		}
		if o := x.outcome(); !o.good(c.InitiatorTaskTag) {
			t.Error("no GOOD")
		}
		s.mustHold(t, scratchLBA, data)
	})
	s.sub(t, "odd pieces", func(t *testing.T) {
		x := s.solicited(t)
		c, r := x.askedFor(scratchLBA, n)
		for off, i := 0, uint32(0); off < n; i++ {
			l := min(n-off, 333)
			d := right(c, r, x)
			d.Final, d.DataSN, d.BufferOffset, d.DataLen = off+l == n, i, uint32(off), l
			x.send(&d, data[off:][:l])
			off += l
		}
		if o := x.outcome(); !o.good(c.InitiatorTaskTag) {
			t.Error("no GOOD")
		}
		s.mustHold(t, scratchLBA, data)
	})
}

// mustHoldEither is mustHold with two allowed contents: all of a write or
// nothing of it.
func (s *suite) mustHoldEither(t *testing.T, lba int, a, b []byte) {
	t.Helper()
	got, err := s.read(t, s.bystander, lba, len(a))
	if err != nil {
		t.Fatal("bystander:", err)
	}
	if !bytes.Equal(got, a) && !bytes.Equal(got, b) {
		t.Errorf("blocks from %d on hold a mixture: %.60q", lba, got)
	}
}

// testImmediateData breaks the rules for unsolicited data, §13.10, §13.11,
// §13.14.
func (s *suite) testImmediateData(t *testing.T) {
	const n = 8192
	data := pattern("immediate", "new", n)
	old := pattern("immediate", "old", n)
	tests := []struct {
		name   string
		adjust func(o *initiator.Options)
		send   func(x *raw) uint32
	}{
		{"although ImmediateData=No", func(o *initiator.Options) { o.ImmediateData, o.InitialR2T = initiator.No, initiator.Yes }, func(x *raw) uint32 {
			c := x.writeCommand(scratchLBA, n, 4096)
			x.send(c, data[:4096])
			return c.InitiatorTaskTag
		}},
		{"over FirstBurstLength", func(o *initiator.Options) { o.FirstBurstLength = 4096 }, func(x *raw) uint32 {
			c := x.writeCommand(scratchLBA, n, n)
			x.send(c, data)
			return c.InitiatorTaskTag
		}},
		{"over the expected length", nil, func(x *raw) uint32 {
			c := x.writeCommand(scratchLBA, n, n)
			c.ExpectedDataTransferLength = 4096
			x.send(c, data)
			return c.InitiatorTaskTag
		}},
		{"unsolicited although InitialR2T=Yes", func(o *initiator.Options) { o.ImmediateData, o.InitialR2T = initiator.No, initiator.Yes }, func(x *raw) uint32 {
			c := x.writeCommand(scratchLBA, n, 0)
			c.Final = false
			x.send(c, nil)
			x.send(&pdu.DataOut{
				Final: true, LUN: s.lun(), InitiatorTaskTag: c.InitiatorTaskTag, TargetTransferTag: pdu.ReservedTag, DataLen: n,
			}, data)
			return c.InitiatorTaskTag
		}},
		{"neither R nor W with data", nil, func(x *raw) uint32 {
			c := x.command(make([]byte, 6), 0)
			c.DataLen = 512
			x.send(c, data[:512])
			return 0
		}},
	}
	for _, tt := range tests {
		s.sub(t, tt.name, func(t *testing.T) {
			if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
				t.Fatal(err)
			}
			x := s.login(t, tt.adjust)
			tag := tt.send(x)
			if o := x.outcome(); tag != 0 && o.good(tag) {
				t.Error("GOOD")
			}
			_ = x.c.Close()
			s.mustHoldEither(t, scratchLBA, old, data)
		})
	}
}

// testTaskManagement checks the functions' answers and what becomes of the
// tasks, §11.5, §11.6.
func (s *suite) testTaskManagement(t *testing.T) {
	const n = 4096
	request := func(x *raw, fn pdu.TMFunction, ref uint32) *pdu.TaskManagementRequest {
		x.tag++
		return &pdu.TaskManagementRequest{
			Immediate: true, Function: fn, LUN: s.lun(), InitiatorTaskTag: x.tag, ReferencedTaskTag: ref,
			CmdSN: x.cmdSN, RefCmdSN: x.cmdSN - 1, ExpStatSN: x.expStatSN,
		}
	}
	answer := func(t *testing.T, x *raw, m *pdu.TaskManagementRequest) pdu.TMResponse {
		t.Helper()
		x.send(m, nil)
		for {
			p := x.mustRead()
			var r pdu.TaskManagementResponse
			if r.Decode(&p.BHS) == nil && r.InitiatorTaskTag == m.InitiatorTaskTag {
				return r.Response
			}
			if p.BHS.Opcode() == pdu.OpReject {
				return pdu.FunctionRejected
			}
		}
	}
	want := func(t *testing.T, got pdu.TMResponse, allowed ...pdu.TMResponse) {
		t.Helper()
		for _, a := range allowed {
			if got == a {
				return
			}
		}
		t.Errorf("response %v, want one of %v", got, allowed)
	}
	s.sub(t, "unknown task", func(t *testing.T) {
		x := s.login(t, nil)
		m := request(x, pdu.AbortTask, 4711)
		m.RefCmdSN = x.cmdSN - 100 // outside the window
		want(t, answer(t, x, m), pdu.TaskDoesNotExist)
	})
	s.sub(t, "unknown LUN", func(t *testing.T) {
		x := s.login(t, nil)
		m := request(x, pdu.LogicalUnitReset, pdu.ReservedTag)
		m.LUN = pdu.LUNOf(0x3fff)
		want(t, answer(t, x, m), pdu.LUNDoesNotExist, pdu.FunctionRejected)
	})
	for _, fn := range []pdu.TMFunction{0, 13, 0x7f} {
		s.sub(t, fmt.Sprintf("unknown function %d", fn), func(t *testing.T) {
			x := s.login(t, nil)
			want(t, answer(t, x, request(x, fn, pdu.ReservedTag)), pdu.FunctionNotSupported, pdu.FunctionRejected)
			x.works(t)
		})
	}
	s.sub(t, "TASK REASSIGN", func(t *testing.T) {
		x := s.login(t, nil)
		got := answer(t, x, request(x, pdu.TaskReassign, 4711))
		want(t, got, pdu.TaskReassignmentNotSupported, pdu.FunctionNotSupported, pdu.TaskDoesNotExist, pdu.FunctionRejected)
	})
	for _, fn := range []pdu.TMFunction{pdu.AbortTask, pdu.AbortTaskSet, pdu.LogicalUnitReset} {
		s.sub(t, fn.String()+" of a waiting write", func(t *testing.T) {
			old := pattern("tmf", fn.String(), n)
			if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
				t.Fatal(err)
			}
			x := s.solicited(t)
			c, r := x.askedFor(scratchLBA, n)
			ref := c.InitiatorTaskTag
			if fn != pdu.AbortTask {
				ref = pdu.ReservedTag
			}
			want(t, answer(t, x, request(x, fn, ref)), pdu.FunctionComplete)
			// Its data, sent before the answer was seen, must go nowhere, and
			// no status must come for it.
			x.send(&pdu.DataOut{
				Final: true, LUN: c.LUN, InitiatorTaskTag: c.InitiatorTaskTag, TargetTransferTag: r.TargetTransferTag, DataLen: n,
			}, pattern("tmf", "late", n))
			for _, p := range x.outcome().pdus {
				if p.BHS.InitiatorTaskTag() == c.InitiatorTaskTag && p.BHS.Opcode() == pdu.OpSCSIResponse {
					t.Errorf("status %#x for an aborted task", status(p))
				}
			}
			s.clearUnitAttention(t)
			s.mustHold(t, scratchLBA, old)
		})
	}
}

// clearUnitAttention takes what a reset told the bystander.
func (s *suite) clearUnitAttention(t *testing.T) {
	t.Helper()
	for range 4 {
		r, err := s.bystander.Exec(s.ctx(t), s.lun(), make([]byte, 6), nil, 0)
		if err != nil {
			t.Fatal("bystander:", err)
		}
		if r.Status == 0 {
			return
		}
	}
}

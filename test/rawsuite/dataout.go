package rawsuite

import (
	"bytes"
	"testing"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// solicited logs in for writes that wait for R2T.
func (s *suite) solicited(t *testing.T) *raw {
	t.Helper()
	return s.login(t, func(o *initiator.Options) { o.InitialR2T, o.ImmediateData = initiator.Yes, initiator.No })
}

// askedFor starts a write of data and returns its command and first R2T.
func (x *raw) askedFor(n int) (*pdu.SCSICommand, pdu.R2T) {
	x.t.Helper()
	c := x.writeCommand(scratchLBA, n, 0)
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
	s.tcpOnly(t, "the target reads by RDMA and sends no R2T; Data-Out that nobody asked for is TestISERErrata/B31")
	const n = 4096
	old := pattern("dataout", "old", 2*n)
	data := pattern("dataout", "new", n)
	tests := []struct {
		name  string
		wrong func(d *pdu.DataOut)
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
			c, r := x.askedFor(n)
			d := x.dataOut(c, r, n)
			tt.wrong(&d)
			x.send(&d, data[:d.DataLen])
			if o := x.outcome(); o.good(c.InitiatorTaskTag) {
				t.Error("GOOD")
			}
			_ = x.c.Close()
			s.mustHoldEither(t, scratchLBA, old, append(bytes.Clone(data), old[n:]...))
		})
	}
	s.sub(t, "more than asked for", s.tooMuchDataOut)
	s.sub(t, "without a command", func(t *testing.T) {
		x := s.login(t, nil)
		x.send(&pdu.DataOut{Final: true, LUN: s.lun(), InitiatorTaskTag: 4711, TargetTransferTag: 1, DataLen: n}, data)
		x.outcome()
	})
	s.sub(t, "one block per PDU", func(t *testing.T) { s.pieces(t, blockSize) })
	s.sub(t, "odd pieces", func(t *testing.T) { s.pieces(t, 333) })
}

// tooMuchDataOut sends twice what an R2T asks for.
func (s *suite) tooMuchDataOut(t *testing.T) {
	const n = 4096
	old := pattern("dataout", "old", 2*n)
	if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
		t.Fatal(err)
	}
	x := s.solicited(t)
	c, r := x.askedFor(n)
	d := x.dataOut(c, r, 2*n)
	x.send(&d, pattern("dataout", "new", 2*n))
	if o := x.outcome(); o.good(c.InitiatorTaskTag) {
		t.Error("GOOD")
	}
	_ = x.c.Close()
	s.mustHold(t, scratchLBA+n/blockSize, old[n:])
}

// pieces answers an R2T rightly, in PDUs of size bytes.
func (s *suite) pieces(t *testing.T, size int) {
	const n = 4096
	data := pattern("dataout", "pieces", n)
	x := s.solicited(t)
	c, r := x.askedFor(n)
	for off, i := 0, uint32(0); off < n; i++ {
		l := min(n-off, size)
		d := x.dataOut(c, r, l)
		d.Final, d.DataSN, d.BufferOffset = off+l == n, i, uint32(off)
		x.send(&d, data[off:][:l])
		off += l
	}
	if o := x.outcome(); !o.good(c.InitiatorTaskTag) {
		t.Error("no GOOD")
	}
	s.mustHold(t, scratchLBA, data)
}

// dataOut returns the Data-Out that answers r with n bytes at once.
func (x *raw) dataOut(c *pdu.SCSICommand, r pdu.R2T, n int) pdu.DataOut {
	return pdu.DataOut{
		Final: true, LUN: c.LUN, InitiatorTaskTag: c.InitiatorTaskTag, TargetTransferTag: r.TargetTransferTag,
		ExpStatSN: x.expStatSN, DataLen: n,
	}
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
	s.tcpOnly(t, "our initiator's stream sends no command before it has all data; TestISERUnsolicited breaks these rules with messages")
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

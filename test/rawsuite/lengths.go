package rawsuite

import (
	"encoding/binary"
	"testing"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// testLengths sends headers whose lengths lie. The target must answer with
// Reject, with an error status, or close; its memory may grow with the bytes it
// receives and not with the bytes that are announced.
func (s *suite) testLengths(t *testing.T) {
	s.sub(t, "before login", func(t *testing.T) {
		s.tcpOnly(t, "a message has its length; TestISERAbuseHeaders sends those whose headers lie")
		s.longBeforeLogin(t)
	})
	s.sub(t, "data segment over MaxRecvDataSegmentLength", s.overMaxRecv)
	s.sub(t, "AHS of 1020 bytes of nothing", func(t *testing.T) {
		x := s.login(t, nil)
		c := x.command(make([]byte, 6), 0)
		h := encode(c)
		_ = x.c.WritePDU(&h, make([]byte, 255*4), nil)
		if o := x.outcome(); o.good(c.InitiatorTaskTag) {
			t.Error("an AHS of length 0 was taken")
		}
	})
	s.sub(t, "EDTL of 4 GiB", s.hugeWrite)
	for name, cdb := range map[string][]byte{
		"PERSISTENT RESERVE OUT": {0x5f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0},
		"UNMAP":                  {0x42, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0},
		"MODE SELECT(10)":        {0x55, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff, 0},
		"WRITE BUFFER":           {0x3b, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0},
		"WRITE(16)":              {0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
		"EXTENDED COPY":          {0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
	} {
		s.sub(t, "parameter list of "+name, func(t *testing.T) { s.hugeParameters(t, cdb) })
	}
	s.sub(t, "data segment on a read", func(t *testing.T) {
		x := s.login(t, nil)
		c := x.command(cdb10(opRead10, scratchLBA, 1), blockSize)
		c.DataLen = 512
		x.send(c, make([]byte, 512))
		x.outcome() // anything goes; the connection must stay in step or end
	})
	s.sub(t, "header cut short", func(t *testing.T) {
		s.tcpOnly(t, "TestISERAbuseLengths sends messages of every length, softiwarp's TestTruncatedFPDU cuts segments at each byte")
		for n := 1; n < pdu.BHSLen; n += 5 {
			x := s.login(t, nil)
			h := encode(x.command(make([]byte, 6), 0))
			_ = x.c.Write(h[:n])
			_ = x.c.Close()
		}
	})
}

func encode(m message) (h pdu.BHS) {
	m.Encode(&h)
	return h
}

// longBeforeLogin announces 16 MiB in the first header.
func (s *suite) longBeforeLogin(t *testing.T) {
	before := s.memory()
	req, data := s.firstLogin()
	var conns []*initiator.Conn
	for range 16 {
		c := s.connect(t)
		f := c.Frame(new(encode(&req)), nil, data)
		f.BHS.SetDataSegmentLength(1<<24 - 1)
		_ = c.WriteFrame(f)
		conns = append(conns, c)
	}
	s.alive(t)
	s.grownBy(t, before, 4<<20)
	for _, c := range conns {
		_ = c.Close()
	}
}

// overMaxRecv sends one byte more than the target declared to take, §13.12.
func (s *suite) overMaxRecv(t *testing.T) {
	x := s.login(t, nil)
	n := x.ping()
	data := make([]byte, x.r.Params.MaxRecvDataSegmentLength+1)
	n.DataLen = len(data)
	x.send(n, data)
	for {
		p, closed := x.read()
		if closed || p.BHS.Opcode() == pdu.OpReject {
			return
		}
		if p.BHS.Opcode() == pdu.OpNOPIn {
			t.Fatal("the PDU was taken")
		}
	}
}

// hugeWrite announces a write of 4 GiB to a disk that is smaller.
func (s *suite) hugeWrite(t *testing.T) {
	x := s.login(t, nil)
	before := s.memory()
	for range 8 {
		c := x.command(cdb10(opWrite10, scratchLBA, 1), 0)
		c.Write, c.ExpectedDataTransferLength = true, 0xffffffff
		x.send(c, nil)
	}
	o := x.outcome()
	s.grownBy(t, before, 8<<20)
	for _, p := range o.pdus {
		if p.BHS.Opcode() != pdu.OpR2T {
			continue
		}
		var r pdu.R2T
		if err := r.Decode(&p.BHS); err != nil || int(r.DesiredDataTransferLength) > x.r.Params.MaxBurstLength {
			t.Errorf("R2T for %d bytes, MaxBurstLength is %d (%v)", r.DesiredDataTransferLength, x.r.Params.MaxBurstLength, err)
		}
	}
}

// hugeParameters announces a parameter list that fills its field and sends 24
// bytes of it.
func (s *suite) hugeParameters(t *testing.T, cdb []byte) {
	x := s.login(t, nil)
	before := s.memory()
	c := x.command(cdb, 0)
	c.Write, c.ExpectedDataTransferLength, c.DataLen = true, 0xffffffff, 24
	x.send(c, make([]byte, 24))
	if o := x.outcome(); o.good(c.InitiatorTaskTag) {
		t.Error("GOOD")
	}
	s.grownBy(t, before, 1<<20)

	// The same with an EDTL that is too small for the list.
	y := s.login(t, nil)
	c = y.command(cdb, 0)
	c.Write, c.ExpectedDataTransferLength, c.DataLen = true, 8, 8
	y.send(c, make([]byte, 8))
	o := y.outcome()
	if p := o.find(pdu.OpSCSIResponse); o.good(c.InitiatorTaskTag) && p.BHS[1]&overflowBit == 0 {
		t.Error("GOOD with 8 bytes of parameters and no overflow")
	}
}

const overflowBit = 0x04 // O bit of a SCSI Response, §11.4.1

// testDigests corrupts digests of both kinds. §7.7: a header digest error ends
// the connection at ErrorRecoveryLevel 0; a data digest error is answered with
// Reject or with the end of the connection, and the data is not stored.
func (s *suite) testDigests(t *testing.T) {
	s.tcpOnly(t, "iSER has no digests, RFC 7145 §6.1; softiwarp's TestWrongCRC is about iWARP's")
	both := func(o *initiator.Options) { o.HeaderDigest, o.DataDigest = "CRC32C", "CRC32C" }
	probe := s.session(t, func(o *initiator.Options) { o.HeaderDigest, o.DataDigest = "CRC32C,None", "CRC32C,None" })
	if p := probe.Params(); !p.HeaderDigest || !p.DataDigest {
		t.Skip("target does not do digests")
	}
	old := pattern("digest", "old", 4096)
	if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
		t.Fatal(err)
	}
	s.sub(t, "header", func(t *testing.T) {
		x := s.login(t, both)
		f := x.c.Frame(new(encode(x.ping())), nil, nil)
		f.HeaderDigest[2] ^= 0x40
		_ = x.c.WriteFrame(f)
		if p, closed := x.read(); !closed {
			t.Errorf("answered with %v", p.BHS.Opcode())
		}
	})
	for name, spoil := range map[string]func(f *initiator.Frame){
		"immediate data": func(f *initiator.Frame) { f.DataDigest[0] ^= 1 },
		"one data bit":   func(f *initiator.Frame) { f.Data[1000] ^= 1 },
	} {
		s.sub(t, name, func(t *testing.T) {
			x := s.login(t, both)
			data := pattern("digest", "new", 4096)
			c := x.writeCommand(scratchLBA, len(data), len(data))
			f := x.c.Frame(new(encode(c)), nil, data)
			spoil(f)
			_ = x.c.WriteFrame(f)
			o := x.outcome()
			if !o.refused() || o.good(c.InitiatorTaskTag) {
				t.Errorf("refused %v, good %v", o.refused(), o.good(c.InitiatorTaskTag))
			}
			s.mustHold(t, scratchLBA, old)
		})
	}
	s.sub(t, "good digests", func(t *testing.T) {
		x := s.session(t, both)
		for _, n := range []int{512, 4096, 256 << 10} {
			if err := s.writeRead(t, x, scratchLBA, pattern("digest", "good", n)); err != nil {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	})
}

// testResiduals checks the residual counts of transfers that are shorter or
// longer than the command's, §11.4.5.
func (s *suite) testResiduals(t *testing.T) {
	if err := s.write(t, s.bystander, scratchLBA, pattern("residual", "", 4096)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name                string
		blocks, length      int
		overflow, underflow bool
		residual            uint32
	}{
		{"exact", 2, 1024, false, false, 0},
		{"underflow", 2, 4096, false, true, 3072},
		{"overflow", 2, 512, true, false, 512},
		{"overflow in the middle of a block", 2, 700, true, false, 324},
		{"no blocks", 0, 512, false, true, 512},
	}
	for _, tt := range tests {
		s.sub(t, tt.name, func(t *testing.T) {
			x := s.session(t, nil)
			r, err := x.Exec(s.ctx(t), s.lun(), cdb10(opRead10, scratchLBA, tt.blocks), nil, tt.length)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != 0 { // SPC allows an error for overflow; then nothing else counts
				if tt.overflow {
					return
				}
				t.Fatal(r.Err())
			}
			if r.Overflow != tt.overflow || r.Underflow != tt.underflow || r.Residual != tt.residual {
				t.Errorf("overflow %v, underflow %v, residual %d; want %v, %v, %d",
					r.Overflow, r.Underflow, r.Residual, tt.overflow, tt.underflow, tt.residual)
			}
			if want := min(tt.length, tt.blocks*blockSize); len(r.Data) != want {
				t.Errorf("%d bytes of data, want %d", len(r.Data), want)
			}
		})
	}
	s.sub(t, "INQUIRY", func(t *testing.T) {
		x := s.session(t, nil)
		for n := range 260 {
			cdb := []byte{0x12, 0, 0, 0, 0, 0}
			binary.BigEndian.PutUint16(cdb[3:], uint16(n))
			r, err := x.Exec(s.ctx(t), s.lun(), cdb, nil, 300)
			if err == nil {
				err = r.Err()
			}
			if err != nil {
				t.Fatalf("allocation length %d: %v", n, err)
			}
			if len(r.Data) > n || !r.Underflow || int(r.Residual) != 300-len(r.Data) {
				t.Errorf("allocation length %d: %d bytes, underflow %v, residual %d", n, len(r.Data), r.Underflow, r.Residual)
			}
		}
	})
}

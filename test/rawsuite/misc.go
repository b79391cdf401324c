package rawsuite

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
	"github.com/iserd/iserd/test/chopproxy"
)

// testNOP sends pings of all kinds, §11.18.
func (s *suite) testNOP(t *testing.T) {
	s.sub(t, "echo", func(t *testing.T) {
		x := s.session(t, nil)
		largest := min(x.Params().MaxRecvDataSegmentLength, x.Params().InitiatorMaxRecvDataSegmentLength)
		for _, n := range []int{0, 1, 2, 3, 4, 5, 4095, largest - 1, largest} {
			data := pattern("nop", "", n)
			got, err := x.NOP(s.ctx(t), data)
			if s.Over.ISER { // no initiator there has receives for more, whatever it says
				data = data[:min(n, 128)]
			}
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
			}
		}
	})
	s.sub(t, "longer than we take", func(t *testing.T) {
		x := s.session(t, func(o *initiator.Options) { o.MaxRecvDataSegmentLength = 512 })
		data := pattern("nop", "long", 2048)
		got, err := x.NOP(s.ctx(t), data)
		// §11.19.3: "up to the MaxRecvDataSegmentLength of the initiator"; an
		// answer over that would have been an error of the session.
		if err != nil || len(got) > 512 || !bytes.HasPrefix(data, got) {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
	})
	s.sub(t, "no answer wanted", func(t *testing.T) {
		x := s.login(t, nil)
		n := x.ping()
		n.InitiatorTaskTag = pdu.ReservedTag
		x.send(n, nil)
		if o := x.outcome(); o.closed || len(o.pdus) > 0 {
			t.Errorf("closed %v, %d answers", o.closed, len(o.pdus))
		}
	})
	s.sub(t, "answer to a ping that was not", func(t *testing.T) {
		x := s.login(t, nil)
		n := x.ping()
		n.InitiatorTaskTag, n.TargetTransferTag = pdu.ReservedTag, 4711
		x.send(n, nil)
		x.outcome()
	})
	s.sub(t, "counts as a command", func(t *testing.T) {
		x := s.login(t, nil)
		n := x.ping()
		n.Immediate = false
		x.cmdSN++
		x.send(n, nil)
		if p := x.mustRead(); p.BHS.Opcode() != pdu.OpNOPIn || p.BHS.ExpCmdSN() != x.cmdSN {
			t.Errorf("%v with ExpCmdSN %d, want %d", p.BHS.Opcode(), p.BHS.ExpCmdSN(), x.cmdSN)
		}
		x.works(t)
	})
	s.sub(t, "1000 at once", s.manyPings)
}

// manyPings sends immediate pings faster than anybody reads the answers.
func (s *suite) manyPings(t *testing.T) {
	const n = 1000
	x := s.login(t, nil)
	var all []byte
	for range n {
		h := encode(x.ping())
		all = x.c.AppendPDU(all, &h, nil, nil)
	}
	_ = x.c.Write(all)
	if o := x.outcome(); !o.closed && len(o.pdus) != n {
		t.Errorf("%d answers to %d pings", len(o.pdus), n)
	}
}

// testText sends Text Requests, §11.10.
func (s *suite) testText(t *testing.T) {
	s.sub(t, "SendTargets", func(t *testing.T) {
		x := s.session(t, nil)
		got, err := x.SendTargets(s.ctx(t), "")
		if err != nil || len(got) != 1 || got[0].Name != s.TargetName {
			t.Errorf("%+v, %v", got, err)
		}
	})
	s.sub(t, "discovery", func(t *testing.T) {
		for _, size := range []int{512, 8192} {
			x := s.session(t, func(o *initiator.Options) {
				o.SessionType, o.TargetName, o.MaxRecvDataSegmentLength = initiator.DiscoverySession, "", size
			})
			got, err := x.SendTargets(s.ctx(t), "All")
			found := false
			for _, target := range got {
				found = found || target.Name == s.TargetName && len(target.Addresses) > 0
			}
			if err != nil || !found {
				t.Errorf("segments of %d bytes: %+v, %v", size, got, err)
			}
		}
	})
	s.sub(t, "unknown key", func(t *testing.T) {
		x := s.session(t, nil)
		got, err := x.Text(s.ctx(t), []text.Pair{{Key: "X-com.example.unknown", Value: "1"}})
		if err != nil || len(got) != 1 || got[0].Value != text.NotUnderstood {
			t.Errorf("%+v, %v", got, err)
		}
	})
	tests := []struct {
		name string
		req  pdu.TextRequest
		data string
	}{
		{"no equals sign", pdu.TextRequest{Final: true, TargetTransferTag: pdu.ReservedTag}, "nonsense\x00"},
		{"no NUL", pdu.TextRequest{Final: true, TargetTransferTag: pdu.ReservedTag}, "SendTargets=All"},
		{"F and C", pdu.TextRequest{Final: true, Continue: true, TargetTransferTag: pdu.ReservedTag}, "SendTargets=\x00"},
		{"unknown TargetTransferTag", pdu.TextRequest{Final: true, TargetTransferTag: 4711}, ""},
		{"login key", pdu.TextRequest{Final: true, TargetTransferTag: pdu.ReservedTag}, "HeaderDigest=CRC32C\x00"},
		{"never ends", pdu.TextRequest{Continue: true, TargetTransferTag: pdu.ReservedTag}, "X-com.example.a=\x00"},
	}
	for _, tt := range tests {
		s.sub(t, tt.name, func(t *testing.T) {
			x := s.login(t, nil)
			x.tag++
			tt.req.Immediate, tt.req.InitiatorTaskTag, tt.req.DataLen = true, x.tag, len(tt.data)
			tt.req.CmdSN, tt.req.ExpStatSN = x.cmdSN, x.expStatSN
			x.send(&tt.req, []byte(tt.data))
			x.outcome() // an answer, a Reject or the end: but one of them, and no state that spoils what follows
		})
	}
}

// testCuts breaks connections at random places of a burst of writes. Whatever
// was acknowledged must be there, whole; whatever was not must be there whole
// or not at all.
func (s *suite) testCuts(t *testing.T) {
	const writes, size = 16, 8192
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	rng := rand.New(rand.NewPCG(2, 3))
	for round := range rounds {
		how := []error{chopproxy.ErrReset, chopproxy.ErrClose}[round%2]
		at := 500 + rng.Int64N(writes*(size+200))
		p, err := chopproxy.New(chopproxy.Config{Target: s.Addr, Mangle: chopproxy.CutAt(0, chopproxy.FromClient, at, how)})
		if err != nil {
			t.Fatal(err)
		}
		old, fresh := pattern("cut", "old", size), pattern("cut", "fresh", size)
		for i := range writes {
			if err := s.write(t, s.bystander, cutLBA+i*size/blockSize, old); err != nil {
				t.Fatal(err)
			}
		}
		acked := s.cutWrites(t, p.Addr(), writes, fresh)
		_ = p.Close()
		for i := range writes {
			lba := cutLBA + i*size/blockSize
			if acked[i] {
				s.mustHold(t, lba, fresh)
			} else {
				s.mustHoldEither(t, lba, old, fresh)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d: cut by %v after byte %d", round, how, at)
		}
	}
}

// cutWrites starts writes through a proxy that will cut them and tells which
// ones were acknowledged.
func (s *suite) cutWrites(t *testing.T, addr string, n int, data []byte) []bool {
	t.Helper()
	acked := make([]bool, n)
	c, err := s.Over.dial(s.ctx(t), addr)
	if err != nil && s.Over.ISER {
		return acked // cut within the MPA exchange
	}
	if err != nil {
		t.Fatal(err)
	}
	// Half of every write goes as unsolicited data and half by R2T.
	x, err := initiator.Login(s.ctx(t), c, s.options(func(o *initiator.Options) { o.FirstBurstLength = len(data) / 2 }))
	if err != nil {
		return acked // cut within the login
	}
	defer x.Close()
	var tasks []*initiator.Task
	for range 2 { // unit attention
		if _, err := x.Exec(s.ctx(t), s.lun(), make([]byte, 6), nil, 0); err != nil {
			return acked
		}
	}
	for i := range n {
		task, err := x.Start(s.ctx(t), initiator.Command{
			LUN: s.lun(), Attr: pdu.AttrSimple, DataOut: data,
			CDB: cdb10(opWrite10, cutLBA+i*len(data)/blockSize, len(data)/blockSize),
		})
		if err != nil {
			break
		}
		tasks = append(tasks, task)
	}
	for i, task := range tasks {
		r, err := task.Wait(s.ctx(t))
		acked[i] = err == nil && r.Status == 0
	}
	return acked
}

// testFlips flips single bits on the way to the target in sessions with both
// digests: nothing wrong may be stored or returned as good.
func (s *suite) testFlips(t *testing.T) {
	if !s.Over.CRC {
		probe := s.session(t, func(o *initiator.Options) { o.HeaderDigest, o.DataDigest = "CRC32C,None", "CRC32C,None" })
		if p := probe.Params(); !p.HeaderDigest || !p.DataDigest {
			t.Skip("target does not do digests")
		}
	}
	const size = 4096
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	rng := rand.New(rand.NewPCG(4, 5))
	for round := range rounds {
		d := chopproxy.Direction(round % 2)
		// The login has no digests; a session's traffic is about 5000 bytes
		// each way, behind at most 1000 bytes of login.
		at, bit := 1000+rng.Int64N(3800), uint(rng.IntN(8))
		p, err := chopproxy.New(chopproxy.Config{Target: s.Addr, Mangle: chopproxy.FlipAt(0, d, at, bit)})
		if err != nil {
			t.Fatal(err)
		}
		old, fresh := pattern("flip", "old", size), pattern("flip", "fresh", size)
		if err := s.write(t, s.bystander, scratchLBA, old); err != nil {
			t.Fatal(err)
		}
		s.flipped(t, p.Addr(), fresh)
		_ = p.Close()
		s.mustHoldEither(t, scratchLBA, old, fresh)
		if t.Failed() {
			t.Fatalf("round %d: byte %d, bit %d %v", round, at, bit, d)
		}
	}
}

// flipped writes and reads through a proxy that flips a bit somewhere.
func (s *suite) flipped(t *testing.T, addr string, data []byte) {
	t.Helper()
	c, err := s.Over.dial(s.ctx(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	x, err := initiator.Login(s.ctx(t), c, s.options(func(o *initiator.Options) {
		if !s.Over.CRC {
			o.HeaderDigest, o.DataDigest = "CRC32C", "CRC32C"
		}
	}))
	if err != nil {
		return
	}
	defer x.Close()
	for range 2 {
		if _, err := x.Exec(s.ctx(t), s.lun(), make([]byte, 6), nil, 0); err != nil {
			return
		}
	}
	if err := s.write(t, x, scratchLBA, data); err != nil {
		if _, ok := errors.AsType[*initiator.StatusError](err); ok {
			t.Logf("write: %v", err)
		}
		return
	}
	got, err := s.read(t, x, scratchLBA, len(data))
	if err == nil && !bytes.Equal(got, data) {
		t.Error("wrong data was returned as good")
	}
}

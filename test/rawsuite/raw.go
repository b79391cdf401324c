package rawsuite

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// raw is a logged-in connection on which a test writes what it likes.
type raw struct {
	t *testing.T
	s *suite
	c *initiator.Conn
	r *initiator.LoginResult

	cmdSN, expStatSN, tag uint32
}

// connect returns a connection that has not logged in.
func (s *suite) connect(t *testing.T) *initiator.Conn {
	t.Helper()
	c, err := s.Over.dial(s.ctx(t), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// login returns a raw connection in the full feature phase, unit attentions
// taken.
func (s *suite) login(t *testing.T, adjust func(*initiator.Options)) *raw {
	t.Helper()
	o := s.options(adjust)
	c := s.connect(t)
	r, err := initiator.Negotiate(s.ctx(t), c, o)
	if err != nil {
		t.Fatal("login:", err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	x := &raw{t: t, s: s, c: c, r: r, cmdSN: r.CmdSN, expStatSN: r.ExpStatSN, tag: 100}
	if o.SessionType == initiator.DiscoverySession {
		return x
	}
	for range 4 {
		x.send(x.command(make([]byte, 6), 0), nil)
		if p := x.mustRead(); p.BHS.Opcode() == pdu.OpSCSIResponse && status(p) == 0 {
			return x
		}
	}
	t.Fatal("unit does not get ready")
	return nil
}

// message is a PDU header of this side.
type message interface{ Encode(h *pdu.BHS) }

// send writes a PDU with right lengths and digests; an error is not the test's
// business: the target may have closed the connection already.
func (x *raw) send(m message, data []byte) {
	var h pdu.BHS
	m.Encode(&h)
	_ = x.c.WritePDU(&h, nil, data)
}

// command returns a SCSI command without data to send, with the next CmdSN and
// tag; length is the expected data transfer length of a read.
func (x *raw) command(cdb []byte, length uint32) *pdu.SCSICommand {
	x.tag++
	c := &pdu.SCSICommand{
		Final: true, Read: length > 0, Attr: pdu.AttrSimple, LUN: x.s.lun(), InitiatorTaskTag: x.tag,
		ExpectedDataTransferLength: length, CmdSN: x.cmdSN, ExpStatSN: x.expStatSN,
	}
	x.cmdSN++
	copy(c.CDB[:], cdb)
	return c
}

// writeCommand returns a WRITE(10) of n bytes with immediate of them as
// immediate data.
func (x *raw) writeCommand(lba, n, immediate int) *pdu.SCSICommand {
	c := x.command(cdb10(opWrite10, lba, n/blockSize), 0)
	c.Write, c.ExpectedDataTransferLength, c.DataLen = true, uint32(n), immediate
	return c
}

// ping returns an immediate NOP-Out that wants an answer, tag included.
func (x *raw) ping() *pdu.NOPOut {
	x.tag++
	return &pdu.NOPOut{
		Immediate: true, InitiatorTaskTag: x.tag, TargetTransferTag: pdu.ReservedTag,
		CmdSN: x.cmdSN, ExpStatSN: x.expStatSN,
	}
}

// read returns the next PDU that is not a ping of the target. closed tells that
// the target has ended the connection, by FIN or RST.
func (x *raw) read() (p *initiator.PDU, closed bool) {
	x.t.Helper()
	for {
		p, err := x.c.ReadPDU()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				x.t.Fatalf("no answer within %v", patience)
			}
			return nil, true
		}
		if p.BHS.Opcode() == pdu.OpNOPIn && p.BHS.InitiatorTaskTag() == pdu.ReservedTag {
			continue
		}
		if hasStatus(p) {
			x.expStatSN = p.BHS.StatSN() + 1
		}
		return p, false
	}
}

// mustRead is read on a connection that has to stay.
func (x *raw) mustRead() *initiator.PDU {
	x.t.Helper()
	p, closed := x.read()
	if closed {
		x.t.Fatal("target closed the connection")
	}
	return p
}

func hasStatus(p *initiator.PDU) bool {
	switch p.BHS.Opcode() {
	case pdu.OpR2T:
		return false
	case pdu.OpDataIn:
		return p.BHS[1]&1 != 0
	default:
		return true
	}
}

// status returns the SCSI status of a SCSI Response or a Data-In with status.
func status(p *initiator.PDU) uint8 { return p.BHS[3] }

// outcome is what followed on something wrong.
type outcome struct {
	pdus   []*initiator.PDU // before the answer to our ping or the end
	closed bool
}

// outcome sends a ping and collects what comes before its answer.
func (x *raw) outcome() outcome {
	x.t.Helper()
	n := x.ping()
	x.send(n, nil)
	var o outcome
	for {
		p, closed := x.read()
		if closed {
			o.closed = true
			return o
		}
		if p.BHS.Opcode() == pdu.OpNOPIn && p.BHS.InitiatorTaskTag() == n.InitiatorTaskTag {
			return o
		}
		o.pdus = append(o.pdus, p)
	}
}

// has tells whether a PDU with opcode op came.
func (o *outcome) has(op pdu.Opcode) bool { return o.find(op) != nil }

func (o *outcome) find(op pdu.Opcode) *initiator.PDU {
	for _, p := range o.pdus {
		if p.BHS.Opcode() == op {
			return p
		}
	}
	return nil
}

// good tells whether the command with tag got status GOOD.
func (o *outcome) good(tag uint32) bool {
	for _, p := range o.pdus {
		op := p.BHS.Opcode()
		if p.BHS.InitiatorTaskTag() == tag && (op == pdu.OpSCSIResponse || op == pdu.OpDataIn && hasStatus(p)) {
			return status(p) == 0 && p.BHS[2] == 0
		}
	}
	return false
}

// refused tells whether the wrong PDU was rejected or the connection closed.
func (o *outcome) refused() bool { return o.closed || o.has(pdu.OpReject) }

// ended reads until the target closes the connection and returns what came. Over
// iSER a refusal is enough: the target waits for the initiator to disconnect.
func (s *suite) ended(t *testing.T, c *initiator.Conn) []*initiator.PDU {
	t.Helper()
	var all []*initiator.PDU
	for {
		p, err := c.ReadPDU()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("target keeps the connection open, after %d PDUs", len(all))
		}
		if err != nil {
			if errors.Is(err, initiator.ErrHeaderDigest) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			return all
		}
		all = append(all, p)
		if s.Over.ISER && p.BHS.Opcode() == pdu.OpLoginResponse {
			return all
		}
	}
}

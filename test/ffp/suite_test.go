package ffp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
	"github.com/iserd/iserd/test/chopproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	open      = "iqn.2026-11.com.example:open"   // AuthMethod None
	secured   = "iqn.2026-11.com.example:chap"   // CHAP
	mutual    = "iqn.2026-11.com.example:mutual" // CHAP in both directions
	me        = "iqn.2026-11.com.example:tester"
	user      = "tester"
	secret    = "a secret of 24 bytes len"
	theirUser = "target"
	theirs    = "another secret, 24 bytes"
	blk       = 512
	patience  = 10 * time.Second
)

// test is one number of a plan.
type test struct {
	number, title string
	run           func(x *run)
}

// server starts a server with both targets.
func server(t *testing.T, limits iserd.Limits) (*iserd.Server, string) {
	t.Helper()
	srv := targets(t, limits)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddPortal(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return srv, l.Addr().String()
}

// targets is a server without a portal.
func targets(t *testing.T, limits iserd.Limits) *iserd.Server {
	t.Helper()
	srv, err := iserd.NewServer(iserd.WithLimits(limits))
	if err != nil {
		t.Fatal(err)
	}
	for name, access := range map[string][]iserd.TargetOption{
		open:    {iserd.AnyInitiator()},
		secured: {iserd.Access(iserd.CHAP(map[string][]byte{user: []byte(secret)}))},
		mutual: {
			iserd.Access(iserd.CHAP(map[string][]byte{user: []byte(secret)}), iserd.MutualCHAP(theirUser, []byte(theirs))),
		},
	} {
		b, err := memory.New(memory.Options{Size: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := srv.AddTarget(t.Context(), name, append(access, iserd.LUN(0, b))...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx) // a test may have done so
		if n := srv.BuffersInUse(); n != 0 {
			t.Errorf("%d bytes of buffers in use", n)
		}
	})
	return srv
}

// runPlan runs all numbers of a plan, directly and chopped, and over iSER those that
// are not about TCP alone.
func runPlan(t *testing.T, plan []test) {
	t.Helper()
	srv, addr := server(t, iserd.Limits{})
	all := func(t *testing.T, addr string) {
		for _, tt := range plan {
			t.Run(tt.number+" "+tt.title, func(t *testing.T) { tt.run(&run{T: t, srv: srv, addr: addr}) })
		}
	}
	t.Run("direct", func(t *testing.T) { all(t, addr) })
	t.Run("chopped", func(t *testing.T) {
		p, err := chopproxy.New(chopproxy.Config{Target: addr, MaxSegment: 47, Seed: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		all(t, p.Addr())
	})
	t.Run("iSER", func(t *testing.T) { runISER(t, plan) })
}

// run is the world of one test.
type run struct {
	*testing.T
	srv  *iserd.Server
	addr string
	iser verbs.Provider // nil: over TCP
}

// conn is a connection on which a test writes what it likes.
type conn struct {
	*run
	c                     *initiator.Conn
	cmdSN, expStatSN, tag uint32
	isid                  pdu.ISID
	stage                 pdu.Stage
	target                string
	window                uint32 // MaxCmdSN
	tsih                  uint16
	extended              bool // the keys of RFC 7145 were offered
}

func (x *run) dial() *conn {
	x.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := x.connect(ctx)
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	c.SetMaxRecv(1 << 20)
	return &conn{run: x, c: c, cmdSN: 1, tag: 1, isid: initiator.RandomISID(), target: open}
}

type message interface{ Encode(h *pdu.BHS) }

func (c *conn) send(m message, data []byte) {
	var h pdu.BHS
	m.Encode(&h)
	_ = c.c.WritePDU(&h, nil, data)
}

// read returns the next PDU, nil when the target has closed the connection.
func (c *conn) read() *initiator.PDU {
	c.Helper()
	p, err := c.c.ReadPDU()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.Fatalf("no answer within %v", patience)
	}
	if err != nil {
		return nil
	}
	return p
}

// expect returns the next PDU, which must have the opcode.
func (c *conn) expect(op pdu.Opcode) *initiator.PDU {
	c.Helper()
	p := c.read()
	if p == nil || p.BHS.Opcode() != op {
		c.Fatalf("got %s, want %v", describe(p), op)
	}
	return p
}

func describe(p *initiator.PDU) string {
	if p == nil {
		return "the end of the connection"
	}
	return p.BHS.String()
}

func (c *conn) closed() {
	c.Helper()
	if p := c.read(); p != nil {
		c.Fatalf("got %s, want the end of the connection", describe(p))
	}
}

// answer is a Login Response.
type answer struct {
	pdu.LoginResponse
	pairs []text.Pair
	end   bool // the connection was closed instead
}

func (a *answer) get(key string) (string, bool) {
	for _, p := range a.pairs {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// names are the keys of a first Login Request.
func (c *conn) names() []string { return []string{"InitiatorName=" + me, "TargetName=" + c.target} }

// request sends a Login Request of the current stage; next is NSG, 0 for T=0
// where SecurityNegotiation is not meant.
func (c *conn) request(transit bool, next pdu.Stage, keys ...string) *answer {
	c.Helper()
	return c.requestWith(pdu.LoginRequest{Transit: transit, CSG: c.stage, NSG: next}, keys...)
}

func (c *conn) requestWith(r pdu.LoginRequest, keys ...string) *answer {
	c.Helper()
	if x := c.run; x.iser != nil && !c.extended && r.CSG == pdu.LoginOperational && r.Transit {
		for _, p := range rdma.Keys() {
			keys = append(keys, p.Key+"="+p.Value)
		}
		c.extended = true
	}
	r.ISID, r.InitiatorTaskTag, r.CmdSN, r.ExpStatSN = c.isid, c.tag, c.cmdSN, c.expStatSN
	if r.TSIH == 0 {
		r.TSIH = c.tsih
	}
	var data []byte
	for _, kv := range keys {
		data = append(append(data, kv...), 0)
	}
	r.DataLen = len(data)
	c.send(&r, data)
	p := c.read()
	if p == nil {
		return &answer{end: true}
	}
	a := &answer{}
	if err := a.Decode(&p.BHS); err != nil {
		c.Fatalf("%s: %v", describe(p), err)
	}
	pairs, err := text.Parse(p.Data)
	if err != nil {
		c.Fatal(err)
	}
	a.pairs = pairs
	if a.Status == pdu.LoginSuccess {
		c.expStatSN = a.StatSN + 1
		c.window = a.MaxCmdSN
		if a.Transit {
			c.stage = a.NSG
		}
	}
	return a
}

// refused checks that a login was refused: by a status of the initiator error
// class, or by the end of the connection.
func (c *conn) refused(a *answer) {
	c.Helper()
	if a.end {
		return
	}
	if a.Status.Class() != pdu.ClassInitiatorError {
		c.Fatalf("%+v; want a refusal", a)
	}
	if c.iser == nil { // over iSER it is for the initiator to disconnect
		c.closed()
	}
}

// operational brings a login into the operational stage.
func (x *run) operational() *conn {
	x.Helper()
	c := x.dial()
	a := c.request(true, pdu.LoginOperational, append(c.names(), "AuthMethod=None")...)
	if a.end || a.Status != 0 || !a.Transit || a.NSG != pdu.LoginOperational {
		x.Fatalf("%+v", a)
	}
	return c
}

// login logs in with these keys, and returns the target's answers too.
func (x *run) login(keys ...string) (*conn, *answer) {
	x.Helper()
	c := x.operational()
	a := c.request(true, pdu.FullFeaturePhase, keys...)
	for i := 0; !a.end && a.Status == 0 && !a.Transit && i < 5; i++ {
		a = c.request(true, pdu.FullFeaturePhase)
	}
	if a.end || a.Status != 0 || c.stage != pdu.FullFeaturePhase {
		x.Fatalf("login with %q: %+v", keys, a)
	}
	header, _ := a.get("HeaderDigest")
	data, _ := a.get("DataDigest")
	c.c.SetDigests(header == "CRC32C", data == "CRC32C")
	c.tsih = a.TSIH
	c.tag = 10
	return c, a
}

// ready logs in and takes the unit attentions.
func (x *run) ready(keys ...string) *conn {
	x.Helper()
	c, _ := x.login(keys...)
	for range 5 {
		c.command(pdu.SCSICommand{Final: true}, make([]byte, 6), nil)
		p := c.expect(pdu.OpSCSIResponse)
		c.expStatSN = p.BHS.StatSN() + 1
		if p.BHS[3] == 0 {
			return c
		}
	}
	x.Fatal("unit does not get ready")
	return nil
}

// negotiated logs in with one offer and returns the answer to it, "" for none.
func (x *run) negotiated(offer string) string {
	x.Helper()
	key, _, _ := strings.Cut(offer, "=")
	_, a := x.login(offer)
	v, _ := a.get(key)
	return v
}

// answersOneOf offers and wants one of the answers.
func (x *run) answersOneOf(offer string, want ...string) {
	x.Helper()
	if got := x.negotiated(offer); !slices.Contains(want, got) {
		x.Errorf("%s is answered %q, want one of %q", offer, got, want)
	}
}

// rejectsValue offers something that is not allowed: the answer is "Reject", or
// the login fails.
func (x *run) rejectsValue(offer string) {
	x.Helper()
	c := x.operational()
	a := c.request(true, pdu.FullFeaturePhase, offer)
	key, value, _ := strings.Cut(offer, "=")
	if a.end || a.Status != 0 {
		c.refused(a)
		return
	}
	if got, ok := a.get(key); !ok || got == value {
		x.Errorf("%s is answered %q (%v)", offer, got, ok)
	}
}

// command sends a SCSI Command with the next CmdSN and tag.
func (c *conn) command(p pdu.SCSICommand, cdb, data []byte) uint32 {
	c.tag++
	p.InitiatorTaskTag, p.ExpStatSN, p.Attr, p.DataLen = c.tag, c.expStatSN, pdu.AttrSimple, len(data)
	if p.CmdSN == 0 {
		p.CmdSN = c.cmdSN
		if !p.Immediate {
			c.cmdSN++
		}
	}
	copy(p.CDB[:], cdb)
	c.send(&p, data)
	return c.tag
}

// answered reads the SCSI Response to tag.
func (c *conn) answered(tag uint32) pdu.SCSIResponse {
	c.Helper()
	p := c.expect(pdu.OpSCSIResponse)
	var r pdu.SCSIResponse
	if err := r.Decode(&p.BHS); err != nil || r.InitiatorTaskTag != tag {
		c.Fatalf("%+v, %v; want the answer to tag %d", r, err, tag)
	}
	c.expStatSN = r.StatSN + 1
	return r
}

func (c *conn) good(tag uint32) pdu.SCSIResponse {
	c.Helper()
	r := c.answered(tag)
	if r.Status != 0 {
		c.Fatalf("status %#x", r.Status)
	}
	return r
}

func (c *conn) tur() uint32 { return c.command(pdu.SCSICommand{Final: true}, make([]byte, 6), nil) }

// ping sends an immediate NOP-Out and checks that its answer comes next: that
// nothing else was answered.
func (c *conn) ping() pdu.NOPIn {
	c.Helper()
	c.tag++
	c.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: c.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: c.cmdSN, ExpStatSN: c.expStatSN}, nil)
	p := c.expect(pdu.OpNOPIn)
	var n pdu.NOPIn
	if err := n.Decode(&p.BHS); err != nil || n.InitiatorTaskTag != c.tag {
		c.Fatalf("%+v, %v", n, err)
	}
	c.expStatSN = n.StatSN + 1
	c.window = n.MaxCmdSN
	return n
}

// startWrite sends a WRITE of n bytes without data and returns its tag and
// first R2T.
func (c *conn) startWrite(lba, n int) (uint32, pdu.R2T) {
	c.Helper()
	tag := c.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: uint32(n)}, write10(lba, n/blk), nil)
	return tag, c.r2t(tag)
}

func (c *conn) r2t(tag uint32) pdu.R2T {
	c.Helper()
	p := c.expect(pdu.OpR2T)
	var r pdu.R2T
	if err := r.Decode(&p.BHS); err != nil || r.InitiatorTaskTag != tag {
		c.Fatalf("%+v, %v", r, err)
	}
	return r
}

func (c *conn) dataOut(tag, ttt uint32, sn, off int, data []byte, final bool) {
	c.send(&pdu.DataOut{
		Final: final, InitiatorTaskTag: tag, TargetTransferTag: ttt, ExpStatSN: c.expStatSN,
		DataSN: uint32(sn), BufferOffset: uint32(off), DataLen: len(data),
	}, data)
}

// notGood wants a command that was disturbed not to end GOOD: CHECK CONDITION,
// a Reject, or the end of the connection.
func (c *conn) notGood(tag uint32) {
	c.Helper()
	p := c.read()
	switch {
	case p == nil, p.BHS.Opcode() == pdu.OpReject:
	case p.BHS.Opcode() == pdu.OpSCSIResponse && p.BHS.InitiatorTaskTag() == tag && p.BHS[3] != 0:
	default:
		c.Fatalf("got %s, status %#x", describe(p), p.BHS[3])
	}
}

// dataIn reads the Data-In PDUs of tag up to the status.
func (c *conn) dataIn(tag uint32) (pdus []pdu.DataIn, data []byte) {
	c.Helper()
	for {
		p := c.read()
		if c.iser != nil && p != nil && p.BHS.Opcode() == pdu.OpSCSIResponse { // no status with the data there
			c.expStatSN = p.BHS.StatSN() + 1
			return pdus, data
		}
		if p == nil || p.BHS.Opcode() != pdu.OpDataIn {
			c.Fatalf("got %s, want Data-In", describe(p))
		}
		var d pdu.DataIn
		if err := d.Decode(&p.BHS); err != nil || d.InitiatorTaskTag != tag {
			c.Fatalf("%+v, %v", d, err)
		}
		pdus = append(pdus, d)
		data = append(data, p.Data...)
		if d.HasStatus {
			c.expStatSN = d.StatSN + 1
			return pdus, data
		}
	}
}

func (c *conn) rejected(why pdu.RejectReason) {
	c.Helper()
	p := c.expect(pdu.OpReject)
	if got := pdu.RejectReason(p.BHS[2]); got != why || len(p.Data) != pdu.BHSLen {
		c.Fatalf("Reject %v with %d bytes, want %v", got, len(p.Data), why)
	}
	c.expStatSN = p.BHS.StatSN() + 1
}

func write10(lba, blocks int) []byte {
	return []byte{0x2a, 0, 0, 0, byte(lba >> 8), byte(lba), 0, byte(blocks >> 8), byte(blocks), 0}
}

func read10(lba, blocks int) []byte {
	c := write10(lba, blocks)
	c[0] = 0x28
	return c
}

func pattern(n int, seed string) []byte {
	b := make([]byte, 0, n+len(seed)+8)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%s %d;", seed, i)
	}
	return b[:n]
}

package initiator_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// fake is a target under a test's control: one connection, PDU by PDU.
type fake struct {
	*initiator.Conn
	t      *testing.T
	statSN uint32
}

// newFake returns both ends of a connection.
func newFake(t *testing.T) (*fake, *initiator.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := initiator.Dial(testContext(t), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{Conn: initiator.NewConn(server), t: t}
	t.Cleanup(func() {
		_ = f.Close()
		_ = client.Close()
	})
	return f, client
}

type encoder interface{ Encode(h *pdu.BHS) }

func (f *fake) send(m encoder, data string) {
	var h pdu.BHS
	m.Encode(&h)
	_ = f.WritePDU(&h, nil, []byte(data))
}

// login answers login requests until the full feature phase, with answers in
// the last response.
func (f *fake) login(answers string) {
	for {
		p, err := f.ReadPDU()
		if err != nil {
			return
		}
		var req pdu.LoginRequest
		if req.Decode(&p.BHS) != nil {
			return
		}
		resp := pdu.LoginResponse{
			Transit: req.Transit, CSG: req.CSG, NSG: req.NSG, ISID: req.ISID, TSIH: 1,
			InitiatorTaskTag: req.InitiatorTaskTag, StatSN: f.statSN, ExpCmdSN: req.CmdSN, MaxCmdSN: req.CmdSN + 7,
		}
		f.statSN++
		if req.NSG != pdu.FullFeaturePhase {
			f.send(&resp, "")
			continue
		}
		f.send(&resp, answers)
		return
	}
}

// session returns a session whose target f plays from now on.
func fakeSession(t *testing.T, o initiator.Options) (*fake, *initiator.Session) {
	t.Helper()
	f, c := newFake(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.login("")
	}()
	o.TargetName = "iqn.2026-11.com.example:fake"
	s, err := initiator.Login(testContext(t), c, o)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	t.Cleanup(func() { _ = s.Close() })
	return f, s
}

func TestLoginAnswers(t *testing.T) {
	tests := []struct {
		name, answers, want string
	}{
		{"none", "", ""},
		{"all fine", "HeaderDigest=None\x00MaxBurstLength=512\x00InitialR2T=Yes\x00", ""},
		{"not understood", "MaxBurstLength=NotUnderstood\x00", ""},
		{"declaration", "TargetAlias=x\x00TargetPortalGroupTag=7\x00MaxRecvDataSegmentLength=0x10000\x00", ""},
		{"digest not offered", "HeaderDigest=CRC32C\x00", "HeaderDigest"},
		{"over the offer", "MaxBurstLength=16777215\x00", "MaxBurstLength"},
		{"no number", "FirstBurstLength=many\x00", "FirstBurstLength"},
		{"negative", "MaxOutstandingR2T=-1\x00", "MaxOutstandingR2T"},
		{"no boolean", "ImmediateData=yes\x00", "ImmediateData"},
		{"wait less than we want", "DefaultTime2Wait=0\x00", "DefaultTime2Wait"},
		{"bad text", "nonsense\x00", "login answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, c := newFake(t)
			go f.login(tt.answers)
			r, err := initiator.Negotiate(testContext(t), c, initiator.Options{TargetName: "iqn.2026-11.com.example:fake"})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%+v, %v; want an error about %s", r, err, tt.want)
			}
		})
	}
}

// What a target takes over iSER is its TargetRecvDataSegmentLength: Linux's declares
// a MaxRecvDataSegmentLength of 262144 beside it.
func TestLoginTargetRecvDataSegmentLength(t *testing.T) {
	for answers, want := range map[string]int{
		"MaxRecvDataSegmentLength=262144\x00":                                                           262144,
		"RDMAExtensions=No\x00MaxRecvDataSegmentLength=262144\x00":                                      262144,
		"RDMAExtensions=Yes\x00TargetRecvDataSegmentLength=4096\x00MaxRecvDataSegmentLength=262144\x00": 4096,
		"RDMAExtensions=Yes\x00MaxRecvDataSegmentLength=262144\x00":                                     8192,
	} {
		f, c := newFake(t)
		go f.login(answers)
		r, err := initiator.Negotiate(testContext(t), c, initiator.Options{TargetName: "iqn.2026-11.com.example:fake"})
		if err != nil || r.Params.MaxRecvDataSegmentLength != want {
			t.Errorf("%q: %+v, %v; want %d", answers, r, err, want)
		}
	}
}

func TestLoginRefused(t *testing.T) {
	f, c := newFake(t)
	go func() {
		if _, err := f.ReadPDU(); err != nil {
			return
		}
		f.send(&pdu.LoginResponse{Status: 0x0101, InitiatorTaskTag: 1}, "TargetAddress=10.0.0.9:3260,1\x00")
	}()
	_, err := initiator.Login(testContext(t), c, initiator.Options{TargetName: "iqn.2026-11.com.example:fake"})
	var refused *initiator.LoginError
	if !errors.As(err, &refused) || refused.Status != 0x0101 || refused.TargetAddress != "10.0.0.9:3260,1" {
		t.Errorf("%v", err)
	}
}

// TestMutualNeedsCHAP: an initiator that wants the target to prove
// itself must not accept AuthMethod=None.
func TestMutualNeedsCHAP(t *testing.T) {
	f, c := newFake(t)
	go f.login("")
	_, err := initiator.Negotiate(testContext(t), c, initiator.Options{
		TargetName: "iqn.2026-11.com.example:fake",
		CHAP:       initiator.CHAP{User: "u", Secret: []byte("s"), TargetSecret: []byte("t")},
	})
	if err == nil {
		t.Error("logged in to a target that did not authenticate itself")
	}
}

func TestSessionAnswersPing(t *testing.T) {
	f, s := fakeSession(t, initiator.Options{})
	f.send(&pdu.NOPIn{
		InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: 0x1234, LUN: 7 << 48,
		StatSN: f.statSN, ExpCmdSN: 1, MaxCmdSN: 8,
	}, "data")
	p, err := f.ReadPDU()
	if err != nil {
		t.Fatal(err)
	}
	var out pdu.NOPOut
	if err := out.Decode(&p.BHS); err != nil || out.TargetTransferTag != 0x1234 || out.InitiatorTaskTag != pdu.ReservedTag ||
		!out.Immediate || out.LUN != 7<<48 || string(p.Data) != "data" {
		t.Errorf("%+v, data %q, %v", out, p.Data, err)
	}
	if got := s.Numbers(); got.ExpStatSN != f.statSN {
		t.Errorf("a ping has used up StatSN: %+v", got)
	}
}

func TestSessionWindow(t *testing.T) {
	f, s := fakeSession(t, initiator.Options{}) // MaxCmdSN lets 8 commands in
	for range 8 {
		if _, err := s.Start(testContext(t), initiator.Command{CDB: make([]byte, 6)}); err != nil {
			t.Fatal(err)
		}
	}
	started := make(chan error, 1)
	go func() {
		_, err := s.Start(testContext(t), initiator.Command{CDB: make([]byte, 6)})
		started <- err
	}()
	for i := range 8 {
		p, err := f.ReadPDU()
		if err != nil || p.BHS.CmdSN() != uint32(1+i) {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	select {
	case err := <-started:
		t.Fatalf("a ninth command went out: %v", err)
	default:
	}
	f.send(&pdu.NOPIn{InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: pdu.ReservedTag, StatSN: f.statSN, ExpCmdSN: 9, MaxCmdSN: 9}, "")
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func TestSessionReject(t *testing.T) {
	rejects := make(chan *initiator.RejectError, 1)
	f, s := fakeSession(t, initiator.Options{Reject: func(e *initiator.RejectError) { rejects <- e }})
	task, err := s.Start(testContext(t), initiator.Command{CDB: make([]byte, 6)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.ReadPDU()
	if err != nil {
		t.Fatal(err)
	}
	f.send(&pdu.Reject{Reason: 4, StatSN: f.statSN, ExpCmdSN: 2, MaxCmdSN: 9}, string(p.BHS[:]))
	_, err = task.Wait(testContext(t))
	var e *initiator.RejectError
	if !errors.As(err, &e) || e.Reason != 4 || e.Header != p.BHS || <-rejects == nil {
		t.Errorf("%v", err)
	}
}

// TestSessionEnds sends what ends a session at ErrorRecoveryLevel 0.
func TestSessionEnds(t *testing.T) {
	tag := func(h *pdu.BHS) uint32 { return h.InitiatorTaskTag() }
	tests := []struct {
		name string
		send func(f *fake, cmd *pdu.BHS)
	}{
		{"StatSN gap", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.SCSIResponse{InitiatorTaskTag: tag(c), StatSN: f.statSN + 1, ExpCmdSN: 2, MaxCmdSN: 9}, "")
		}},
		{"unknown tag", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.SCSIResponse{InitiatorTaskTag: tag(c) + 1, StatSN: f.statSN, ExpCmdSN: 2, MaxCmdSN: 9}, "")
		}},
		{"wrong kind of answer", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.TextResponse{Final: true, InitiatorTaskTag: tag(c), StatSN: f.statSN, ExpCmdSN: 2, MaxCmdSN: 9}, "")
		}},
		{"DataSN", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.DataIn{Final: true, InitiatorTaskTag: tag(c), DataSN: 1, ExpCmdSN: 2, MaxCmdSN: 9, DataLen: 4}, "data")
		}},
		{"BufferOffset", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.DataIn{Final: true, InitiatorTaskTag: tag(c), BufferOffset: 4, ExpCmdSN: 2, MaxCmdSN: 9, DataLen: 4}, "data")
		}},
		{"too much data", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.DataIn{Final: true, InitiatorTaskTag: tag(c), ExpCmdSN: 2, MaxCmdSN: 9, DataLen: 12}, "twelve bytes")
		}},
		{"R2T beyond the data", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.R2T{InitiatorTaskTag: tag(c), DesiredDataTransferLength: 512, ExpCmdSN: 2, MaxCmdSN: 9}, "")
		}},
		{"sense length", func(f *fake, c *pdu.BHS) {
			f.send(&pdu.SCSIResponse{InitiatorTaskTag: tag(c), Status: 2, StatSN: f.statSN, ExpCmdSN: 2, MaxCmdSN: 9, DataLen: 4}, "\x01\x00ab")
		}},
		{"initiator opcode", func(f *fake, c *pdu.BHS) { f.send(&pdu.NOPOut{InitiatorTaskTag: tag(c)}, "") }},
		{"connection closed", func(f *fake, _ *pdu.BHS) { _ = f.Close() }},
		{"closed within a header", func(f *fake, _ *pdu.BHS) {
			_ = f.Write(make([]byte, 20))
			_ = f.Close()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, s := fakeSession(t, initiator.Options{})
			task, err := s.Start(testContext(t), initiator.Command{CDB: make([]byte, 6), DataInLen: 8})
			if err != nil {
				t.Fatal(err)
			}
			p, err := f.ReadPDU()
			if err != nil {
				t.Fatal(err)
			}
			tt.send(f, &p.BHS)
			if r, err := task.Wait(testContext(t)); err == nil {
				t.Errorf("no error, %+v", r)
			}
			<-s.Done()
			if s.Err() == nil {
				t.Error("session has ended without an error")
			}
		})
	}
}

func TestParseTargets(t *testing.T) {
	got, err := initiator.ParseTargets([]text.Pair{
		{Key: "TargetName", Value: "iqn.a"},
		{Key: "TargetAddress", Value: "[::1]:3260,2"},
		{Key: "TargetAddress", Value: "h:1,1"},
		{Key: "TargetName", Value: "iqn.b"},
	})
	if err != nil || len(got) != 2 || len(got[0].Addresses) != 2 || got[0].Addresses[0] != (initiator.TargetAddress{Address: "[::1]:3260", PortalGroupTag: "2"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := initiator.ParseTargets([]text.Pair{{Key: "TargetAddress", Value: "x"}}); err == nil {
		t.Error("address before name was taken")
	}
}

func TestFrame(t *testing.T) {
	var h pdu.BHS
	(&pdu.NOPOut{InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}).Encode(&h)
	tests := []struct {
		name  string
		spoil func(f *initiator.Frame)
		want  error
	}{
		{"right", func(*initiator.Frame) {}, nil},
		{"header digest", func(f *initiator.Frame) { f.HeaderDigest[0]++ }, initiator.ErrHeaderDigest},
		{"data digest", func(f *initiator.Frame) { f.DataDigest[3]++ }, initiator.ErrDataDigest},
		{"header bit", func(f *initiator.Frame) { f.BHS[40] ^= 1 }, initiator.ErrHeaderDigest},
		{"padding bit", func(f *initiator.Frame) { f.Padding[0] ^= 1 }, initiator.ErrDataDigest},
		{"sealed lie", func(f *initiator.Frame) { f.BHS.SetDataSegmentLength(1 << 20); f.Seal() }, initiator.ErrTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, c := newFake(t)
			f.SetDigests(true, true)
			c.SetDigests(true, true)
			frame := c.Frame(&h, nil, []byte("seven b"))
			tt.spoil(frame)
			if err := c.WriteFrame(frame); err != nil {
				t.Fatal(err)
			}
			p, err := f.ReadPDU()
			if !errors.Is(err, tt.want) || err == nil && string(p.Data) != "seven b" {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestDecodeSense(t *testing.T) {
	fixed := make([]byte, 18)
	fixed[0], fixed[2], fixed[12], fixed[13] = 0x70, 0x25, 0x21, 0x07
	tests := []struct {
		name           string
		sense          []byte
		key, asc, ascq uint8
		ok             bool
	}{
		{"fixed", fixed, 5, 0x21, 7, true},
		{"descriptor", []byte{0x72, 6, 0x29, 1, 0, 0, 0, 0}, 6, 0x29, 1, true},
		{"short", fixed[:10], 0, 0, 0, false},
		{"empty", nil, 0, 0, 0, false},
		{"unknown format", []byte{0x6f, 1, 2, 3}, 0, 0, 0, false},
	}
	for _, tt := range tests {
		key, asc, ascq, ok := initiator.DecodeSense(tt.sense)
		if key != tt.key || asc != tt.asc || ascq != tt.ascq || ok != tt.ok {
			t.Errorf("%s: %x/%x/%x %v", tt.name, key, asc, ascq, ok)
		}
	}
}

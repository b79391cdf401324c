package iserd_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

// TestISERNegative has one test for each thing that has brought other targets down,
// sent over software iWARP by our own initiator. docs/iser.md lists them.
func TestISERNegative(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"DataSegmentLength above the bytes received", negLengths},
		{"AHS of 1 to 255 words", negAHS},
		{"EDTL of 1, 4 and 16 MiB", negLong},
		{"immediate, unsolicited and solicited data, all splits", negSplits},
		{"Write STag without anything to read", negNoRead},
		{"answers of at most 128 bytes", negShortReceives},
		{"SendTargets above 8 KiB", negSendTargets},
		{"no NOP-In right after the login", negEarlyPing},
		{"address change of the listener", negAddrChange},
		{"close during RDMA Read", negCloseDuringRead},
		{"Data-Out although unsolicited data was refused", negDataOut},
		{"NOP-Out that wants no answer", negNoAnswer},
		{"AHSLength 0, and an extended CDB", negExtendedCDB},
		{"two connections and a small pool", negSmallPool},
		{"no Send with Invalidate without permission", negInvalidate},
		{"no T=0 to NSG=FullFeaturePhase", negTransit},
		{"no key that the initiator did not offer", negKeys},
		{"refused, half-open and removed at each state", negStates},
	} {
		t.Run(tt.name, tt.run)
	}
}

// negLengths: a Login Request, a SCSI Command and a NOP-Out that claim more data
// than they bring.
func negLengths(t *testing.T) {
	_, _, addr := startISER(t)
	for name, m := range map[string]interface{ Encode(h *pdu.BHS) }{
		"login": &pdu.LoginRequest{Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase, InitiatorTaskTag: 1, CmdSN: 1},
		"command": &pdu.SCSICommand{
			Final: true, Write: true, ExpectedDataTransferLength: 4096, InitiatorTaskTag: 5, CmdSN: 1,
		},
		"NOP-Out": &pdu.NOPOut{Immediate: true, InitiatorTaskTag: 5, TargetTransferTag: pdu.ReservedTag, CmdSN: 1},
	} {
		for _, extra := range []int{1, 4, 4096, 8192, 1<<24 - 1 - 64} {
			r := openRaw(t, addr)
			if name != "login" {
				r.login()
			}
			b := make([]byte, iser.HeaderLen+pdu.BHSLen+64)
			(&iser.Header{}).Encode(b)
			h := (*pdu.BHS)(b[iser.HeaderLen:])
			m.Encode(h)
			h.SetDataSegmentLength(64 + extra)
			if err := r.c.SendMessage(b); err != nil {
				t.Fatal(err)
			}
			r.closed(fmt.Sprintf("%s, %d bytes too many", name, extra))
			if len(r.got) > 0 {
				t.Errorf("%s, %d bytes too many: answered", name, extra)
			}
			r.c.Close()
		}
	}
}

// negAHS: the command is refused or run, the session goes on, and nothing moves in
// the receives, which are all used more than once.
func negAHS(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr)
	r.login()
	r.attentions()
	for words := 1; words <= 255; words++ {
		for _, fill := range []byte{0, 1, 2, 0xff} {
			r.command(iser.Header{}, pdu.SCSICommand{Final: true}, make([]byte, 6), bytes.Repeat([]byte{fill}, 4*words), nil)
			if m := r.next(); m.BHS.Opcode() != pdu.OpSCSIResponse && m.BHS.Opcode() != pdu.OpReject {
				t.Fatalf("%d words: %v", words, m.BHS.Opcode())
			}
		}
	}
	r.alive()
}

func negLong(t *testing.T) {
	_, _, addr := startISER(t)
	s := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, s)
	for _, mib := range []uint16{1, 4, 16} {
		roundTrip(t, s, 0, mib*2048)
	}
}

// negSplits: every split of a write into immediate data, unsolicited Data-Out PDUs
// and RDMA Reads, aligned or not, gives the same blocks.
func negSplits(t *testing.T) {
	l := login.DefaultLimits()
	l.InitialR2TOverISER = false
	_, _, addr := startISER(t, iserd.SessionLimits(l))
	r := openRaw(t, addr)
	r.login(text.Pair{Key: "InitialR2T", Value: "No"}, text.Pair{Key: "ImmediateData", Value: "Yes"}, text.Pair{Key: "FirstBurstLength", Value: "4096"})
	r.attentions()
	const n = 8192
	data, stag := r.mem(n, 0)
	back, backTag := r.mem(n, 0)
	points := []int{0, 1, 2, 3, 4, 5, 511, 512, 513, 2047, 2048, 4093, 4095, 4096}
	seed := byte(0)
	for _, imm := range points {
		for _, unsol := range points {
			if unsol < imm {
				continue
			}
			for _, pieces := range []int{1, 3} {
				seed++
				for i := range data {
					data[i] = byte(i)*5 + byte(i>>8) + seed
				}
				r.splitWrite(data, stag, imm, unsol, pieces)
				r.good()
				r.read(back, backTag, 0)
				r.good()
				if !bytes.Equal(back, data) {
					t.Fatalf("%d bytes immediate, %d unsolicited in %d PDUs: other data", imm, unsol-imm, pieces)
				}
			}
		}
	}
}

// splitWrite writes data to block 0: imm bytes with the command, up to unsol in
// Data-Out PDUs, the rest by RDMA.
func (r *raw) splitWrite(data []byte, stag uint32, imm, unsol, pieces int) {
	r.t.Helper()
	const tag = 0x4242
	ih := iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(data) + uint64(unsol)} // advanced, as ib_iser does it
	if unsol == len(data) {
		ih = iser.Header{}
	}
	r.command(ih, pdu.SCSICommand{
		Final: unsol == imm, Write: true, ExpectedDataTransferLength: uint32(len(data)), InitiatorTaskTag: tag,
	}, cdb10(write10, 0, uint16(len(data)/512)), nil, data[:imm])
	for off, sn := imm, uint32(0); off < unsol; sn++ {
		n := min((unsol-imm+pieces-1)/pieces, unsol-off)
		r.send(&pdu.DataOut{
			Final: off+n == unsol, InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag, DataSN: sn, BufferOffset: uint32(off), DataLen: n,
		}, data[off:off+n])
		off += n
	}
}

// negNoRead: as libiscsi, which names its memory although all data is immediate.
func negNoRead(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr)
	r.login(text.Pair{Key: "ImmediateData", Value: "Yes"})
	r.attentions()
	mem, stag := r.mem(4096, 0)
	r.command(iser.Header{WSV: true, WriteSTag: stag ^ 0x7700, WriteBase: addrOf(mem) + 4096},
		pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 4096}, cdb10(write10, 0, 8), nil, mem)
	r.good()
	if r.inv[len(r.inv)-1] {
		t.Error("invalidated")
	}
	r.alive()
}

// negShortReceives: the initiator has receives of 76+128 bytes, as Linux's; a longer
// message would end the connection.
func negShortReceives(t *testing.T) {
	long := testTarget + strings.Repeat("x", 223-len(testTarget))
	srv, _, addr := startISER(t)
	b, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddTarget(t.Context(), long, iserd.AnyInitiator(), iserd.LUN(0, b)); err != nil {
		t.Fatal(err)
	}
	s := connectISER(t, addr, rdma.Options{}, func(o *initiator.Options) { o.TargetName, o.FirstBurstLength = long, 65536 })
	ready(t, s)
	if targets, err := s.SendTargets(t.Context(), ""); err != nil || len(targets) != 1 || targets[0].Name != long {
		t.Errorf("SendTargets: %+v, %v", targets, err)
	}
	for _, n := range []int{127, 128, 129, 8192} {
		data := bytes.Repeat([]byte{7}, n)
		if got, err := s.NOP(t.Context(), data); err != nil || !bytes.Equal(got, data[:min(n, 128)]) {
			t.Errorf("NOP-Out of %d bytes: %d came back, %v", n, len(got), err)
		}
	}
	if res, err := s.Exec(t.Context(), 0, cdb10(read10, 0xfffffff0, 1), nil, 512); err != nil || res.Status != 2 || len(res.Sense) > 126 {
		t.Errorf("READ beyond the end: %+v, %v", res, err)
	}
	r := openRaw(t, addr)
	r.login()
	r.send(&pdu.TextRequest{Final: true, Continue: true, Immediate: true, InitiatorTaskTag: 3, TargetTransferTag: pdu.ReservedTag, CmdSN: 1, DataLen: 4096}, make([]byte, 4096))
	if m := r.next(); m.BHS.Opcode() != pdu.OpReject || len(m.Data) != pdu.BHSLen {
		t.Errorf("%v with %d bytes, want a Reject", m.BHS.Opcode(), len(m.Data))
	}
}

func negSendTargets(t *testing.T) {
	srv, _, addr := startISER(t)
	const n = 300
	for i := range n {
		b, err := memory.New(memory.Options{Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("iqn.2026-11.com.example:%s-%d", strings.Repeat("long", 20), i)
		if _, err := srv.AddTarget(t.Context(), name, iserd.AnyInitiator(), iserd.LUN(0, b)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := initiator.Login(t.Context(), dialISER(t, addr, rdma.Options{}), initiator.Options{SessionType: initiator.DiscoverySession})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 20 { // a receive that is lost would show
		targets, err := s.SendTargets(t.Context(), "All")
		if err != nil || len(targets) != n+1 {
			t.Fatalf("%d targets of %d, %v", len(targets), n+1, err)
		}
	}
}

// negEarlyPing: libiscsi has no receive until it has handled the last Login Response.
func negEarlyPing(t *testing.T) {
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = prov.Close() })
	_, addr := serveISER(t, prov, iserd.Limits{NopInterval: 2 * time.Second})
	r := openRaw(t, addr)
	r.loginAs(initiator.RandomISID())
	r.poll(150 * time.Millisecond)
	if r.err != nil || len(r.got) > 0 {
		t.Fatalf("%v, %d messages", r.err, len(r.got))
	}
	if err := r.c.PostRecvs(32, rdma.Recv); err != nil {
		t.Fatal(err)
	}
	m := r.next()
	ttt := m.BHS.TargetTransferTag()
	if m.BHS.Opcode() != pdu.OpNOPIn || m.BHS.InitiatorTaskTag() != pdu.ReservedTag || ttt == pdu.ReservedTag {
		t.Fatalf("%v with tags %#x and %#x, want a ping", m.BHS.Opcode(), m.BHS.InitiatorTaskTag(), ttt)
	}
	r.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: ttt, CmdSN: 1}, nil)
	r.attentions()
}

// negAddrChange: the listener moves, connections stay, and new ones can be made.
func negAddrChange(t *testing.T) {
	prov := newFrail(t)
	_, addr := serveISER(t, prov, iserd.Limits{})
	s := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, s)
	for range 3 {
		prov.inject(verbs.EventAddrChange, true)
		roundTrip(t, s, 0, 64)
		loginAgain(t, addr)
	}
}

// loginAgain logs in, as soon as that works.
func loginAgain(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		s, err := rdmaLogin(t, addr)
		if err == nil {
			ready(t, s)
			roundTrip(t, s, 64, 8)
			s.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func rdmaLogin(t *testing.T, addr netip.AddrPort) (*initiator.Session, error) {
	t.Helper()
	c, err := rdma.Dial(t.Context(), softiwarp.New(softiwarp.Config{}), addr, rdma.Options{})
	if err != nil {
		return nil, err
	}
	return initiator.Login(t.Context(), c, initiator.Options{TargetName: testTarget, Extra: rdma.Keys()})
}

// negCloseDuringRead: a session is reinstated while the RDMA Reads of its writes are
// under way. They land after its end, or are flushed; either way their memory comes
// back, and nothing of them is written.
func negCloseDuringRead(t *testing.T) {
	srv, _, addr := startISER(t)
	for round := range 20 {
		isid := initiator.RandomISID()
		old := openRaw(t, addr)
		if err := old.c.PostRecvs(32, rdma.Recv); err != nil {
			t.Fatal(err)
		}
		old.loginAs(isid)
		old.attentions()
		mem, stag := old.mem(4<<20, byte(round))
		for range 3 {
			old.write(mem, stag, 0)
		}
		if round%2 == 0 {
			old.poll(200 * time.Microsecond)
		}
		fresh := openRaw(t, addr)
		if err := fresh.c.PostRecvs(32, rdma.Recv); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { // answers RDMA Reads meanwhile, or not
			defer close(done)
			if round%4 < 2 {
				for deadline := time.Now().Add(5 * time.Second); old.err == nil && time.Now().Before(deadline); {
					old.poll(time.Millisecond)
				}
			}
		}()
		fresh.loginAs(isid)
		fresh.attentions()
		<-done
		old.closed("reinstated")
		old.c.Close()
		fresh.alive()
		fresh.c.Close()
	}
	quiet(t, srv)
}

// negDataOut: also for commands that are not there.
func negDataOut(t *testing.T) {
	_, _, addr := startISER(t)
	for name, d := range map[string]pdu.DataOut{
		"empty":        {Final: true, InitiatorTaskTag: 0x5151},
		"data":         {Final: true, InitiatorTaskTag: 0x5151, DataLen: 512},
		"not the last": {InitiatorTaskTag: 0x5151, DataLen: 512},
		"far":          {Final: true, InitiatorTaskTag: 0x5151, DataLen: 512, BufferOffset: 0xfffffe00},
		"unknown task": {Final: true, InitiatorTaskTag: 0x1234, DataLen: 512},
		"no task":      {Final: true, InitiatorTaskTag: pdu.ReservedTag, DataLen: 512},
	} {
		for _, ttt := range []uint32{pdu.ReservedTag, 0, 77} {
			r := openRaw(t, addr)
			r.login()
			r.attentions()
			mem, stag := r.mem(1<<20, 9)
			r.command(iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(mem)},
				pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 1 << 20, InitiatorTaskTag: 0x5151}, cdb10(write10, 0, 2048), nil, nil)
			d.TargetTransferTag = ttt
			r.send(&d, make([]byte, d.DataLen))
			good, rejected := false, false
			for !good || !rejected {
				m := r.next()
				switch m.BHS.Opcode() {
				case pdu.OpReject:
					rejected = true
				case pdu.OpSCSIResponse:
					if good = m.BHS[3] == 0; !good {
						t.Fatalf("%s, TTT %#x: status %#x", name, ttt, m.BHS[3])
					}
				default:
					t.Fatalf("%s: %v", name, m.BHS.Opcode())
				}
			}
			back, backTag := r.mem(1<<20, 0)
			r.read(back, backTag, 0)
			r.good()
			if !bytes.Equal(back, mem) {
				t.Errorf("%s, TTT %#x: the write is not whole", name, ttt)
			}
			r.c.Close()
		}
	}
}

func negNoAnswer(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr)
	r.login()
	for range 100 { // more than there are spare receives
		r.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: pdu.ReservedTag, CmdSN: 1}, nil)
		if m := r.ping(7, []byte("here")); m.BHS.Opcode() != pdu.OpNOPIn || string(m.Data) != "here" {
			t.Fatalf("%v %q", m.BHS.Opcode(), m.Data)
		}
	}
	r.attentions()
}

func negExtendedCDB(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr)
	r.login()
	r.attentions()
	extended, err := pdu.AppendExtendedCDB(nil, append([]byte{0x7f, 0, 0, 0, 0, 0, 0, 24, 0, 9}, make([]byte, 22)...))
	if err != nil {
		t.Fatal(err)
	}
	for _, ahs := range [][]byte{{0, 0, 1, 0}, {0, 0, 0, 0}, {0, 1, 1, 0}, {0xff, 0xff, 1, 0}, {0, 5, 2, 0, 0, 0, 1, 0}, extended} {
		r.command(iser.Header{}, pdu.SCSICommand{Final: true}, []byte{0x7f, 0, 0, 0, 0, 0, 0, 24}, ahs, nil)
		m := r.next()
		if m.BHS.Opcode() != pdu.OpReject && (m.BHS.Opcode() != pdu.OpSCSIResponse || m.BHS[3] != 2) {
			t.Errorf("AHS % x: %v, status %#x", ahs, m.BHS.Opcode(), m.BHS[3])
		}
	}
	r.alive()
}

// negSmallPool: what one connection takes, another waits for with TASK SET FULL; it
// is not starved, and nothing is lost.
func negSmallPool(t *testing.T) {
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = prov.Close() })
	_, addr := serveISER(t, prov, iserd.Limits{BufferMemory: 48 << 20, CommandWindow: 32})
	done := make(chan int, 2)
	for range 2 {
		s := connectISER(t, addr, rdma.Options{}, nil)
		ready(t, s)
		go func() {
			data := make([]byte, 4<<20)
			good := 0
			for deadline := time.Now().Add(time.Minute); good < 40 && time.Now().Before(deadline); {
				var tasks []*initiator.Task
				for range 8 {
					task, err := s.Start(t.Context(), initiator.Command{CDB: cdb10(write10, 0, 8192), DataOut: data})
					if err != nil {
						t.Error(err)
						break
					}
					tasks = append(tasks, task)
				}
				for _, task := range tasks {
					res, err := task.Wait(t.Context())
					switch {
					case err != nil:
						t.Error(err)
						done <- good
						return
					case res.Status == 0:
						good++
					case res.Status != 0x28: // TASK SET FULL
						t.Errorf("status %#x", res.Status)
					}
				}
			}
			done <- good
		}()
	}
	for range 2 {
		if n := <-done; n < 40 {
			t.Errorf("a connection had %d writes through", n)
		}
	}
}

// negInvalidate: the tag of the command itself, once, and only if the initiator has
// said that it takes it.
func negInvalidate(t *testing.T) {
	_, _, addr := startISER(t)
	for _, private := range [][]byte{{}, {0, 0, 0, 0}, {0x40, 0, 0, 0}, {0xc0, 0, 0, 0}, {0x80}, {0x80, 0, 0, 0}} {
		allowed := len(private) == 4 && private[0] == 0x80
		r := openRawWith(t, addr, rdma.Options{Private: private})
		if got := r.c.Reply; len(got) < 4 || got[0]&0x80 == 0 || (got[0]&0x40 == 0) != allowed {
			t.Errorf("request % x is answered % x", private, got)
		}
		r.login()
		r.attentions()
		if !allowed {
			mem, stag := r.mem(4096, 0)
			r.write(mem, stag, 0)
			r.good()
			r.read(mem, stag, 0)
			r.good()
		}
		r.ping(9, nil)
		if slices.Contains(r.inv, true) {
			t.Errorf("request % x: a message invalidates", private)
		}
		r.c.Close()
	}
	// The stream checks each key, and that nothing else invalidates.
	s := connectISER(t, addr, rdma.Options{Invalidate: true}, nil)
	ready(t, s)
	for range 50 {
		roundTrip(t, s, 0, 17)
	}
}

// negTransit: whatever is offered, the answer ends the login, for the next message
// would meet a receive of 204 bytes.
func negTransit(t *testing.T) {
	_, _, addr := startISER(t)
	for _, pairs := range [][]text.Pair{
		nil,
		{{Key: "InitialR2T", Value: "No"}, {Key: "ImmediateData", Value: "No"}},
		{{Key: "HeaderDigest", Value: "CRC32C,None"}, {Key: "DataDigest", Value: "CRC32C,None"}},
		{{Key: "MaxRecvDataSegmentLength", Value: "262144"}, {Key: "MaxConnections", Value: "1"}, {Key: "ErrorRecoveryLevel", Value: "2"}},
		{{Key: "IFMarker", Value: "Yes"}, {Key: "OFMarker", Value: "Yes"}, {Key: "IFMarkInt", Value: "2048~8192"}},
		{{Key: "X-com.example.unknown", Value: "1"}},
		{{Key: "MaxBurstLength", Value: "16776192"}, {Key: "FirstBurstLength", Value: "262144"}, {Key: "MaxOutstandingR2T", Value: "8"}},
	} {
		r := openRaw(t, addr)
		r.login(pairs...) // wants T=1 with NSG=3
		if len(r.got) > 0 {
			t.Errorf("%v: more than one answer", pairs)
		}
		r.attentions()
		r.c.Close()
	}
}

// negKeys: open-iscsi ends a login in which the target begins with a key that it
// does not know.
func negKeys(t *testing.T) {
	_, _, addr := startISER(t)
	offers := []text.Pair{
		{Key: "HeaderDigest", Value: "None"},
		{Key: "MaxBurstLength", Value: "16776192"},
		{Key: "FirstBurstLength", Value: "262144"},
		{Key: "DefaultTime2Wait", Value: "2"},
		{Key: "DefaultTime2Retain", Value: "0"},
		{Key: "X-com.example.unknown", Value: "1"},
	}
	for _, offer := range [][]text.Pair{nil, offers} {
		r := openRaw(t, addr)
		for _, p := range r.login(offer...) {
			offered := slices.ContainsFunc(append(offer, rdma.Keys()...), func(o text.Pair) bool { return o.Key == p.Key })
			switch {
			case p.Key == "TargetPortalGroupTag", p.Key == "TargetAlias":
			case !offered:
				t.Errorf("%s=%s was not asked for", p.Key, p.Value)
			case p.Key == "X-com.example.unknown" && p.Value != text.NotUnderstood:
				t.Errorf("%s=%s", p.Key, p.Value)
			}
		}
		r.c.Close()
	}
}

// negStates: connections in every state are refused, left half-open, lost or taken
// away with their device; nothing is left of them, and the next initiator can log in.
func negStates(t *testing.T) {
	prov := newFrail(t)
	srv, addr := serveISER(t, prov, iserd.Limits{})
	states := map[string]func() *raw{
		"connected": func() *raw { return openRaw(t, addr) },
		"logged in": func() *raw { r := openRaw(t, addr); r.login(); return r },
		"during reads": func() *raw {
			r := openRaw(t, addr)
			r.login()
			r.attentions()
			m, s := r.mem(4<<20, 0)
			r.write(m, s, 0)
			return r
		},
		"half-open":   func() *raw { halfOpen(t, addr); return nil },
		"after close": func() *raw { r := openRaw(t, addr); r.login(); r.c.Close(); return nil },
	}
	for _, kind := range []verbs.EventKind{
		verbs.EventDeviceRemoval, verbs.EventDisconnected, verbs.EventConnectError, verbs.EventUnreachable, verbs.EventRejected,
		verbs.EventAddrChange, verbs.EventTimewaitExit,
	} {
		for name, open := range states {
			t.Run(fmt.Sprintf("%v/%s", kind, name), func(t *testing.T) {
				r := open()
				prov.inject(kind, false)
				if kind == verbs.EventDeviceRemoval {
					prov.inject(kind, true)
				}
				if r != nil {
					if kind != verbs.EventTimewaitExit {
						r.t = t
						r.closed("the connection")
					}
					r.c.Close()
				}
				loginAgain(t, addr)
				quiet(t, srv)
			})
		}
	}
	for _, call := range []string{"NewQP", "Accept"} {
		t.Run(call+" fails", func(t *testing.T) {
			prov.fails(call, 0)
			if c, err := rdma.Open(t.Context(), softiwarp.New(softiwarp.Config{}), addr, rdma.Options{}); err == nil {
				c.Close()
				t.Error("connected")
			}
			prov.fails("", 0)
			loginAgain(t, addr)
			quiet(t, srv)
		})
	}
}

// halfOpen asks for a connection, reads the answer and goes.
func halfOpen(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(append([]byte("MPA ID Req Frame\x40\x02\x00\x08"), 0, 4, 0, 4, 0xc0, 0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if _, err := c.Read(b); err != nil || string(b) != "MPA ID Rep Frame" {
		t.Fatalf("%q, %v", b, err)
	}
}

package iserd_test

import (
	"bytes"
	"fmt"
	"net/netip"
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

// TestISERErrata has a test for each fault and limit of older targets that is not one
// of TestISERNegative, by the number it has in docs/iser.md.
func TestISERErrata(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"B2 receives do not drift", errDrift},
		{"B3 data beside the buffer", errBeside},
		{"B5 long answers", errLongAnswers},
		{"B8 shutdown with connections", errShutdown},
		{"B11 a close while waiting for memory", errCloseWaiting},
		{"B12 a transfer that is too long", errTooLong},
		{"B13 B14 task management", errTaskManagement},
		{"B15 SNACK", errSNACK},
		{"B16 posting fails", errPosting},
		{"B19 discovery with CHAP", errDiscoveryCHAP},
		{"B20 one rule for discovery and login", errOneRule},
		{"B21 Text again and again", errText},
		{"B23 reinstatement from the operational stage", errReinstatement},
		{"B24 unsolicited data of an aborted command", errUnsolicited},
		{"B26 events of the device", errDeviceEvents},
		{"B28 more answers than the send queue holds", errSendQueue},
		{"E1 small writes need no RDMA Read", errImmediate},
		{"E6 lengths that are no multiple of 4", errPadding},
		{"E7 bidirectional", errBidirectional},
		{"H1 small devices", errSmallDevice},
		{"H2 memory as it is needed", errLittleMemory},
		{"H4 H9 what the answer to a connection says", errAccept},
		{"H7 the group's tag", errGroupTag},
		{"H8 dead peers", errDeadPeer},
	} {
		t.Run(tt.name, tt.run)
	}
}

// open is a connection in the full feature phase, unit attentions taken.
func (r *raw) open(pairs ...text.Pair) *raw {
	r.t.Helper()
	r.login(pairs...)
	r.attentions()
	return r
}

func errDrift(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr).open(text.Pair{Key: "ImmediateData", Value: "Yes"})
	data := make([]byte, 4096)
	back, stag := r.mem(4096, 0)
	for i := range 600 { // each receive several times
		r.command(iser.Header{}, pdu.SCSICommand{Final: true}, make([]byte, 6), make([]byte, 4+4*(i%64)), nil)
		r.next()
	}
	for i := range data {
		data[i] = byte(i) ^ 0x5a
	}
	r.command(iser.Header{}, pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 4096}, cdb10(write10, 0, 8), nil, data)
	r.good()
	r.read(back, stag, 0)
	r.good()
	if !bytes.Equal(back, data) {
		t.Error("other data")
	}
}

func errBeside(t *testing.T) {
	l := login.DefaultLimits()
	l.InitialR2TOverISER = false
	_, _, addr := startISER(t, iserd.SessionLimits(l))
	r := openRaw(t, addr).open(text.Pair{Key: "InitialR2T", Value: "No"}, text.Pair{Key: "FirstBurstLength", Value: "65536"})
	zero, zeroTag := r.mem(1<<20, 0)
	clear(zero)
	for _, lba := range []uint32{0, 2048, 4096} {
		r.write(zero, zeroTag, lba)
		r.good()
	}
	mem, stag := r.mem(1<<20, 3)
	r.command(iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(mem) + 16384}, pdu.SCSICommand{
		Write: true, ExpectedDataTransferLength: 1 << 20, InitiatorTaskTag: 0x4242,
	}, cdb10(write10, 2048, 2048), nil, mem[:8192])
	r.send(&pdu.DataOut{Final: true, InitiatorTaskTag: 0x4242, TargetTransferTag: pdu.ReservedTag, BufferOffset: 8192, DataLen: 8192}, mem[8192:16384])
	r.good()
	back, backTag := r.mem(1<<20, 9)
	for lba, want := range map[uint32][]byte{0: zero, 2048: mem, 4096: zero} {
		r.read(back, backTag, lba)
		r.good()
		if !bytes.Equal(back, want) {
			t.Errorf("blocks from %d on hold other data", lba)
		}
	}
}

// errLongAnswers: the answer to a login with many keys is at most 8192 bytes long.
func errLongAnswers(t *testing.T) {
	_, _, addr := startISER(t)
	var pairs []text.Pair
	for i := range 110 {
		pairs = append(pairs, text.Pair{Key: fmt.Sprintf("X-com.example.%s-%d", strings.Repeat("k", 40), i), Value: "v"})
	}
	r := openRaw(t, addr)
	if got := r.login(pairs...); len(got) < len(pairs) {
		t.Errorf("%d answers to %d keys", len(got), len(pairs))
	}
	r.attentions()
}

func errShutdown(t *testing.T) {
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = prov.Close() })
	_, addr := serveISER(t, prov, iserd.Limits{})
	s := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, s)
	r := openRaw(t, addr)
	r.poll(time.Millisecond)
	// The server is shut down at the end of the test, with both connected.
}

// errCloseWaiting: connections go away while others have all the memory.
func errCloseWaiting(t *testing.T) {
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = prov.Close() })
	srv, addr := serveISER(t, prov, iserd.Limits{BufferMemory: 48 << 20, CommandWindow: 16})
	for range 4 {
		var all []*raw
		for range 3 {
			r := openRaw(t, addr).open()
			mem, stag := r.mem(4<<20, 0)
			for range 4 {
				r.write(mem, stag, 0)
			}
			all = append(all, r)
		}
		for _, r := range all {
			r.c.Close()
		}
		quiet(t, srv)
	}
	loginAgain(t, addr)
}

func errTooLong(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr).open()
	mem, stag := r.mem(4096, 0)
	for _, write := range []bool{false, true} {
		ih := iser.Header{RSV: true, ReadSTag: stag, ReadBase: addrOf(mem)}
		c, cdb := pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 40000 * 512}, cdb10(read10, 0, 40000)
		if write {
			ih = iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(mem)}
			c, cdb = pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 40000 * 512}, cdb10(write10, 0, 40000)
		}
		r.command(ih, c, cdb, nil, nil)
		if resp := r.response(); resp.Status != 2 {
			t.Errorf("write %v: %+v, want CHECK CONDITION", write, resp)
		}
	}
	r.alive()
}

// errTaskManagement: each function is answered, the session goes on, and CLEAR ACA
// ends no other initiator's commands.
func errTaskManagement(t *testing.T) {
	_, _, addr := startISER(t)
	other := openRaw(t, addr).open()
	mem, stag := other.mem(4<<20, 5)
	for fn := range pdu.TMFunction(14) {
		r := openRaw(t, addr).open()
		if fn == pdu.ClearACA {
			other.attentions() // of the resets before
			other.write(mem, stag, 0)
		}
		r.send(&pdu.TaskManagementRequest{
			Immediate: true, Function: fn, InitiatorTaskTag: 0x77, ReferencedTaskTag: pdu.ReservedTag, CmdSN: r.cmdSN, RefCmdSN: r.cmdSN - 1,
		}, nil)
		if m := r.next(); m.BHS.Opcode() != pdu.OpTaskManagementResponse && m.BHS.Opcode() != pdu.OpReject {
			t.Errorf("function %d: %v", fn, m.BHS.Opcode())
		}
		if fn == pdu.ClearACA {
			other.good()
		}
		if fn != pdu.TargetColdReset { // which may end sessions, RFC 7143 §11.5.1
			r.attentions()
		}
		r.c.Close()
	}
}

func errSNACK(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr).open()
	r.send(&pdu.SNACK{InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}, nil)
	if m := r.next(); m.BHS.Opcode() != pdu.OpReject || len(m.Data) != pdu.BHSLen {
		t.Errorf("%v with %d bytes", m.BHS.Opcode(), len(m.Data))
	}
	r.alive()
}

// errPosting: the adapter refuses a work request; that connection ends, with all it
// has, and no other.
func errPosting(t *testing.T) {
	prov := newFrail(t)
	srv, addr := serveISER(t, prov, iserd.Limits{})
	for _, call := range []string{"PostSend", "PostRecv"} {
		for n := range 12 {
			prov.fails(call, n)
			if s, err := rdmaLogin(t, addr); err == nil {
				data := make([]byte, 64<<10)
				for range 20 {
					if _, err := s.Exec(t.Context(), 0, cdb10(write10, 0, 128), data, 0); err != nil {
						break
					}
				}
				s.Close()
			}
			prov.fails("", 0)
			loginAgain(t, addr)
			quiet(t, srv)
		}
	}
}

func errDiscoveryCHAP(t *testing.T) {
	srv, _, addr := startISER(t)
	secret := []byte("a secret of 20 bytes")
	undo, err := srv.SetDiscovery("default", iserd.CHAP(map[string][]byte{"user": secret}))
	if err != nil {
		t.Fatal(err)
	}
	defer undo()
	discover := func(c initiator.CHAP) error {
		s, err := initiator.Login(t.Context(), dialISER(t, addr, rdma.Options{}), initiator.Options{SessionType: initiator.DiscoverySession, CHAP: c})
		if err != nil {
			return err
		}
		defer s.Close()
		targets, err := s.SendTargets(t.Context(), "All")
		if err == nil && len(targets) != 1 {
			err = fmt.Errorf("%d targets", len(targets))
		}
		return err
	}
	if err := discover(initiator.CHAP{User: "user", Secret: secret}); err != nil {
		t.Error(err)
	}
	for _, c := range []initiator.CHAP{{}, {User: "user", Secret: []byte("another one, 20 bytes")}} {
		if discover(c) == nil {
			t.Errorf("discovery with %q", c.Secret)
		}
	}
}

// errOneRule: who may log in discovers the target, and nobody else.
func errOneRule(t *testing.T) {
	srv, _, addr := startISER(t)
	const name, friend = "iqn.2026-11.com.example:private", "iqn.2026-11.com.example:friend"
	b, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddTarget(t.Context(), name, iserd.Access(iserd.Allow(friend)), iserd.LUN(0, b)); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{friend, "iqn.2026-11.com.example:stranger"} {
		d, err := initiator.Login(t.Context(), dialISER(t, addr, rdma.Options{}), initiator.Options{SessionType: initiator.DiscoverySession, InitiatorName: who})
		if err != nil {
			t.Fatal(err)
		}
		targets, err := d.SendTargets(t.Context(), "All")
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		s, err := initiator.Login(t.Context(), dialISER(t, addr, rdma.Options{}), initiator.Options{TargetName: name, InitiatorName: who, Extra: rdma.Keys()})
		if err == nil {
			s.Close()
		}
		if may := who == friend; may != (err == nil) || may != (len(targets) == 2) {
			t.Errorf("%s: login %v, sees %+v", who, err, targets)
		}
	}
}

func errText(t *testing.T) {
	_, _, addr := startISER(t)
	s := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, s)
	first := ""
	for i := range 400 { // more than there are receives
		targets, err := s.SendTargets(t.Context(), "")
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if got := fmt.Sprint(targets); i == 0 {
			first = got
		} else if got != first {
			t.Fatalf("%s became %s", first, got)
		}
	}
}

func errReinstatement(t *testing.T) {
	_, _, addr := startISER(t)
	isid := initiator.RandomISID()
	var old *raw
	for range 5 {
		r := openRaw(t, addr)
		if err := r.c.PostRecvs(32, rdma.Recv); err != nil {
			t.Fatal(err)
		}
		r.loginAs(isid) // begins in LoginOperationalNegotiation
		if old != nil {
			old.closed("the session before")
		}
		r.attentions()
		old = r
	}
}

// errUnsolicited: a command waits for unsolicited data; it is aborted, or its
// connection goes.
func errUnsolicited(t *testing.T) {
	l := login.DefaultLimits()
	l.InitialR2TOverISER = false
	srv, _, addr := startISER(t, iserd.SessionLimits(l))
	for _, abort := range []bool{true, false} {
		for range 20 {
			r := openRaw(t, addr).open(text.Pair{Key: "InitialR2T", Value: "No"}, text.Pair{Key: "FirstBurstLength", Value: "65536"})
			mem, _ := r.mem(64<<10, 0)
			ref := r.cmdSN
			r.command(iser.Header{}, pdu.SCSICommand{Write: true, ExpectedDataTransferLength: 64 << 10, InitiatorTaskTag: 0x31}, cdb10(write10, 0, 128), nil, mem[:8192])
			r.send(&pdu.DataOut{InitiatorTaskTag: 0x31, TargetTransferTag: pdu.ReservedTag, BufferOffset: 8192, DataLen: 8192}, mem[8192:16384])
			if abort {
				r.send(&pdu.TaskManagementRequest{
					Immediate: true, Function: pdu.AbortTask, InitiatorTaskTag: 0x32, ReferencedTaskTag: 0x31, CmdSN: r.cmdSN, RefCmdSN: ref,
				}, nil)
				if m := r.next(); m.BHS.Opcode() != pdu.OpTaskManagementResponse || m.BHS[2] != byte(pdu.FunctionComplete) {
					t.Fatalf("%v, response %d", m.BHS.Opcode(), m.BHS[2])
				}
				r.alive()
			}
			r.c.Close()
		}
		quiet(t, srv)
	}
}

func errDeviceEvents(t *testing.T) {
	prov := newFrail(t)
	srv, addr := serveISER(t, prov, iserd.Limits{})
	for _, kind := range []verbs.DeviceEventKind{
		verbs.DevicePortDown, verbs.DevicePortActive, verbs.DeviceQPFatal, verbs.DeviceQPRequestError, verbs.DeviceQPAccessError,
		verbs.DeviceCQError, verbs.DeviceFatal,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			r := openRaw(t, addr).open()
			prov.mu.Lock()
			dev, qpn, cq := prov.dev, prov.qpn, prov.cq
			prov.mu.Unlock()
			dev.events <- verbs.DeviceEvent{Kind: kind, QPN: qpn, CQ: cq, Port: 1}
			if kind == verbs.DevicePortDown || kind == verbs.DevicePortActive {
				r.alive()
			} else {
				r.closed(kind.String())
			}
			r.c.Close()
			loginAgain(t, addr)
			quiet(t, srv)
		})
	}
}

// errSendQueue: more reads at once than the send queue has room for, in one burst.
func errSendQueue(t *testing.T) {
	prov := newFrail(t)
	prov.caps = func(c *verbs.Caps) { c.MaxWR, c.MaxMessage = 160, 4096 } // a read of 256 KiB is 64 RDMA Writes
	_, addr := serveISER(t, prov, iserd.Limits{})
	s := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, s)
	data := bytes.Repeat([]byte("a burst "), 32<<10)
	if res, err := s.Exec(t.Context(), 0, cdb10(write10, 0, 512), data, 0); err != nil || res.Status != 0 {
		t.Fatal(res, err)
	}
	var tasks []*initiator.Task
	for range 64 {
		task, err := s.Start(t.Context(), initiator.Command{CDB: cdb10(read10, 0, 512), DataInLen: len(data)})
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	for _, task := range tasks {
		if res, err := task.Wait(t.Context()); err != nil || res.Status != 0 || !bytes.Equal(res.Data, data) {
			t.Fatal(res, err)
		}
	}
}

// errImmediate: with ImmediateData=Yes a write of 4 KiB is one message; no memory of
// the initiator is named.
func errImmediate(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr)
	for _, p := range r.login(text.Pair{Key: "ImmediateData", Value: "Yes"}, text.Pair{Key: "FirstBurstLength", Value: "8192"}) {
		if p.Key == "ImmediateData" && p.Value != "Yes" {
			t.Errorf("ImmediateData=%s", p.Value)
		}
	}
	r.attentions()
	r.command(iser.Header{}, pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 4096}, cdb10(write10, 0, 8), nil, make([]byte, 4096))
	r.good()
}

func errPadding(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr).open()
	for n := 1; n <= 9; n++ {
		for _, pad := range []int{0, -n & 3} { // the padding may be left out, or sent
			p := pdu.NOPOut{Immediate: true, InitiatorTaskTag: 9, TargetTransferTag: pdu.ReservedTag, CmdSN: r.cmdSN, DataLen: n}
			b := make([]byte, iser.HeaderLen+pdu.BHSLen+n+pad)
			(&iser.Header{}).Encode(b)
			p.Encode((*pdu.BHS)(b[iser.HeaderLen:]))
			for i := range n {
				b[iser.HeaderLen+pdu.BHSLen+i] = byte(i + 1)
			}
			if err := r.c.SendMessage(b); err != nil {
				t.Fatal(err)
			}
			if m := r.next(); !bytes.Equal(m.Data, b[iser.HeaderLen+pdu.BHSLen:][:n]) {
				t.Errorf("%d bytes, %d of padding: % x came back", n, pad, m.Data)
			}
		}
	}
}

func errBidirectional(t *testing.T) {
	_, _, addr := startISER(t)
	r := openRaw(t, addr).open()
	mem, stag := r.mem(4096, 0)
	r.command(iser.Header{WSV: true, RSV: true, WriteSTag: stag, ReadSTag: stag, WriteBase: addrOf(mem), ReadBase: addrOf(mem)},
		pdu.SCSICommand{Final: true, Read: true, Write: true, ExpectedDataTransferLength: 4096}, cdb10(0x53, 0, 8), nil, nil) // XDWRITEREAD(10)
	if m := r.next(); m.BHS.Opcode() != pdu.OpReject && (m.BHS.Opcode() != pdu.OpSCSIResponse || m.BHS[3] == 0) {
		t.Errorf("%v, status %#x", m.BHS.Opcode(), m.BHS[3])
	}
	r.alive()
}

func errSmallDevice(t *testing.T) {
	prov := newFrail(t)
	prov.caps = func(c *verbs.Caps) {
		c.MaxWR, c.MaxRDAtom, c.MaxInitRDAtom, c.MaxCQE = 128, 1, 1, 1024
	}
	_, addr := serveISER(t, prov, iserd.Limits{})
	for range 4 {
		s := connectISER(t, addr, rdma.Options{}, nil)
		ready(t, s)
		for _, blocks := range []uint16{1, 64, 2048} {
			roundTrip(t, s, 0, blocks)
		}
	}
}

func errLittleMemory(t *testing.T) {
	srv, _, addr := startISER(t)
	if u, err := srv.RDMAUsage(t.Context()); err != nil || u.Registered != 0 {
		t.Errorf("before the first connection: %+v, %v", u, err)
	}
	r := openRaw(t, addr).open()
	if u, err := srv.RDMAUsage(t.Context()); err != nil || u.Registered > 32<<20 || u.InUse > 4<<20 {
		t.Errorf("with one connection: %+v, %v", u, err)
	}
	r.alive()
}

func errAccept(t *testing.T) {
	prov := newFrail(t)
	_, addr := serveISER(t, prov, iserd.Limits{})
	for _, depth := range []int{1, 4, 64} {
		r := openRawWith(t, addr, rdma.Options{Depth: depth}).open()
		all := prov.accepted()
		p := all[len(all)-1]
		if p.RNRRetryCount != 7 || p.RetryCount != 7 || int(p.InitiatorDepth) != min(depth, 16) || len(p.Private) != 4 || p.Private[0]&0x80 == 0 {
			t.Errorf("with %d RDMA Reads: %+v", depth, p)
		}
		mem, stag := r.mem(4<<20, 0)
		r.write(mem, stag, 0)
		r.good()
		r.c.Close()
	}
}

func errGroupTag(t *testing.T) {
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = prov.Close() })
	srv, _ := serveISER(t, prov, iserd.Limits{})
	addr, stop, err := srv.AddISERPortal(t.Context(), prov, netip.MustParseAddrPort("127.0.0.1:0"), iserd.InGroup(iserd.PortalGroup{Name: "other", Tag: 77}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	tag := ""
	for _, p := range openRaw(t, addr).login() {
		if p.Key == "TargetPortalGroupTag" {
			tag = p.Value
		}
	}
	if tag != "77" {
		t.Errorf("TargetPortalGroupTag=%s", tag)
	}
}

// errDeadPeer: an initiator that answers no ping is let go of.
func errDeadPeer(t *testing.T) {
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = prov.Close() })
	_, addr := serveISER(t, prov, iserd.Limits{NopInterval: time.Second, NopTimeout: 500 * time.Millisecond})
	r := openRaw(t, addr).open()
	if m := r.next(); m.BHS.Opcode() != pdu.OpNOPIn {
		t.Fatal(m.BHS.Opcode())
	}
	r.closed("no answer")
}

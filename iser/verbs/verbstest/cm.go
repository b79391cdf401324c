package verbstest

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// What a provider tells about itself makes sense.
func testDevices(e *env) {
	devices, err := e.c.Provider.Devices()
	e.check(err, "Devices")
	again, err := e.c.Provider.Devices()
	e.check(err, "Devices")
	if len(devices) == 0 || len(again) != len(devices) {
		e.Fatalf("Devices: %d, then %d", len(devices), len(again))
	}
	for i, d := range devices {
		if again[i] != d {
			e.Errorf("%s is another Device in the second list", d.Name())
		}
		c := d.Caps()
		e.Logf("%s: %+v", d.Name(), c)
		for name, n := range map[string]int{
			"MaxWR": c.MaxWR, "MaxSGE": c.MaxSGE, "MaxReadSGE": c.MaxReadSGE, "MaxInitRDAtom": c.MaxInitRDAtom,
			"MaxRDAtom": c.MaxRDAtom, "MaxCQE": c.MaxCQE, "MaxQP": c.MaxQP, "MaxCQ": c.MaxCQ, "MaxMR": c.MaxMR,
			"MaxMessage": int(c.MaxMessage), "MaxPrivateREQ": c.MaxPrivateREQ, "MaxPrivateREP": c.MaxPrivateREP,
			"MaxPrivateREJ": c.MaxPrivateREJ, "Transport": int(c.Transport),
		} {
			if n <= 0 {
				e.Errorf("%s: %s is %d", d.Name(), name, n)
			}
		}
		ports, err := d.Ports()
		e.check(err, "Ports")
		for _, p := range ports {
			e.Logf("%s: %+v", d.Name(), p)
		}
		if len(ports) == 0 {
			e.Errorf("%s has no ports", d.Name())
		}
	}
}

// Next ends with its context, and with Close.
func testNext(e *env) {
	cm, err := e.c.Provider.NewCM()
	e.check(err, "NewCM")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err = cm.Next(ctx)
	e.wantErr(err, context.DeadlineExceeded, "Next")
	_, err = cm.Next(ctx)
	e.wantErr(err, context.DeadlineExceeded, "Next again")
	done := make(chan error)
	go func() {
		_, err := cm.Next(context.Background())
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	e.check(cm.Close(), "Close")
	e.wantErr(<-done, verbs.ErrClosed, "Next across Close")
}

// An address that is nobody's, here or at all, is refused.
func testListenErrors(e *env) {
	// RFC 5737: an address for documentation.
	_, err := e.target.cm.Listen(netip.MustParseAddrPort("192.0.2.1:0"), 1)
	e.wantErr(err, verbs.ErrNoDevice, "Listen on a foreign address")
	l := e.listen()
	if l.Addr().Port() == 0 || l.Addr().Addr() != e.c.Target {
		e.Errorf("Addr is %v", l.Addr())
	}
	if l.Device() == nil {
		e.Error("a listener with an address has no device")
	}
	_, err = e.target.cm.Listen(l.Addr(), 1)
	if err == nil {
		e.Error("a second listener on the same port was made")
	}
}

// Private data and the depth of RDMA Reads arrive on both sides.
func testConnect(e *env) {
	l := e.listen()
	i := e.dial(l.Addr())
	e.check(i.conn.Connect(verbs.ConnParam{Private: []byte("to the target"), ResponderResources: 3, InitiatorDepth: 1, RetryCount: 7, RNRRetryCount: 7}), "Connect")
	ev := e.target.event(nil, verbs.EventConnectRequest)
	if ev.Listener != l {
		e.Errorf("request's listener is %v", ev.Listener)
	}
	e.private(ev.Param.Private, "to the target", ev.Conn.Device())
	if ev.Param.InitiatorDepth != 3 || ev.Param.ResponderResources != 1 {
		e.Errorf("request: InitiatorDepth %d, ResponderResources %d; want 3, 1", ev.Param.InitiatorDepth, ev.Param.ResponderResources)
	}
	if ev.Conn.Local() != l.Addr() {
		e.Errorf("target's local address %v, want %v", ev.Conn.Local(), l.Addr())
	}
	if e.c.Initiator.IsValid() && ev.Conn.Peer().Addr() != e.c.Initiator {
		e.Errorf("target's peer is %v, want %v", ev.Conn.Peer(), e.c.Initiator)
	}
	if i.conn.Peer() != l.Addr() {
		e.Errorf("initiator's peer is %v, want %v", i.conn.Peer(), l.Addr())
	}
	t := e.target.take(ev.Conn)
	e.check(t.conn.Accept(verbs.ConnParam{Private: []byte("to the initiator"), ResponderResources: 1, InitiatorDepth: 2, RNRRetryCount: 7}), "Accept")
	ev = e.initiator.event(i.conn, verbs.EventEstablished)
	e.private(ev.Param.Private, "to the initiator", i.conn.Device())
	if ev.Param.ResponderResources != 2 {
		e.Errorf("reply: ResponderResources %d, want 2", ev.Param.ResponderResources)
	}
	e.target.event(t.conn, verbs.EventEstablished)
	e.check(t.conn.CommEst(), "CommEst on an established connection")
	if _, err := t.conn.NewQP(verbs.QPConfig{SendCQ: e.target.cq, RecvCQ: e.target.cq, QPCap: verbs.QPCap{MaxSendWR: 1, MaxRecvWR: 1, MaxSendSGE: 1, MaxRecvSGE: 1}}); err == nil {
		e.Error("a second NewQP did not fail")
	}
}

// private checks private data, which InfiniBand pads.
func (e *env) private(got []byte, want string, d verbs.Device) {
	e.Helper()
	rest, ok := bytes.CutPrefix(got, []byte(want))
	if d.Caps().Transport == verbs.TransportInfiniBand {
		rest = bytes.TrimRight(rest, "\x00")
	}
	if !ok || len(rest) > 0 {
		e.Errorf("private data %q, want %q", got, want)
	}
}

// A refusal arrives with its private data, and each side can close.
func testReject(e *env) {
	l := e.listen()
	i := e.dial(l.Addr())
	i.recv(2)
	e.check(i.conn.Connect(param("please")), "Connect")
	req := e.target.event(nil, verbs.EventConnectRequest)
	e.check(req.Conn.Reject([]byte("no")), "Reject")
	e.check(req.Conn.Close(), "Close")
	ev := e.initiator.event(i.conn, verbs.EventRejected)
	e.private(ev.Param.Private, "no", i.conn.Device())
	if ev.Status == 0 {
		e.Error("a refusal without a status")
	}
	e.check(i.qp.ToError(), "ToError")
	i.flushed(2)
}

// Closing a request that was not answered refuses it.
func testCloseRequest(e *env) {
	i := e.dial(e.listen().Addr())
	e.check(i.conn.Connect(param("")), "Connect")
	e.check(e.target.event(nil, verbs.EventConnectRequest).Conn.Close(), "Close")
	e.initiator.event(i.conn, verbs.EventRejected, verbs.EventUnreachable, verbs.EventConnectError)
}

// refused checks that nobody can connect to addr. A provider over TCP may
// learn that in Dial already.
func (e *env) refused(addr netip.AddrPort) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), e.c.Timeout)
	defer cancel()
	conn, err := e.initiator.cm.Dial(ctx, e.c.Initiator, addr)
	if err != nil {
		return
	}
	i := e.initiator.take(conn)
	if i.conn.Connect(param("")) == nil {
		e.initiator.event(i.conn, verbs.EventRejected, verbs.EventUnreachable, verbs.EventConnectError)
	}
}

func testNobodyListens(e *env) {
	l, err := e.target.cm.Listen(netip.AddrPortFrom(e.c.Target, 0), 1)
	e.check(err, "Listen")
	addr := l.Addr()
	e.check(l.Close(), "Close")
	e.refused(addr)
}

// Closing a listener leaves its connections, and frees its port.
func testListenerClose(e *env) {
	l, err := e.target.cm.Listen(netip.AddrPortFrom(e.c.Target, 0), 8)
	e.check(err, "Listen")
	t, i := e.connect(l)
	e.check(l.Close(), "Close")
	e.check(l.Close(), "second Close")
	i.post(i.msg(1, "still here"))
	e.same(t.received(), "still here")
	i.ok(1)
	e.refused(l.Addr())
	l, err = e.target.cm.Listen(l.Addr(), 8)
	e.check(err, "Listen again")
	e.Cleanup(func() { e.check(l.Close(), "close listener") })
	t2, i2 := e.connect(l)
	i2.post(i2.msg(1, "again"))
	e.same(t2.received(), "again")
}

// over checks that the peer's connection has ended: all receives are flushed,
// what is posted now as well.
func (p *peer) over(receives int) {
	p.s.e.Helper()
	p.s.e.check(p.qp.ToError(), p.s.name+": ToError")
	p.flushed(receives)
	p.post(p.msg(9, "late"))
	p.status(verbs.WCFlushed)
}

func testDisconnectInitiator(e *env) {
	t, i := e.pair()
	e.check(i.conn.Disconnect(), "Disconnect")
	e.target.event(t.conn, verbs.EventDisconnected)
	e.check(t.conn.Disconnect(), "Disconnect in answer")
	e.initiator.event(i.conn, verbs.EventDisconnected)
	e.check(i.conn.Disconnect(), "second Disconnect")
	t.over(recvWRs)
	i.over(recvWRs)
	t.quiet()
}

func testDisconnectTarget(e *env) {
	t, i := e.pair()
	e.check(t.conn.Disconnect(), "Disconnect")
	e.initiator.event(i.conn, verbs.EventDisconnected)
	e.check(i.conn.Disconnect(), "Disconnect in answer")
	e.target.event(t.conn, verbs.EventDisconnected)
	i.over(recvWRs)
	t.over(recvWRs)
}

// An end that is closed without a word ends the other one.
func testCloseAbruptly(e *env) {
	t, i := e.pair()
	i.close()
	e.target.event(t.conn, verbs.EventDisconnected)
	t.over(recvWRs)
	e.check(t.conn.Close(), "Close")
	e.check(t.conn.Close(), "second Close")
	e.wantErr(t.conn.Disconnect(), verbs.ErrClosed, "Disconnect after Close")
	_, err := t.qp.PostSend([]verbs.SendWR{{Op: verbs.OpSend}})
	e.wantErr(err, verbs.ErrClosed, "PostSend after Close")
}

// Closing with work requests under way returns, and the memory is free then.
func testCloseBusy(e *env) {
	t, i := e.pair()
	addr, key := i.remote(bulkAt)
	for n := range uint64(16) {
		t.post(verbs.SendWR{ID: n, Op: verbs.OpWrite, Flags: verbs.SendSignaled, SG: []verbs.SGE{t.at(bulkAt, bulk)}, RAddr: addr, RKey: key})
	}
	for n := range uint64(4) {
		t.post(verbs.SendWR{ID: n, Op: verbs.OpRead, Flags: verbs.SendSignaled, SG: []verbs.SGE{t.at(bulkAt, bulk)}, RAddr: addr, RKey: key})
	}
	e.turn()
	t.close()
	e.initiator.event(i.conn, verbs.EventDisconnected)
	i.over(recvWRs)
}

// Many connections share a CQ; their data does not mix.
func testManyConnections(e *env) {
	const n = 16
	l := e.listen()
	var ts, is [n]*peer
	for k := range n {
		ts[k], is[k] = e.connect(l)
	}
	for round := range 3 {
		for k, i := range is {
			i.post(i.msg(uint64(round), strings.Repeat(string(rune('a'+k)), 100+round)))
		}
		for k, t := range ts {
			e.same(t.received(), strings.Repeat(string(rune('a'+k)), 100+round))
			t.post(t.msg(uint64(round), string(rune('A'+k))))
		}
		for k, i := range is {
			e.same(i.received(), string(rune('A'+k)))
			i.ok(1)
			ts[k].ok(1)
		}
	}
	ts[3].close()
	e.initiator.event(is[3].conn, verbs.EventDisconnected)
	is[4].post(is[4].msg(1, "not me"))
	e.same(ts[4].received(), "not me")
}

// Connections can be made and closed over and over.
func testReconnect(e *env) {
	l := e.listen()
	for range 20 {
		t, i := e.connect(l)
		e.check(i.conn.Disconnect(), "Disconnect")
		e.target.event(t.conn, verbs.EventDisconnected)
		t.close()
		i.close()
	}
}

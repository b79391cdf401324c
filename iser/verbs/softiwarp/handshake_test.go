package softiwarp

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// In the peer-to-peer model the passive side may send first, after the
// message that it has chosen of those that the peer offers.
func TestReadyToReceive(t *testing.T) {
	request := func(r rtr) mpaFrame {
		f := rawRequest
		f.peerToPeer, f.rtr = true, r
		return f
	}
	read := make([]byte, readReqLen)
	for name, c := range map[string]struct {
		offer, want rtr
		message     func(r *raw) []byte
	}{
		"write": {rtrWrite | rtrRead | rtrFPDU, rtrWrite, func(r *raw) []byte {
			return r.fpdu(segment{op: opWrite, tagged: true, last: true}, nil)
		}},
		"read": {rtrRead | rtrFPDU, rtrRead, func(r *raw) []byte {
			return r.fpdu(segment{op: opReadRequest, qn: qnReadReq, msn: 1, last: true}, read)
		}},
		"FPDU": {rtrFPDU, rtrFPDU, func(*raw) []byte { return make([]byte, 8) }},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t, Config{})
			r := dialRaw(t, v.l)
			f := request(c.offer)
			r.write(f.append(nil))
			v.conn = v.event(verbs.EventConnectRequest).Conn.(*Conn)
			v.newQP()
			must(t, v.conn.Accept(param))
			v.event(verbs.EventEstablished)
			if f := r.reply(); !f.peerToPeer || f.rtr != c.want {
				t.Fatalf("reply %+v, want RTR %b", f, c.want)
			}
			v.send(verbs.SendWR{ID: 1, Op: verbs.OpSend, Flags: verbs.SendSignaled})
			v.poll()
			v.poll()
			if len(v.got) > 0 {
				t.Fatal("sent before the peer was ready")
			}
			r.write(c.message(r))
			seg, _, err := r.next(v.end)
			if err == nil && c.want == rtrRead {
				if seg.op != opReadResponse || !seg.last {
					t.Errorf("%+v, want a Read Response", seg)
				}
				seg, _, err = r.next(v.end)
			}
			if err != nil || seg.op != opSend {
				t.Errorf("%+v, %v; want a Send", seg, err)
			}
			v.wait(nil, 1)
		})
	}
}

// A peer that goes before it has an answer.
func TestGoneBeforeAccept(t *testing.T) {
	v := newVictim(t, Config{})
	r := dialRaw(t, v.l)
	r.write(rawRequest.append(nil))
	v.conn = v.event(verbs.EventConnectRequest).Conn.(*Conn)
	v.newQP()
	v.recv(1, 0, 8)
	must(t, r.c.Close())
	v.event(verbs.EventDisconnected)
	if err := v.conn.Accept(param); !errors.Is(err, verbs.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if got := v.wait(nil, 1); got[0].Status != verbs.WCFlushed {
		t.Errorf("%+v", got)
	}
	v.alive()
}

// Giving up while connecting.
func TestDisconnectEarly(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	a := newEnd(t, Config{})
	a.dial(netip.MustParseAddrPort(l.Addr().String()))
	a.newQP()
	a.recv(1, 0, 8)
	must(t, a.conn.Connect(param))
	a.none() // the request is sent, there is no reply
	must(t, a.conn.Disconnect())
	a.event(verbs.EventDisconnected)
	must(t, a.conn.Disconnect())
	a.none()
	if got := a.wait(nil, 1); got[0].Status != verbs.WCFlushed {
		t.Errorf("%+v", got)
	}
}

// A peer that accepts TCP and then says nothing.
func TestReplyTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	a := newEnd(t, Config{HandshakeTimeout: 30 * time.Millisecond})
	a.dial(netip.MustParseAddrPort(l.Addr().String()))
	a.newQP()
	must(t, a.conn.Connect(param))
	if ev := a.event(verbs.EventUnreachable); ev.Status != -int(unix.ETIMEDOUT) {
		t.Errorf("status %d", ev.Status)
	}
	a.none()
}

// Replies that cannot be accepted.
func TestBadReply(t *testing.T) {
	for name, f := range map[string]mpaFrame{
		"markers":    {reply: true, rev: 2, flags: mpaMarkers},
		"more Reads": {reply: true, rev: 2, flags: mpaIsEnh, ird: 4, ord: 5},
		"no RTR":     {reply: true, rev: 2, flags: mpaIsEnh, ird: 4, ord: 4, peerToPeer: true},
		"request":    {rev: 2},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			defer func() { _ = l.Close() }()
			a := newEnd(t, Config{PeerToPeer: true})
			a.dial(netip.MustParseAddrPort(l.Addr().String()))
			a.newQP()
			must(t, a.conn.Connect(param))
			c, err := l.Accept()
			must(t, err)
			defer func() { _ = c.Close() }()
			_, err = c.Write(f.append(nil))
			must(t, err)
			a.event(verbs.EventConnectError)
			a.none()
		})
	}
}

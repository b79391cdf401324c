package iser

import (
	"context"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/pdu"
)

// login does the login phase on c for a normal session. recvs are the receives
// for its full feature phase. It needs no goroutine: the PDUs of package initiator
// are sent and received where it writes and reads them.
func (c *Conn) login(ctx context.Context, o initiator.Options, recvs int) (*initiator.LoginResult, error) {
	return initiator.Negotiate(ctx, initiator.NewConn(&loginConn{c: c, recvs: recvs}), o)
}

// loginConn is a Conn as a net.Conn, for one goroutine and the login phase.
type loginConn struct {
	c        *Conn
	recvs    int
	out, in  []byte
	deadline atomic.Pointer[time.Time]
}

// Write sends the PDU that b is.
func (l *loginConn) Write(b []byte) (int, error) {
	l.out = append(l.out, b...)
	for len(l.out) >= pdu.BHSLen {
		p := initiator.PDU{BHS: pdu.BHS(l.out)}
		ahs, data := p.BHS.TotalAHSLength(), p.BHS.DataSegmentLength()
		total := pdu.BHSLen + ahs + data + pdu.Pad(data)
		if len(l.out) < total {
			break
		}
		p.AHS, p.Data = l.out[pdu.BHSLen:pdu.BHSLen+ahs], l.out[pdu.BHSLen+ahs:][:data]
		if err := l.c.sendLogin(&p, l.recvs, Recv); err != nil {
			return 0, err
		}
		l.out = l.out[total:]
	}
	return len(b), nil
}

// Read waits for the next PDU and returns its bytes, or what is left of them.
func (l *loginConn) Read(b []byte) (int, error) {
	for len(l.in) == 0 {
		if t := l.deadline.Load(); t != nil && !t.IsZero() && !time.Now().Before(*t) {
			return 0, os.ErrDeadlineExceeded
		}
		if err := l.c.Poll(time.Second, true, l.take); err != nil {
			return 0, err
		}
	}
	n := copy(b, l.in)
	l.in = l.in[n:]
	return n, nil
}

func (l *loginConn) take(m Message) error {
	var msg iser.Message
	if err := msg.Decode(m.Data); err != nil {
		return err
	}
	l.in = append(l.in, msg.BHS[:]...)
	l.in = append(l.in, msg.AHS...)
	l.in = append(l.in, msg.Data...)
	l.in = append(l.in, make([]byte, pdu.Pad(len(msg.Data)))...)
	return nil
}

// SetDeadline implements net.Conn. Any goroutine.
func (l *loginConn) SetDeadline(t time.Time) error {
	l.deadline.Store(&t)
	l.c.Wake()
	return nil
}

// SetReadDeadline implements net.Conn.
func (l *loginConn) SetReadDeadline(t time.Time) error { return l.SetDeadline(t) }

// SetWriteDeadline implements net.Conn; writes do not wait.
func (l *loginConn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr and RemoteAddr implement net.Conn.
func (l *loginConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(l.c.vc.Local()) }

// RemoteAddr is the target's address.
func (l *loginConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(l.c.vc.Peer()) }

// Close does nothing: the Conn goes on.
func (l *loginConn) Close() error { return nil }

var _ io.ReadWriteCloser = (*loginConn)(nil)

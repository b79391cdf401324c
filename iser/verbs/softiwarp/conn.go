package softiwarp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// connState is where a connection's setup is.
type connState uint8

const (
	connNew        connState = iota // active: before Connect
	connConnecting                  // active: TCP connects
	connReply                       // active: request sent
	connRequest                     // passive: request awaited
	connAsked                       // passive: to be accepted or rejected
	connUp                          // the socket is the queue pair's
	connOver                        // nothing but Close
	connClosed
)

// Conn is a connection. Lock order: see CQ.
type Conn struct {
	cm       *CM
	dev      *Device
	listener *Listener // passive
	active   bool

	mu          sync.Mutex // guards:
	state       connState
	fd          int
	token       uint64 // in the CM's epoll instance
	local, peer netip.AddrPort
	qp          *QP
	request     mpaFrame // passive: what the peer sent; active: what was sent
	param       verbs.ConnParam
	frame       [mpaHeaderLen + mpaMaxPD]byte
	frameLen    int

	endMu sync.Mutex // guards:
	ends  bool       // EventDisconnected was posted, or must not be
}

var _ verbs.Conn = (*Conn)(nil)

// errGone: the connection has ended, or was closed.
var errGone = fmt.Errorf("softiwarp: connection: %w", verbs.ErrClosed)

var (
	errOrder   = errors.New("softiwarp: not in this state of the connection")
	errPrivate = fmt.Errorf("softiwarp: more than %d bytes of private data", mpaMaxPrivate)
)

// Device implements verbs.Conn.
func (c *Conn) Device() verbs.Device { return c.dev }

// Local implements verbs.Conn.
func (c *Conn) Local() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.local
}

// Peer implements verbs.Conn.
func (c *Conn) Peer() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

// NewQP implements verbs.Conn. The queue pair is a *QP.
func (c *Conn) NewQP(cfg verbs.QPConfig) (verbs.QP, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qp != nil || (c.state != connNew && c.state != connAsked) {
		return nil, errOrder
	}
	q, err := newQP(c, cfg)
	if err != nil {
		return nil, err
	}
	c.qp = q
	return q, nil
}

// Connect implements verbs.Conn.
func (c *Conn) Connect(p verbs.ConnParam) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != connNew || c.qp == nil {
		return errOrder
	}
	if err := checkParam(p); err != nil {
		return err
	}
	c.param = p
	c.param.Private = append([]byte(nil), p.Private...)
	sa, _ := sockaddr(c.peer)
	c.state = connConnecting
	err := unix.Connect(c.fd, sa)
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		c.connectFailed(err)
		return nil
	}
	c.cm.startTimer(c, c.dev.cfg.HandshakeTimeout)
	c.token, err = c.cm.watch(c.fd, unix.EPOLLOUT, c)
	return err
}

func checkParam(p verbs.ConnParam) error {
	if len(p.Private) > mpaMaxPrivate {
		return errPrivate
	}
	if p.ResponderResources > maxRD || p.InitiatorDepth > maxRD {
		return fmt.Errorf("softiwarp: more than %d RDMA Reads at a time", maxRD)
	}
	return nil
}

// Accept implements verbs.Conn.
func (c *Conn) Accept(p verbs.ConnParam) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == connOver || c.state == connClosed {
		return errGone
	}
	if c.state != connAsked || c.qp == nil {
		return errOrder
	}
	if err := checkParam(p); err != nil {
		return err
	}
	r := &c.request
	reply := mpaFrame{reply: true, rev: r.rev, private: p.Private}
	n := negotiated{crc: c.dev.cfg.CRC || r.flags&mpaCRC != 0, ird: int(p.ResponderResources), ord: int(p.InitiatorDepth)}
	if n.crc {
		reply.flags |= mpaCRC
	}
	if r.flags&mpaIsEnh != 0 {
		reply.flags |= mpaIsEnh
		reply.ird, reply.ord = uint16(n.ird), uint16(min(n.ord, int(r.ird)))
		n.ord = int(reply.ord)
		if r.peerToPeer {
			reply.peerToPeer = true
			n.rtr = chooseRTR(r.rtr)
			reply.rtr = n.rtr
		}
	}
	c.unwatch()
	if err := c.sendFrame(&reply); err != nil {
		c.over()
		return fmt.Errorf("softiwarp: accept: %w", err)
	}
	return c.establish(n, verbs.Event{Kind: verbs.EventEstablished, Conn: c})
}

// chooseRTR picks what costs least of what the peer offers.
func chooseRTR(offered rtr) rtr {
	for _, r := range [...]rtr{rtrWrite, rtrRead, rtrFPDU} {
		if offered&r != 0 {
			return r
		}
	}
	return 0
}

// establish gives the socket to the queue pair. The event is posted first:
// afterwards others may follow.
func (c *Conn) establish(n negotiated, ev verbs.Event) error {
	c.state = connUp
	c.cm.post(ev)
	if err := c.qp.start(c.fd, n); err != nil {
		c.over()
		c.ended(-int(unix.ECONNABORTED))
		return err
	}
	return nil
}

// Reject implements verbs.Conn.
func (c *Conn) Reject(private []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == connOver || c.state == connClosed {
		return errGone
	}
	if c.state != connAsked {
		return errOrder
	}
	if len(private) > mpaMaxPrivate {
		return errPrivate
	}
	c.unwatch()
	c.reject(private)
	c.noEnd()
	c.over()
	return nil
}

// reject answers the request with a refusal.
func (c *Conn) reject(private []byte) {
	reply := mpaFrame{reply: true, rev: min(c.request.rev, 2), flags: mpaReject, private: private}
	reply.flags |= c.request.flags & (mpaIsEnh | mpaCRC)
	_ = c.sendFrame(&reply)
	_ = unix.Shutdown(c.fd, unix.SHUT_WR)
}

// CommEst implements verbs.Conn. There is nothing to be told: iWARP is
// established by the reply.
func (c *Conn) CommEst() error { return nil }

// Disconnect implements verbs.Conn.
func (c *Conn) Disconnect() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case connUp:
		return c.qp.ToError()
	case connConnecting, connReply, connAsked:
		c.unwatch()
		c.cm.stopTimer(c)
		c.over()
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		c.ended(0)
	case connClosed:
		return errGone
	default:
	}
	return nil
}

// Close implements verbs.Conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.state == connClosed {
		c.mu.Unlock()
		return nil
	}
	c.unwatch()
	c.state = connClosed
	c.noEnd()
	c.cm.stopTimer(c)
	if c.qp != nil {
		c.qp.destroy()
	}
	err := unix.Close(c.fd)
	l := c.listener
	c.mu.Unlock()
	c.cm.forget(c)
	if l != nil {
		l.release(c)
	}
	return err
}

// over ends the connection's setup without success. The queue pair is flushed.
func (c *Conn) over() {
	c.state = connOver
	if c.qp == nil {
		return
	}
	q := c.qp
	q.home.mu.Lock()
	defer q.home.mu.Unlock()
	if q.state == qpIdle {
		q.disconnect()
	}
}

// ended tells the application, once, that the connection has ended. Called
// with any locks but CM.queueMu.
func (c *Conn) ended(status int) {
	if c.noEnd() {
		c.cm.post(verbs.Event{Kind: verbs.EventDisconnected, Conn: c, Status: status})
	}
}

// noEnd sees to it that no EventDisconnected comes; false when one has.
func (c *Conn) noEnd() bool {
	c.endMu.Lock()
	defer c.endMu.Unlock()
	first := !c.ends
	c.ends = true
	return first
}

// given notes that Next gives out the request.
func (c *Conn) given() { c.listener.release(c) }

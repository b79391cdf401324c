package softiwarp

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// negotiated is what the MPA frames have settled.
type negotiated struct {
	active   bool
	crc      bool
	rtr      rtr // what the active side sends first
	ird, ord int
}

// pathULPDU is the longest ULPDU to send on the path of socket fd, as it is
// now.
func (d *Device) pathULPDU(fd int) int {
	n := ulpduFor(maxSegment(fd))
	if limit := d.cfg.MaxFPDU; limit > 0 {
		n = min(n, max(limit-fpduLenLen-fpduCRCLen, minULPDU))
	}
	return n
}

func (c *Conn) watch(events uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == connClosed {
		return errGone
	}
	token, err := c.cm.watch(c.fd, events, c)
	c.token = token
	return err
}

func (c *Conn) unwatch() {
	c.cm.unwatch(c.fd, c.token)
	c.token = 0
}

// sendFrame sends a frame; the socket is empty, so it takes all of it.
func (c *Conn) sendFrame(f *mpaFrame) error {
	b := f.append(make([]byte, 0, mpaHeaderLen+mpaEnhanced+len(f.private)))
	var msg unix.Msghdr
	n, errno := sendmsg(c.fd, &msg, []unix.Iovec{iovec(b)})
	if errno != 0 {
		return errno
	}
	if n < len(b) {
		return unix.EAGAIN
	}
	return nil
}

// readFrame reads no more than the frame; done when it is complete.
func (c *Conn) readFrame() (done bool, err error) {
	for {
		need := mpaHeaderLen
		if c.frameLen >= mpaHeaderLen {
			if need, err = mpaFrameLen(c.frame[:mpaHeaderLen], c.active); err != nil {
				return false, err
			}
			if c.frameLen > need {
				return false, errMPALength
			}
			if c.frameLen == need {
				return true, nil
			}
		} else if n := min(c.frameLen, mpaKeyLen); string(c.frame[:n]) != c.expectedKey()[:n] {
			return false, errMPAKey
		}
		n, errno := recv(c.fd, c.frame[c.frameLen:need])
		switch {
		case errno == unix.EAGAIN:
			return false, nil
		case errno != 0:
			return false, errno
		case n == 0:
			return false, unix.ECONNRESET
		}
		c.frameLen += n
	}
}

func (c *Conn) expectedKey() string {
	if c.active {
		return mpaReplyKey
	}
	return mpaRequestKey
}

// socketReady goes on with the handshake. Called by Next.
func (c *Conn) socketReady(uint32) {
	c.mu.Lock()
	keep := c.token == 0 || c.proceed()
	c.mu.Unlock()
	if !keep {
		_ = c.Close()
	}
}

// proceed does the next step; false when the connection is to be closed, which
// the application does not know.
func (c *Conn) proceed() (keep bool) {
	switch c.state {
	case connConnecting:
		c.connected()
	case connReply:
		c.replied()
	case connRequest:
		return c.requested()
	case connAsked:
		// The peer must be silent until it has a reply, so this is its end.
		c.unwatch()
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		c.over()
		c.ended(-int(unix.ECONNRESET))
	default:
	}
	return true
}

// requested reads the peer's request; false when there will be none.
func (c *Conn) requested() bool {
	done, err := c.readFrame()
	if err == nil && !done {
		if c.frameLen >= mpaHeaderLen {
			c.cm.rewatch(c.fd, unix.EPOLLIN|unix.EPOLLRDHUP, c.token)
		}
		return true
	}
	if err == nil {
		c.request, err = decodeMPA(c.frame[:c.frameLen], false)
	}
	if err == nil && (c.request.rev < 1 || c.request.rev > 2) {
		c.reject(nil)
		err = errMPARev
	}
	if err == nil && c.request.flags&mpaMarkers != 0 {
		c.reject(nil)
		err = errMPAMarkers
	}
	c.cm.stopTimer(c)
	if err != nil {
		return false
	}
	// Only its end is interesting now.
	c.cm.rewatch(c.fd, unix.EPOLLRDHUP, c.token)
	c.state = connAsked
	r := &c.request
	p := verbs.ConnParam{Private: append([]byte(nil), r.private...), ResponderResources: 1, InitiatorDepth: 1}
	if r.flags&mpaIsEnh != 0 {
		p.ResponderResources = uint8(min(int(r.ord), maxRD))
		p.InitiatorDepth = uint8(min(int(r.ird), maxRD))
	}
	c.cm.post(verbs.Event{Kind: verbs.EventConnectRequest, Conn: c, Listener: c.listener, Param: p})
	return true
}

// connected sends the request, now that TCP has connected, or has not.
func (c *Conn) connected() {
	if errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
		c.connectFailed(unix.Errno(errno))
		return
	}
	c.local = localAddr(c.fd)
	cfg := &c.dev.cfg
	c.request = mpaFrame{
		rev: 2, flags: mpaIsEnh, private: c.param.Private, peerToPeer: cfg.PeerToPeer,
		ird: uint16(c.param.ResponderResources), ord: uint16(c.param.InitiatorDepth),
	}
	if cfg.PeerToPeer {
		c.request.rtr = rtrWrite
	}
	if cfg.Revision1 {
		c.request.rev, c.request.flags = 1, 0
	}
	if cfg.CRC {
		c.request.flags |= mpaCRC
	}
	if err := c.sendFrame(&c.request); err != nil {
		c.connectFailed(err)
		return
	}
	c.state = connReply
	c.cm.rewatch(c.fd, unix.EPOLLIN|unix.EPOLLRDHUP, c.token)
}

// replied reads the peer's reply.
func (c *Conn) replied() {
	done, err := c.readFrame()
	if err == nil && !done {
		return
	}
	var reply mpaFrame
	if err == nil {
		reply, err = decodeMPA(c.frame[:c.frameLen], true)
	}
	if err != nil {
		c.connectFailed(err)
		return
	}
	private := append([]byte(nil), reply.private...)
	if reply.flags&mpaReject != 0 {
		c.failed(verbs.Event{Kind: verbs.EventRejected, Status: -int(unix.ECONNREFUSED), Param: verbs.ConnParam{Private: private}})
		return
	}
	n, err := c.agree(&reply)
	if err != nil {
		c.connectFailed(err)
		return
	}
	c.unwatch()
	c.cm.stopTimer(c)
	_ = c.establish(n, verbs.Event{Kind: verbs.EventEstablished, Conn: c, Param: verbs.ConnParam{
		Private:            private,
		ResponderResources: uint8(n.ird), InitiatorDepth: uint8(n.ord),
	}})
}

// agree settles what the reply says, RFC 6581 section 6.
func (c *Conn) agree(reply *mpaFrame) (negotiated, error) {
	n := negotiated{
		active: true, crc: c.request.flags&mpaCRC != 0 || reply.flags&mpaCRC != 0,
		ird: int(c.param.ResponderResources), ord: int(c.param.InitiatorDepth),
	}
	if reply.flags&mpaMarkers != 0 {
		return n, errMPAMarkers
	}
	if reply.flags&mpaIsEnh == 0 || c.request.flags&mpaIsEnh == 0 {
		return n, nil
	}
	if reply.ird != mpaDepthAny {
		n.ord = min(n.ord, int(reply.ird))
	}
	if reply.ord != mpaDepthAny && int(reply.ord) > n.ird {
		// The peer may not send more Reads than it was told; it does not
		// have to be believed that it will not.
		return n, faultIRD
	}
	n.ird = min(n.ird, int(reply.ord))
	if c.request.peerToPeer && reply.peerToPeer {
		n.rtr = reply.rtr & c.request.rtr
		if n.rtr == 0 {
			return n, faultRTR
		}
	}
	return n, nil
}

// connectFailed ends connecting because of err, in the terms of RDMA CM.
func (c *Conn) connectFailed(err error) {
	ev := verbs.Event{Kind: verbs.EventConnectError, Status: -int(unix.EPROTO)}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		ev.Status = -int(errno)
		switch errno {
		case unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE:
			ev.Kind = verbs.EventRejected
		case unix.ETIMEDOUT, unix.ENETUNREACH, unix.EHOSTUNREACH:
			ev.Kind = verbs.EventUnreachable
		default:
		}
	}
	c.failed(ev)
}

func (c *Conn) failed(ev verbs.Event) {
	c.unwatch()
	c.cm.stopTimer(c)
	c.noEnd()
	c.over()
	_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
	ev.Conn = c
	c.cm.post(ev)
}

// timeout ends a handshake that takes too long.
func (c *Conn) timeout() {
	c.mu.Lock()
	switch c.state {
	case connConnecting, connReply:
		c.connectFailed(unix.ETIMEDOUT)
	case connRequest:
		c.mu.Unlock()
		_ = c.Close()
		return
	default:
	}
	c.mu.Unlock()
}

package tcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// maxQueued is how many bytes may wait for a full socket before no further PDU
// is executed. A peer that does not read gets no further commands taken, and
// little has to be copied out of logical units for its sake.
const maxQueued = 64 << 10

// Socket is what a Conn runs on: *net.TCPConn, *net.UnixConn.
type Socket interface {
	net.Conn
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

// Config are the means of a connection.
type Config struct {
	Receive *bufpool.Pool // receive buffers, held only while there is something in them
	// MaxRecvDataSegmentLength is the longest data segment taken before the
	// login has declared one.
	MaxLoginData int
	// Foreign, if not nil, says whether what the connection began with can be
	// the beginning of another protocol's first message, and whether all of that
	// message is there: Turn then ends with ErrForeign.
	Foreign func(first []byte) (maybe, whole bool)
}

// ErrForeign ends a connection that began in another protocol. Its socket is
// open and not the Conn's any more: see Conn.Leave.
var ErrForeign = errors.New("tcp: the connection speaks another protocol")

// Conn moves the PDUs of one iSCSI connection over a socket. Turn, Flush and
// the methods of iscsi.Datamover belong to the connection's context; Serve is
// for the goroutine that owns the socket.
type Conn struct {
	sock   Socket
	raw    syscall.RawConn
	fd     int
	cfg    Config
	engine *iscsi.Conn

	headerDigest, dataDigest bool
	maxData                  int

	rx        receiver
	tx        sendQueue
	transfers transfers
	lingering bool // nothing is taken any more; the rest of the queue goes out
	closed    bool
	first     []byte // what a foreign connection began with

	kick   chan struct{} // to the flusher: the socket is full
	resume chan struct{} // to Serve: the queue is short again
}

// NewConn takes sock.
func NewConn(sock Socket, cfg Config) (*Conn, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	c := &Conn{
		sock: sock, raw: raw, cfg: cfg, maxData: cfg.MaxLoginData,
		kick: make(chan struct{}, 1), resume: make(chan struct{}, 1),
	}
	c.transfers.init()
	if err := raw.Control(func(fd uintptr) { c.fd = int(fd) }); err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	return c, nil
}

// Bind names the iSCSI layer above. It comes before Serve.
func (c *Conn) Bind(e *iscsi.Conn) { c.engine = e }

// Turn is one turn of the connection's context, asked for by the goroutines
// that wait for the socket. The context answers by calling Conn.Turn.
type Turn struct {
	flush bool
	park  bool // the socket has nothing (to read: empty, to write: full)
	pause bool // too much is unsent: do not read before resume
	Err   error
}

// Serve owns the socket: it waits for it and has run execute turns, until run
// reports false (the context is gone) or the socket ends. run must call
// Conn.Turn with its argument, on whatever goroutine, before it returns true.
// start starts the flusher's goroutine. The socket is closed on return, and
// nobody uses it any more, unless it is foreign: then it has left before.
func (c *Conn) Serve(run func(*Turn) bool, start func(func())) error {
	flushed := make(chan struct{})
	start(func() {
		defer close(flushed)
		c.flusher(run)
	})
	t := &Turn{}
	var idle spinner
	err := c.raw.Read(func(uintptr) bool {
		idle.woken()
		for {
			if !run(t) || t.Err != nil {
				return true
			}
			switch {
			case t.pause:
				<-c.resume
			case t.park && !idle.again():
				return false
			case !t.park:
				idle.busy()
			}
		}
	})
	close(c.kick)
	if errors.Is(t.Err, ErrForeign) {
		<-flushed // nothing was sent, so it waits for nothing
		return nil
	}
	c.shutdown()
	<-flushed
	c.sock.Close()
	switch {
	case t.Err != nil:
		return t.Err
	case err != nil && !errors.Is(err, net.ErrClosed):
		return err
	}
	return nil
}

// flusher waits for room in the socket whenever a turn has found none.
func (c *Conn) flusher(run func(*Turn) bool) {
	t := &Turn{flush: true}
	for range c.kick {
		// The first call comes after the poller was re-armed, so room that
		// appeared before is seen by the attempt, and later room wakes it.
		_ = c.raw.Write(func(uintptr) bool { return !run(t) || !t.park })
		select {
		case c.resume <- struct{}{}:
		default:
		}
	}
}

// Turn does what t asks for, in the connection's context.
func (c *Conn) Turn(t *Turn) {
	t.park, t.pause = false, false
	switch {
	case c.closed:
		t.Err = net.ErrClosed
	case t.flush:
		t.Err = c.flush()
		t.park = c.tx.blocked
	default:
		c.receiveTurn(t)
	}
	switch {
	case errors.Is(t.Err, ErrForeign):
		c.closed = true
	case t.Err != nil:
		c.Close()
	}
}

// Leave returns the socket of a connection whose turn has ended with ErrForeign,
// and all bytes that were received. The caller owns both.
func (c *Conn) Leave() (sock Socket, first []byte) { return c.sock, c.first }

// foreign looks at what a connection has begun with; true means that it may be
// another protocol's, and that more is needed to tell.
func (c *Conn) foreign() (wait bool, err error) {
	b := c.rx.bytes()
	maybe, whole := c.cfg.Foreign(b)
	switch {
	case whole:
		c.first = bytes.Clone(b)
		c.rx.drop()
		return false, ErrForeign
	case !maybe:
		c.cfg.Foreign = nil
	}
	return maybe, nil
}

func (c *Conn) receiveTurn(t *Turn) {
	var err error
	if c.rx.undone {
		err = c.process()
	}
	if err == nil && !c.congested() {
		t.park, err = c.receive()
	}
	if err == nil {
		err = c.flush()
	}
	if t.pause = err == nil && c.congested(); t.pause {
		// A resume from before may still be there: Serve then looks once more.
		t.park = false
	}
	switch {
	case err == nil:
	case errors.Is(err, iscsi.ErrLoggedOut), errors.Is(err, iscsi.ErrLoginFailed):
		c.linger()
	case errors.Is(err, errDataDigest):
		_ = c.flush() // the Reject, RFC 7143 §7.8, as far as the peer takes it
		t.Err = err
	default:
		t.Err = err
	}
}

// congested reports whether too much waits for a full socket.
func (c *Conn) congested() bool { return c.tx.blocked && c.tx.bytes > maxQueued }

// linger ends the connection in order: what is queued goes out, then a FIN;
// what comes in is dropped until the peer closes. Closing at once would reset
// the connection and could take the last response from the peer.
func (c *Conn) linger() {
	c.lingering = true
	if c.flush() == nil && !c.tx.blocked {
		_ = c.sock.CloseWrite() // a FIN; an error shows when reading
	}
}

// Lingering reports whether the connection is ending in order.
func (c *Conn) Lingering() bool { return c.lingering }

// Shutdown ends the connection as linger does, from above.
func (c *Conn) Shutdown() {
	if !c.closed && !c.lingering {
		c.linger()
	}
}

// Flush implements iscsi.Datamover. Errors show at the next turn.
func (c *Conn) Flush() { _ = c.flush() }

func (c *Conn) flush() error {
	if c.closed || c.tx.sent == len(c.tx.iov) {
		return nil
	}
	was := c.tx.blocked
	c.tx.blocked = false
	if err := c.tx.send(c.fd); err != nil {
		c.tx.drop()
		return os.NewSyscallError("sendmsg", err)
	}
	switch {
	case c.tx.blocked && !was:
		select {
		case c.kick <- struct{}{}:
		default:
		}
	case !c.tx.blocked && c.lingering:
		_ = c.sock.CloseWrite() // a FIN; an error shows when reading
	}
	return nil
}

// EnableDatamover implements iscsi.Datamover.
func (c *Conn) EnableDatamover(p *login.Params) {
	c.headerDigest, c.dataDigest = p.HeaderDigest, p.DataDigest
	c.maxData = p.MaxRecvDataSegmentLength
}

// Close gives back what the connection holds, in its context, and makes Serve
// return. The socket itself is closed by Serve.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.tx.drop()
	c.rx.drop()
	c.shutdown()
	select {
	case c.resume <- struct{}{}:
	default:
	}
}

// shutdown ends both directions. Errors mean that the peer has ended them.
func (c *Conn) shutdown() {
	_ = c.sock.CloseRead()
	_ = c.sock.CloseWrite()
}

// RemoteAddr and LocalAddr are those of the socket.
func (c *Conn) RemoteAddr() net.Addr { return c.sock.RemoteAddr() }

// LocalAddr is the address the peer has connected to.
func (c *Conn) LocalAddr() net.Addr { return c.sock.LocalAddr() }

// receive takes what the socket has, up to one buffer, and executes it.
func (c *Conn) receive() (empty bool, err error) {
	iov := c.rx.space(c.cfg.Receive)
	n, errno := recvv(c.fd, iov)
	switch {
	case errno == unix.EAGAIN:
		c.rx.idle()
		return true, nil
	case errno != 0:
		return false, os.NewSyscallError("recv", errno)
	case n == 0:
		if c.rx.midPDU() {
			return false, io.ErrUnexpectedEOF
		}
		return false, io.EOF
	}
	c.rx.filled(n)
	if c.lingering {
		c.rx.discard()
		return false, nil
	}
	if c.cfg.Foreign != nil {
		if wait, err := c.foreign(); wait || err != nil {
			return false, err
		}
	}
	return false, c.process()
}

var (
	errHeaderDigest = errors.New("header digest error")
	errDataDigest   = errors.New("data digest error")
)

// process executes the PDUs that are complete in the buffer: all, unless the
// answers get too many.
func (c *Conn) process() error {
	for {
		if c.rx.undone = c.congested(); c.rx.undone {
			return nil
		}
		more, err := c.next()
		if err != nil || !more {
			return err
		}
	}
}

// next executes one PDU or one step of it; false means that more bytes are
// needed.
func (c *Conn) next() (bool, error) {
	if c.rx.placed.active {
		return c.continuePlaced()
	}
	b := c.rx.bytes()
	if len(b) < pdu.BHSLen {
		return false, nil
	}
	h := (*pdu.BHS)(b)
	dsl := h.DataSegmentLength()
	if dsl > c.maxData {
		return false, fmt.Errorf("%v with a data segment of %d bytes, more than the %d declared", h.Opcode(), dsl, c.maxData)
	}
	hlen := pdu.BHSLen + h.TotalAHSLength()
	end := hlen
	if c.headerDigest {
		end += pdu.DigestLen
	}
	if len(b) < end {
		return false, nil
	}
	if c.headerDigest && !pdu.CheckDigest(b[hlen:], pdu.UpdateCRC32C(0, b[:hlen])) {
		c.tapIn(h, b[pdu.BHSLen:hlen], nil, iscsi.TapBadHeader)
		c.engine.CountDigestError(true)
		return false, errHeaderDigest
	}
	if total := end + c.dataLen(dsl); len(b) >= total {
		c.rx.consume(total)
		if c.dataDigest && dsl > 0 && !c.dataDigestGood(b[end:total]) {
			c.tapIn(h, b[pdu.BHSLen:hlen], b[end:end+dsl], iscsi.TapBadData)
			c.engine.CountDigestError(false)
			c.engine.Reject(h, pdu.RejectDataDigestError)
			return false, errDataDigest
		}
		return true, c.deliver(h, b[pdu.BHSLen:hlen], b[end:end+dsl])
	} else if total-len(b) < minPlaced && total <= c.rx.capacity() {
		return false, nil // the rest is small: take it into the buffer first
	}
	c.rx.consume(end)
	return true, c.place(h, b[pdu.BHSLen:hlen], dsl)
}

// dataLen is what a data segment takes on the wire.
func (c *Conn) dataLen(n int) int {
	if n == 0 {
		return 0
	}
	n += pdu.Pad(n)
	if c.dataDigest {
		n += pdu.DigestLen
	}
	return n
}

func (c *Conn) dataDigestGood(b []byte) bool {
	n := len(b) - pdu.DigestLen
	return pdu.CheckDigest(b[n:], pdu.UpdateCRC32C(0, b[:n]))
}

func (c *Conn) deliver(h *pdu.BHS, ahs, data []byte) error {
	c.engine.Count(h.Opcode())
	if c.engine.Tap() != nil {
		c.tapIn(h, ahs, data, 0)
	}
	if h.Opcode() == pdu.OpDataOut && h.TargetTransferTag() != pdu.ReservedTag {
		return c.dataOut(h, data)
	}
	return c.engine.Receive(h, ahs, data)
}

package initiator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/iserd/iserd/pdu"
)

// Errors of the framing layer. They end a connection: RFC 7143 §7 leaves no
// way to go on after them at ErrorRecoveryLevel 0.
var (
	ErrHeaderDigest = errors.New("initiator: header digest mismatch")
	ErrDataDigest   = errors.New("initiator: data digest mismatch")
	ErrTooLong      = errors.New("initiator: data segment longer than our MaxRecvDataSegmentLength")
)

// PDU is one PDU as it was received, digests checked and removed.
type PDU struct {
	BHS  pdu.BHS
	AHS  []byte
	Data []byte
}

// Conn frames PDUs on a byte stream. It is for one reading and one writing
// goroutine at a time.
type Conn struct {
	nc net.Conn
	br *bufio.Reader

	headerDigest, dataDigest bool
	maxRecv                  int // bytes of data segment accepted

	wbuf []byte
}

// Dial connects to addr ("host:port") over TCP.
func Dial(ctx context.Context, addr string) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("initiator: %w", err)
	}
	return NewConn(nc), nil
}

// NewConn returns a Conn over nc, which it takes. No digests are in use, and
// data segments up to 64 KiB are accepted: enough for the login phase.
func NewConn(nc net.Conn) *Conn {
	return &Conn{nc: nc, br: bufio.NewReaderSize(nc, 64<<10), maxRecv: 64 << 10}
}

// NetConn returns the underlying connection, borrowed.
func (c *Conn) NetConn() net.Conn { return c.nc }

// SetDigests says which digests both directions carry from now on (§6.3.2:
// they start with the first PDU of the full feature phase).
func (c *Conn) SetDigests(header, data bool) { c.headerDigest, c.dataDigest = header, data }

// SetMaxRecv sets the largest data segment in bytes that ReadPDU accepts.
func (c *Conn) SetMaxRecv(n int) { c.maxRecv = n }

// SetDeadline bounds reads and writes, as net.Conn has it.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// Close closes the connection without a logout.
func (c *Conn) Close() error { return c.nc.Close() }

// WritePDU sends header h with its lengths set for ahs and data, padded, with
// digests when they are in use. It borrows all three.
func (c *Conn) WritePDU(h *pdu.BHS, ahs, data []byte) error {
	c.wbuf = c.AppendPDU(c.wbuf[:0], h, ahs, data)
	return c.Write(c.wbuf)
}

// AppendPDU appends what WritePDU would send to dst and returns it.
func (c *Conn) AppendPDU(dst []byte, h *pdu.BHS, ahs, data []byte) []byte {
	start := len(dst)
	dst = append(dst, h[:]...)
	bhs := (*pdu.BHS)(dst[start:])
	bhs.SetTotalAHSLength(len(ahs))
	bhs.SetDataSegmentLength(len(data))
	dst = append(dst, ahs...)
	if c.headerDigest {
		dst = appendDigest(dst, dst[start:])
	}
	if len(data) == 0 {
		return dst
	}
	start = len(dst)
	dst = append(dst, data...)
	dst = append(dst, zeros[:pdu.Pad(len(data))]...)
	if c.dataDigest {
		dst = appendDigest(dst, dst[start:])
	}
	return dst
}

const zeros = "\x00\x00\x00\x00"

func appendDigest(dst, covered []byte) []byte {
	crc := pdu.UpdateCRC32C(0, covered)
	dst = append(dst, zeros[:pdu.DigestLen]...)
	pdu.PutDigest(dst[len(dst)-pdu.DigestLen:], crc)
	return dst
}

// WriteFrame sends f as it is.
func (c *Conn) WriteFrame(f *Frame) error { return c.Write(f.Append(nil)) }

// Write sends arbitrary bytes.
func (c *Conn) Write(b []byte) error {
	if _, err := c.nc.Write(b); err != nil {
		return fmt.Errorf("initiator: write: %w", err)
	}
	return nil
}

// ReadPDU returns the next PDU, owned. io.EOF means that the peer closed the
// connection between two PDUs.
func (c *Conn) ReadPDU() (*PDU, error) {
	p := new(PDU)
	if _, err := io.ReadFull(c.br, p.BHS[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("initiator: read header: %w", err)
	}
	if err := c.readHeaderRest(p); err != nil {
		return nil, err
	}
	if err := c.readData(p); err != nil {
		return nil, err
	}
	return p, nil
}

// readHeaderRest reads AHS and header digest.
func (c *Conn) readHeaderRest(p *PDU) error {
	if n := p.BHS.TotalAHSLength(); n > 0 {
		p.AHS = make([]byte, n)
		if _, err := io.ReadFull(c.br, p.AHS); err != nil {
			return fmt.Errorf("initiator: read AHS: %w", err)
		}
	}
	if !c.headerDigest {
		return nil
	}
	var d [pdu.DigestLen]byte
	if _, err := io.ReadFull(c.br, d[:]); err != nil {
		return fmt.Errorf("initiator: read header digest: %w", err)
	}
	crc := pdu.UpdateCRC32C(pdu.UpdateCRC32C(0, p.BHS[:]), p.AHS)
	if !digestIs(d, crc) {
		return ErrHeaderDigest
	}
	return nil
}

// readData reads data segment, padding and data digest.
func (c *Conn) readData(p *PDU) error {
	n := p.BHS.DataSegmentLength()
	if n == 0 {
		return nil
	}
	if n > c.maxRecv {
		return fmt.Errorf("%w: %d > %d bytes", ErrTooLong, n, c.maxRecv)
	}
	buf := make([]byte, n+pdu.Pad(n))
	if _, err := io.ReadFull(c.br, buf); err != nil {
		return fmt.Errorf("initiator: read data segment: %w", err)
	}
	p.Data = buf[:n:n]
	if !c.dataDigest {
		return nil
	}
	var d [pdu.DigestLen]byte
	if _, err := io.ReadFull(c.br, d[:]); err != nil {
		return fmt.Errorf("initiator: read data digest: %w", err)
	}
	if !digestIs(d, pdu.UpdateCRC32C(0, buf)) {
		return ErrDataDigest
	}
	return nil
}

func digestIs(wire [pdu.DigestLen]byte, crc uint32) bool {
	var want [pdu.DigestLen]byte
	pdu.PutDigest(want[:], crc)
	return wire == want
}

// interruptible runs f and makes its I/O on c fail when ctx ends. The
// connection is of no more use afterwards when that happened.
func (c *Conn) interruptible(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() { // the deadline is set, or about to be
		return context.Cause(ctx)
	}
	return err
}

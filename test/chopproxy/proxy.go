// Package chopproxy is a TCP proxy for tests that treats the stream as badly
// as a network may: it cuts it into segments of random size, holds bytes back
// to merge them, and lets a test change bytes or break the connection at a
// chosen place. A program that takes what one read returns for a whole message
// does not survive it.
package chopproxy

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Direction is one of the two streams of a connection.
type Direction uint8

// The directions, named after who sends.
const (
	FromClient Direction = iota
	FromServer
)

// String names the direction.
func (d Direction) String() string {
	switch d {
	case FromClient:
		return "from client"
	case FromServer:
		return "from server"
	default:
		return fmt.Sprintf("Direction(%d)", uint8(d))
	}
}

// What Config.Mangle may return to break a connection. The bytes before the
// cut have been sent.
var (
	ErrReset = errors.New("chopproxy: reset the connection") // RST to both sides
	ErrClose = errors.New("chopproxy: close the connection") // FIN to both sides
)

// Config says what the proxy does. The zero value only forwards.
type Config struct {
	Target string // address to connect to
	Seed   uint64 // same seed, same segments

	// MaxSegment cuts the streams into writes of 1 to MaxSegment bytes; 0
	// leaves them as they come.
	MaxSegment int
	// Merge is how long bytes are held for more to come.
	Merge time.Duration

	// Mangle sees every byte of every connection before it is sent on: p are
	// the bytes from offset on of stream d of connection conn (from 0). It may
	// change p, and returns how many bytes of it to send; with an error the
	// connection ends after these. It is called by several goroutines.
	Mangle func(conn int, d Direction, offset int64, p []byte) (int, error)
}

// Proxy is a running proxy.
type Proxy struct {
	cfg Config
	l   net.Listener
	wg  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
	count  int
}

// New starts a proxy on a free loopback port.
func New(cfg Config) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("chopproxy: %w", err)
	}
	p := &Proxy{cfg: cfg, l: l, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the address to connect to instead of the target's.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Close ends all connections and waits for the proxy's goroutines.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	err := p.l.Close()
	p.wg.Wait()
	return err
}

// keep remembers c for Close; false means that the proxy is closed.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		if !p.keep(c) {
			return
		}
		p.mu.Lock()
		n := p.count
		p.count++
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(n, c) })
	}
}

// serve runs one connection.
func (p *Proxy) serve(n int, client net.Conn) {
	defer p.drop(client)
	server, err := net.Dial("tcp", p.cfg.Target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.drop(server)
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(n, FromClient, server, client) })
	wg.Go(func() { p.pump(n, FromServer, client, server) })
	wg.Wait()
}

// pump carries one direction until its end and passes the end on.
func (p *Proxy) pump(n int, d Direction, dst, src net.Conn) {
	s := stream{cfg: &p.cfg, conn: n, dir: d, dst: dst, rng: rand.New(rand.NewPCG(p.cfg.Seed, uint64(n)<<1|uint64(d)))}
	switch err := s.run(src); {
	case err == nil: // FIN from src
		if c, ok := dst.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
	case errors.Is(err, ErrReset):
		for _, c := range []net.Conn{dst, src} {
			if c, ok := c.(*net.TCPConn); ok {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
		}
	default:
		_ = dst.Close()
		_ = src.Close()
	}
}

// stream is one direction of one connection.
type stream struct {
	cfg    *Config
	conn   int
	dir    Direction
	dst    net.Conn
	rng    *rand.Rand
	offset int64
}

// run forwards src until its end (nil) or an error.
func (s *stream) run(src net.Conn) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && s.cfg.Merge > 0 {
			n, err = s.merge(src, buf, n, err)
		}
		if n > 0 {
			if werr := s.send(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// merge reads on into buf for the merge time.
func (s *stream) merge(src net.Conn, buf []byte, n int, err error) (int, error) {
	_ = src.SetReadDeadline(time.Now().Add(s.cfg.Merge))
	for err == nil && n < len(buf) {
		var m int
		m, err = src.Read(buf[n:])
		n += m
	}
	_ = src.SetReadDeadline(time.Time{})
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = nil
	}
	return n, err
}

// send mangles p and writes it in segments.
func (s *stream) send(p []byte) error {
	var end error
	if s.cfg.Mangle != nil {
		var n int
		n, end = s.cfg.Mangle(s.conn, s.dir, s.offset, p)
		p = p[:n]
	}
	s.offset += int64(len(p))
	for len(p) > 0 {
		n := len(p)
		if s.cfg.MaxSegment > 0 {
			n = min(n, 1+s.rng.IntN(s.cfg.MaxSegment))
		}
		if _, err := s.dst.Write(p[:n]); err != nil { // Go sets TCP_NODELAY: one write, one segment
			return err
		}
		p = p[n:]
	}
	return end
}

// CutAt returns a Mangle function that breaks connection conn with how
// (ErrReset or ErrClose) after n bytes of stream d.
func CutAt(conn int, d Direction, n int64, how error) func(int, Direction, int64, []byte) (int, error) {
	return func(c int, dir Direction, offset int64, p []byte) (int, error) {
		if c != conn || dir != d || offset+int64(len(p)) < n {
			return len(p), nil
		}
		return int(n - offset), how
	}
}

// FlipAt returns a Mangle function that flips one bit (0 to 7) of byte n of
// stream d of connection conn.
func FlipAt(conn int, d Direction, n int64, bit uint) func(int, Direction, int64, []byte) (int, error) {
	return func(c int, dir Direction, offset int64, p []byte) (int, error) {
		if i := n - offset; c == conn && dir == d && i >= 0 && i < int64(len(p)) {
			p[i] ^= 1 << bit
		}
		return len(p), nil
	}
}

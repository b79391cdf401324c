// Package wiretap relays a TCP connection and keeps what passes as a file of packets,
// for decoding by Wireshark: without root, and without an interface to listen on.
//
// The package is for this repository's tests only.
package wiretap

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// Tap is a relay to one address. Each connection is in the file with a port of its own.
type Tap struct {
	addr netip.AddrPort
	l    net.Listener
	wg   sync.WaitGroup

	mu sync.Mutex // guards what follows
	b  bytes.Buffer
	n  uint16 // connections
}

// stream is one connection's place in the file.
type stream struct {
	tap  *Tap
	port uint16    // of the client
	seq  [2]uint32 // guarded by tap.mu
}

// New returns a relay to addr. It ends with the test.
func New(t testing.TB, addr netip.AddrPort) *Tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Tap{addr: addr, l: l}
	// pcap header: microseconds, link type 101: raw IP.
	for _, v := range []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 1 << 18, 101} {
		_ = binary.Write(&p.b, binary.LittleEndian, v)
	}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.wg.Wait()
	})
	return p
}

// Addr is where clients connect.
func (p *Tap) Addr() netip.AddrPort { return netip.MustParseAddrPort(p.l.Addr().String()) }

// File waits until all connections have ended, takes no more, and returns the file.
func (p *Tap) File() []byte {
	_ = p.l.Close()
	p.wg.Wait()
	return p.b.Bytes()
}

func (p *Tap) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.addr.String())
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.n++
		s := &stream{tap: p, port: 40000 + p.n}
		p.mu.Unlock()
		s.packet(0, 0x02, nil) // SYN
		s.packet(1, 0x12, nil)
		s.packet(0, 0x10, nil)
		ended := new(sync.WaitGroup)
		for dir, pair := range [2][2]net.Conn{{client, server}, {server, client}} {
			ended.Add(1)
			p.wg.Go(func() {
				defer ended.Done()
				s.forward(dir, pair[0], pair[1])
			})
		}
		p.wg.Go(func() {
			ended.Wait()
			_ = client.Close()
			_ = server.Close()
		})
	}
}

func (s *stream) forward(dir int, from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			s.packet(dir, 0x18, b[:n])
			_, _ = to.Write(b[:n])
		}
		if err != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// packet adds a TCP segment in direction dir: 127.0.0.1 is the client.
func (s *stream) packet(dir int, flags byte, data []byte) {
	p := s.tap
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 40 + len(data)
	for _, v := range []uint32{0, 0, uint32(n), uint32(n)} {
		_ = binary.Write(&p.b, binary.LittleEndian, v)
	}
	h := make([]byte, 40)
	h[0], h[8], h[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(h[2:], uint16(n))
	h[12], h[15], h[16], h[19] = 127, byte(1+dir), 127, byte(2-dir)
	ports := [2]uint16{s.port, 3260}
	binary.BigEndian.PutUint16(h[20:], ports[dir])
	binary.BigEndian.PutUint16(h[22:], ports[1-dir])
	binary.BigEndian.PutUint32(h[24:], s.seq[dir])
	if flags&0x10 != 0 {
		binary.BigEndian.PutUint32(h[28:], s.seq[1-dir])
	}
	h[32], h[33] = 0x50, flags
	binary.BigEndian.PutUint16(h[34:], 0xffff)
	p.b.Write(h)
	p.b.Write(data)
	s.seq[dir] += uint32(len(data))
	if flags&0x02 != 0 {
		s.seq[dir]++
	}
}

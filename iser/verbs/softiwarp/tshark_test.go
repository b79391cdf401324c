package softiwarp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/iserd/iserd/iser/verbs"
)

// capture is a file of packets, made of what a relay forwards.
type capture struct {
	mu  sync.Mutex
	b   bytes.Buffer
	seq [2]uint32
}

func newCapture() *capture {
	c := &capture{}
	// pcap header: microseconds, link type 101: raw IP.
	for _, v := range []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 1 << 18, 101} {
		_ = binary.Write(&c.b, binary.LittleEndian, v)
	}
	c.packet(0, 0x02, nil) // SYN
	c.packet(1, 0x12, nil)
	c.packet(0, 0x10, nil)
	return c
}

// packet adds a TCP segment in direction dir.
func (c *capture) packet(dir int, flags byte, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 40 + len(data)
	for _, v := range []uint32{0, 0, uint32(n), uint32(n)} {
		_ = binary.Write(&c.b, binary.LittleEndian, v)
	}
	h := make([]byte, 40)
	h[0], h[8], h[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(h[2:], uint16(n))
	h[12], h[15], h[16], h[19] = 127, byte(1+dir), 127, byte(2-dir)
	ports := [2]uint16{40000, 3260}
	binary.BigEndian.PutUint16(h[20:], ports[dir])
	binary.BigEndian.PutUint16(h[22:], ports[1-dir])
	binary.BigEndian.PutUint32(h[24:], c.seq[dir])
	if flags&0x10 != 0 {
		binary.BigEndian.PutUint32(h[28:], c.seq[1-dir])
	}
	h[32], h[33] = 0x50, flags
	binary.BigEndian.PutUint16(h[34:], 0xffff)
	c.b.Write(h)
	c.b.Write(data)
	c.seq[dir] += uint32(len(data))
	if flags&0x02 != 0 {
		c.seq[dir]++
	}
}

// relay forwards one connection to addr and captures it.
func (c *capture) relay(t *testing.T, addr netip.AddrPort) (netip.AddrPort, *sync.WaitGroup) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	wg := new(sync.WaitGroup)
	wg.Go(func() {
		defer func() { _ = l.Close() }()
		x, err := l.Accept()
		if err != nil {
			return
		}
		y, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Error(err)
			return
		}
		for dir, pair := range [2][2]net.Conn{{x, y}, {y, x}} {
			wg.Go(func() {
				b := make([]byte, 32<<10)
				for {
					n, err := pair[0].Read(b)
					if n > 0 {
						c.packet(dir, 0x18, b[:n])
						_, _ = pair[1].Write(b[:n])
					}
					if err != nil {
						_ = pair[1].(*net.TCPConn).CloseWrite()
						return
					}
				}
			})
		}
	})
	return netip.MustParseAddrPort(l.Addr().String()), wg
}

// Wireshark's dissectors, written by other people from the same standards,
// understand all of a session, and find nothing to complain about.
func TestTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("needs tshark")
		}
		t.Skip("needs tshark")
	}
	for _, cfg := range []Config{{MaxFPDU: 1460}, {MaxFPDU: 1460, CRC: true}, {MaxFPDU: 1460, PeerToPeer: true}} {
		t.Run(fmt.Sprintf("crc=%v,p2p=%v", cfg.CRC, cfg.PeerToPeer), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "session.pcap")
			must(t, os.WriteFile(file, session(t, cfg), 0o600))
			// A dissector of NFS takes short messages for its own.
			out, err := exec.Command(tshark, "-r", file, "--disable-protocol", "rpcordma", "-T", "fields", "-e", "frame.number", "-e", "_ws.expert.message",
				"-Y", "(iwarp_mpa || iwarp_ddp_rdmap) && _ws.expert.severity >= 0x400000").Output()
			must(t, explain(err))
			if len(out) > 0 {
				t.Errorf("expert messages:\n%s", out)
			}
			out, err = exec.Command(tshark, "-r", file, "-T", "fields", "-E", "occurrence=a", "-e", "iwarp_rdma.opcode").Output()
			must(t, explain(err))
			got := string(out)
			for op := range opTerminate + 1 {
				if op == opSendSE || op == opSendSEInv {
					continue
				}
				if !strings.Contains(got, fmt.Sprintf("0x%02x", uint8(op))) {
					t.Errorf("%v was not seen in:\n%s", op, got)
				}
			}
		})
	}
}

func explain(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}

// session does everything once and returns the capture.
func session(t *testing.T, cfg Config) []byte {
	c := newCapture()
	a, b := newEnd(t, cfg), newEnd(t, cfg)
	l, err := b.cm.Listen(loopback, 0)
	must(t, err)
	addr, wg := c.relay(t, l.Addr())
	a.dial(addr)
	a.newQP()
	must(t, a.conn.Connect(param))
	connectRequest(t, a, b)
	must(t, l.Close())
	for _, n := range []int{10, 5000} {
		testSend(t, a, b, n)
		testSend(t, b, a, n)
		testWrite(t, a, b, n)
		testRead(t, b, a, n)
		testRead(t, a, b, n)
	}
	w, err := b.dev.NewWindow()
	must(t, err)
	key, err := b.qp.Bind(w, b.mr, b.mem[:100], verbs.AccessRemoteWrite, 0, 0)
	must(t, err)
	b.poll()
	b.recv(1, 0, 64)
	a.send(verbs.SendWR{Op: verbs.OpSendInv, InvKey: key, SG: a.sge(0, 7)})
	b.wait(a, 1)
	// And a fault: both ends see it.
	a.send(verbs.SendWR{Op: verbs.OpRead, SG: a.sge(0, 9), RAddr: 1, RKey: 2})
	until(t, func() bool { a.poll(); b.poll(); return a.qp.state == qpError })
	must(t, a.conn.Close())
	must(t, b.conn.Close())
	a.conn, b.conn = nil, nil
	wg.Wait()
	return c.b.Bytes()
}

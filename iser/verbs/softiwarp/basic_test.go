package softiwarp

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/iser/verbs"
)

// configs are the variants that data has to come through.
var configs = map[string]Config{
	"plain":  {},
	"crc":    {CRC: true},
	"mss":    {MaxFPDU: 1460},
	"tiny":   {MaxFPDU: 128, CRC: true},
	"p2p":    {PeerToPeer: true},
	"p2pcrc": {PeerToPeer: true, CRC: true},
	"rev1":   {Revision1: true},
}

func TestOperations(t *testing.T) {
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, cfg)
			for _, n := range []int{0, 1, 3, 76, 511, 513, 4096, 65461, 65462, 65536, 300000} {
				testSend(t, a, b, n)
				testSend(t, b, a, n)
				testWrite(t, a, b, n)
				testWrite(t, b, a, n)
				testRead(t, a, b, n)
				testRead(t, b, a, n)
			}
		})
	}
}

const half = endMem / 2

func testSend(t *testing.T, a, b *end, n int) {
	t.Helper()
	fill(a.mem[:n], 1)
	clear(b.mem[half:])
	b.recv(7, half+1, n+1)
	a.send(verbs.SendWR{ID: 8, Op: verbs.OpSend, Flags: verbs.SendSignaled, SG: a.sge(0, n)})
	got := b.wait(a, 1)
	want := []verbs.WC{{ID: 7, QPN: b.qp.Num(), Len: uint32(n), Op: verbs.OpRecv}}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("receive of %d bytes: %s", n, d)
	}
	want = []verbs.WC{{ID: 8, QPN: a.qp.Num(), Op: verbs.OpSend}}
	if d := cmp.Diff(want, a.wait(b, 1)); d != "" {
		t.Fatalf("send of %d bytes: %s", n, d)
	}
	if !bytes.Equal(a.mem[:n], b.mem[half+1:half+1+n]) || b.mem[half] != 0 || b.mem[half+1+n] != 0 {
		t.Fatalf("send of %d bytes: data differs", n)
	}
	a.take()
	b.take()
}

func testWrite(t *testing.T, a, b *end, n int) {
	t.Helper()
	fill(a.mem[:n], 2)
	clear(b.mem[half:])
	b.recv(7, 0, 8)
	a.send(verbs.SendWR{ID: 8, Op: verbs.OpWrite, SG: a.sge(0, n), RAddr: b.addr(half + 3), RKey: b.mr.RKey()},
		verbs.SendWR{ID: 9, Op: verbs.OpSend, Flags: verbs.SendSignaled | verbs.SendSolicited})
	b.wait(a, 1)
	want := []verbs.WC{{ID: 9, QPN: a.qp.Num(), Op: verbs.OpSend}}
	if d := cmp.Diff(want, a.wait(b, 1)); d != "" {
		t.Fatalf("write of %d bytes: %s", n, d)
	}
	if !bytes.Equal(a.mem[:n], b.mem[half+3:half+3+n]) || b.mem[half+2] != 0 || b.mem[half+3+n] != 0 {
		t.Fatalf("write of %d bytes: data differs", n)
	}
	a.take()
	b.take()
}

func testRead(t *testing.T, a, b *end, n int) {
	t.Helper()
	fill(b.mem[:n], 3)
	clear(a.mem[half:])
	a.send(verbs.SendWR{ID: 8, Op: verbs.OpRead, Flags: verbs.SendSignaled, SG: a.sge(half+5, n), RAddr: b.addr(0), RKey: b.mr.RKey()})
	want := []verbs.WC{{ID: 8, QPN: a.qp.Num(), Op: verbs.OpRead, Len: uint32(n)}}
	if d := cmp.Diff(want, a.wait(b, 1)); d != "" {
		t.Fatalf("read of %d bytes: %s", n, d)
	}
	if !bytes.Equal(b.mem[:n], a.mem[half+5:half+5+n]) || a.mem[half+4] != 0 || a.mem[half+5+n] != 0 {
		t.Fatalf("read of %d bytes: data differs", n)
	}
	a.take()
	b.take()
}

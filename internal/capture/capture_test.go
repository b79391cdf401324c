package capture

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/internal/pcapng"
	"github.com/iserd/iserd/pdu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var peers = Peers{Initiator: netip.MustParseAddrPort("10.0.0.2:40000"), Target: netip.MustParseAddrPort("[::ffff:10.0.0.1]:3260"), Fresh: true}

// TestHeaders compares headers with bytes whose checksums were worked out
// apart.
func TestHeaders(t *testing.T) {
	four := &link{initiator: netip.MustParseAddrPort("10.0.0.2:40000"), target: netip.MustParseAddrPort("10.0.0.1:3260")}
	six := &link{initiator: netip.MustParseAddrPort("[2001:db8::2]:40000"), target: netip.MustParseAddrPort("[2001:db8::1]:3260")}
	for _, x := range []struct {
		name, want string
		got        []byte
	}{
		{
			"IPv4, from the initiator", `
			4500 002c 0000 4000 4006 26ca 0a000002 0a000001
			9c40 0cbc 00000001 00000002 5018 ffff eec0 0000`,
			four.headers(nil, false, tcpPSH|tcpACK, 1, 2, []byte{1, 2, 3, 4}, 4),
		},
		{
			"IPv4, cut: no checksum", `
			4500 042c 0000 4000 4006 22ca 0a000002 0a000001
			9c40 0cbc 00000001 00000002 5018 ffff 0000 0000`,
			four.headers(nil, false, tcpPSH|tcpACK, 1, 2, []byte{1, 2, 3, 4}, 1028),
		},
		{
			"IPv6, to the initiator, SYN with its options", `
			6000 0000 001c 0640 20010db8000000000000000000000001 20010db8000000000000000000000002
			0cbc 9c40 00000000 00000001 7012 ffff 7851 0000 0204ffff 03030e00`,
			six.headers(nil, true, tcpSYN|tcpACK, 0, 1, nil, 0),
		},
	} {
		want, err := hex.DecodeString(strings.Join(strings.Fields(x.want), ""))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, x.got); d != "" {
			t.Errorf("%s: %x\n%s", x.name, x.got, d)
		}
	}
}

// TestSlowReader: what does not fit is dropped and counted, and the sequence
// numbers go on as if it had been there.
func TestSlowReader(t *testing.T) {
	c := New(Options{Memory: 4096})
	f := c.Flow(peers)
	var h pdu.BHS
	h.SetOpcode(pdu.OpNOPOut)
	const sent = 100
	for range sent {
		f.PDU(&h, nil, make([]byte, 976), 0) // 1024 bytes each
	}
	s := c.Stats()
	if s.Received != sent || s.Dropped != sent-4 {
		t.Fatalf("%+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var file bytes.Buffer
	if err := c.Run(ctx, &file); err != nil {
		t.Fatal(err)
	}
	if f.seq[0] != 1+sent*1024 {
		t.Errorf("next sequence number %d", f.seq[0])
	}
	// Four PDUs and the handshake; then nothing is taken any more.
	f.PDU(&h, nil, nil, 0)
	if n := kinds(t, file.Bytes())[pcapng.TypePacket]; n != 7 {
		t.Errorf("%d packets", n)
	}
	if c.waiting.Load() != 0 || len(c.queue) != 0 {
		t.Errorf("%d bytes in %d records left", c.waiting.Load(), len(c.queue))
	}
}

func kinds(t *testing.T, file []byte) map[uint32]int {
	t.Helper()
	out := map[uint32]int{}
	for r := bytes.NewReader(file); r.Len() > 0; {
		kind, _, err := pcapng.ReadBlock(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		out[kind]++
	}
	return out
}

// TestLossIsTold: the packet after a loss says how many are missing.
func TestLossIsTold(t *testing.T) {
	c := New(Options{Memory: 100})
	l := &link{initiator: peers.Initiator, target: unmap(peers.Target)}
	put := func(n int) { c.put(record{link: l, data: make([]byte, n), length: n}) }
	put(60)
	put(60)
	put(60)
	<-c.queue
	c.waiting.Store(0)
	put(60)
	if r := <-c.queue; r.drops != 2 {
		t.Errorf("%d drops", r.drops)
	}
}

// TestDigestErrors: a wrong digest is wrong in the file, a right one right.
func TestDigestErrors(t *testing.T) {
	var h pdu.BHS
	h.SetOpcode(pdu.OpDataOut)
	data := []byte{1, 2, 3, 4, 5}
	const both = iscsi.TapHeaderDigest | iscsi.TapDataDigest
	for _, bad := range []iscsi.TapFlags{0, iscsi.TapBadHeader, iscsi.TapBadData} {
		b := assemble(1<<20, &h, nil, data, both|bad)
		if len(b) != 48+4+8+4 {
			t.Fatalf("%d bytes", len(b))
		}
		header := pdu.CheckDigest(b[48:52], pdu.UpdateCRC32C(0, b[:48]))
		segment := pdu.CheckDigest(b[60:], pdu.UpdateCRC32C(0, b[52:60]))
		if header == (bad == iscsi.TapBadHeader) || segment == (bad == iscsi.TapBadData) {
			t.Errorf("%v: header %v, data %v", bad, header, segment)
		}
	}
	for n := range 65 {
		if got := len(assemble(n, &h, nil, data, both)); got != n && n <= 64 {
			t.Errorf("%d bytes kept of %d", got, n)
		}
	}
}

// TestScanner: wherever PDUs cut the text, responses are blanked out, all else
// stays, and the names are found.
func TestScanner(t *testing.T) {
	const text = "InitiatorName=iqn.a\x00CHAP_N=CHAP_R=x\x00CHAP_R=0x0123abcd\x00TargetName=iqn.b\x00CHAP_R=0bQUJD\x00"
	const blank = "InitiatorName=iqn.a\x00CHAP_N=CHAP_R=x\x00CHAP_R=0x00000000\x00TargetName=iqn.b\x00CHAP_R=0b0000\x00"
	rapid.Check(t, func(t *rapid.T) {
		var s scanner
		var got []byte
		in := []byte(text)
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			got = append(got, s.text(rest[:n], true)...)
			rest = rest[n:]
		}
		if string(got) != blank || string(in) != text {
			t.Fatalf("%q", got)
		}
		if s.initiator != "iqn.a" || s.target != "iqn.b" {
			t.Fatalf("%q at %q", s.initiator, s.target)
		}
	})
}

// TestUndecided: a connection that never names itself costs a bounded amount.
func TestUndecided(t *testing.T) {
	c := New(Options{Filter: Filter{Initiator: "iqn.a"}})
	f := c.Flow(peers)
	var h pdu.BHS
	q := pdu.LoginRequest{Continue: true, DataLen: 8000}
	q.Encode(&h)
	for range 100 {
		f.PDU(&h, nil, make([]byte, 8000), 0)
	}
	if f.pending != nil || f.verdict != unwanted || len(c.queue) > 0 {
		t.Errorf("%d records pending, verdict %d, %d queued", len(f.pending), f.verdict, len(c.queue))
	}
	if c.Flow(Peers{Known: Known{InitiatorName: "iqn.b"}}) != nil {
		t.Error("a session of another initiator is captured")
	}
}

func BenchmarkFlow(b *testing.B) {
	c := New(Options{})
	f := c.Flow(peers)
	var h pdu.BHS
	h.SetOpcode(pdu.OpSCSICommand)
	data := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		f.PDU(&h, nil, data, 0)
		for len(c.queue) > 0 {
			r := <-c.queue
			c.waiting.Add(-int64(len(r.data)))
		}
	}
}

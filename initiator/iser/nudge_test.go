package iser_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/pdu"
)

// A target that has not noticed the first message is sent something that means
// nothing, so that it looks again.
func TestNudge(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	segments := make(chan []byte, 8)
	go deaf(l, segments)
	c, err := rdma.Open(t.Context(), softiwarp.New(softiwarp.Config{}), netip.MustParseAddrPort(l.Addr().String()), rdma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var h pdu.BHS
	(&pdu.LoginRequest{Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase, InitiatorTaskTag: 1, CmdSN: 1}).Encode(&h)
	for range 5 { // nothing is sent before the first message
		if err := c.Poll(50*time.Millisecond, true, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SendPDU(&iser.Header{}, &h, nil, nil); err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	for deadline := time.Now().Add(10 * time.Second); len(got) < 3 && time.Now().Before(deadline); {
		if err := c.Poll(-1, true, nil); err != nil {
			t.Fatal(err)
		}
		for len(segments) > 0 {
			got = append(got, <-segments)
		}
	}
	const send, write = 0x43, 0x40 // RDMAP version 1, opcode; RFC 5040 §4.1
	const tagged, untagged = 14, 18
	if len(got) < 3 || got[0][1] != send || len(got[0]) != untagged+iser.HeaderLen+pdu.BHSLen {
		t.Fatalf("segments % x", got)
	}
	for _, s := range got[1:] {
		if s[1] != write || len(s) != tagged {
			t.Errorf("segment % x, want an RDMA Write of nothing", s)
		}
	}
}

// deaf accepts a connection (RFC 6581 §4) and gives the DDP segments that come to
// segments, without an answer.
func deaf(l net.Listener, segments chan<- []byte) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	req := make([]byte, 20)
	if _, err := io.ReadFull(c, req); err != nil || !bytes.HasPrefix(req, []byte("MPA ID Req Frame")) {
		return
	}
	if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(req[18:]))); err != nil {
		return
	}
	_, _ = c.Write(append([]byte("MPA ID Rep Frame\x10\x02\x00\x04"), 0, 16, 0, 16))
	for {
		var n [2]byte
		if _, err := io.ReadFull(c, n[:]); err != nil {
			return
		}
		b := make([]byte, (int(binary.BigEndian.Uint16(n[:]))+2+3)&^3-2+4) // padding and CRC
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		segments <- b[:binary.BigEndian.Uint16(n[:])]
	}
}

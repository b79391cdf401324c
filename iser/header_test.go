package iser_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/pdu"
)

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    iser.Header
		wire []byte
	}{
		{"target to initiator", iser.Header{}, []byte{0: 0x10, 27: 0}},
		{
			"write",
			iser.Header{WSV: true, WriteSTag: 0x01020304, WriteBase: 0x1112131415161718},
			[]byte{0x18, 0, 0, 0, 1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 27: 0},
		},
		{
			"read",
			iser.Header{RSV: true, ReadSTag: 0x01020304, ReadBase: 0x1112131415161718},
			[]byte{0: 0x14, 16: 1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18},
		},
		{
			"both",
			iser.Header{WSV: true, RSV: true, WriteSTag: 5, ReadSTag: 6, ReadBase: 7},
			[]byte{0: 0x1c, 7: 5, 19: 6, 27: 7},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Repeat([]byte{0xff}, iser.HeaderLen)
			tt.h.Encode(b)
			if d := cmp.Diff(tt.wire, b); d != "" {
				t.Error(d)
			}
			var m iser.Message
			if err := m.Decode(append(b, make([]byte, pdu.BHSLen)...)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.h, m.Header); d != "" {
				t.Error(d)
			}
		})
	}
}

// message is a control-type message with lengths as claimed and as sent.
func message(flags byte, ahsWords, dataLen, sent int) []byte {
	b := make([]byte, iser.HeaderLen+pdu.BHSLen+sent)
	b[0] = flags
	h := (*pdu.BHS)(b[iser.HeaderLen:])
	h.SetTotalAHSLength(4 * ahsWords)
	h.SetDataSegmentLength(dataLen)
	return b
}

func TestMessageLengths(t *testing.T) {
	for _, tt := range []struct {
		name            string
		b               []byte
		err             error
		ahsLen, dataLen int
	}{
		{"nothing", nil, iser.ErrTruncated, 0, 0},
		{"one byte less than a header", message(0x10, 0, 0, 0)[:75], iser.ErrTruncated, 0, 0},
		{"header", message(0x10, 0, 0, 0), nil, 0, 0},
		{"opcode 0", message(0x00, 0, 0, 0), iser.ErrOpcode, 0, 0},
		{"Hello", message(0x20, 0, 0, 0), iser.ErrOpcode, 0, 0},
		{"opcode 15", message(0xf0, 0, 0, 0), iser.ErrOpcode, 0, 0},
		{"data missing", message(0x10, 0, 1, 0), iser.ErrLength, 0, 0},
		{"most data missing", message(0x10, 0, 1<<24-1, 8192), iser.ErrLength, 0, 0},
		{"data without padding", message(0x10, 0, 5, 5), nil, 0, 5},
		{"data with padding", message(0x10, 0, 5, 8), nil, 0, 5},
		{"AHS missing", message(0x10, 255, 0, 1016), iser.ErrLength, 0, 0},
		{"AHS", message(0x10, 255, 0, 1020), nil, 1020, 0},
		{"AHS and data", message(0x10, 1, 7, 11), nil, 4, 7},
		{"AHS instead of data", message(0x10, 1, 8, 8), iser.ErrLength, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := iser.Message{AHS: []byte("before")}
			err := m.Decode(tt.b)
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			if err != nil {
				if string(m.AHS) != "before" {
					t.Error("assigned in spite of the error")
				}
				return
			}
			if len(m.AHS) != tt.ahsLen || len(m.Data) != tt.dataLen {
				t.Errorf("%d bytes of AHS, %d of data", len(m.AHS), len(m.Data))
			}
		})
	}
}

func TestHello(t *testing.T) {
	var b [iser.HeaderLen]byte
	h := iser.Hello{MaxVersion: 10, MinVersion: 1, IRD: 0x0203}
	h.Encode(b[:])
	if op, err := iser.MessageOpcode(b[:]); err != nil || op != iser.OpHello {
		t.Error(op, err)
	}
	var got iser.Hello
	if err := got.Decode(b[:]); err != nil || got != h {
		t.Error(got, err)
	}
	r := iser.HelloReply{Reject: true, MaxVersion: 10, Version: 1, ORD: 16}
	r.Encode(b[:])
	var gotR iser.HelloReply
	if err := gotR.Decode(b[:]); err != nil || gotR != r {
		t.Error(gotR, err)
	}
	if gotR.Decode(b[:27]) == nil || got.Decode(nil) == nil {
		t.Error("truncated messages are taken")
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	b := message(0x1c, 2, 100, 108)
	var m iser.Message
	if n := testing.AllocsPerRun(100, func() { _ = m.Decode(b); m.Header.Encode(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(message(0x1c, 1, 5, 12))
	f.Add(message(0x10, 255, 1<<24-1, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m iser.Message
		if m.Decode(b) != nil {
			return
		}
		if len(m.AHS)+len(m.Data)+iser.HeaderLen+pdu.BHSLen > len(b) {
			t.Fatal("more than there is")
		}
		again := make([]byte, iser.HeaderLen, len(b))
		m.Header.Encode(again)
		again = append(append(append(again, m.BHS[:]...), m.AHS...), m.Data...)
		var m2 iser.Message
		if err := m2.Decode(again); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m.Header, m2.Header); d != "" {
			t.Fatal(d)
		}
		if m2.Decode(again[:len(again)-1]) == nil {
			t.Fatal("a strict prefix is taken")
		}
	})
}

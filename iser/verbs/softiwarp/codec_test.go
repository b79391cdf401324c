package softiwarp

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

var mpaFrames = map[string]struct {
	frame mpaFrame
	bytes string
}{
	"revision 1": {
		mpaFrame{rev: 1, private: []byte{}},
		"4d504120494420526571204672616d65 00 01 0000",
	},
	"iSER, as Linux sends it": {
		mpaFrame{rev: 2, flags: mpaIsEnh, ird: 128, ord: 1, private: []byte{0xc0, 0, 0, 0}},
		"4d504120494420526571204672616d65 10 02 0008 0080 0001 c0000000",
	},
	"peer to peer, all RTRs": {
		mpaFrame{rev: 2, flags: mpaIsEnh | mpaCRC, peerToPeer: true, rtr: rtrFPDU | rtrWrite | rtrRead, ird: 4, ord: 5, private: []byte{}},
		"4d504120494420526571204672616d65 50 02 0004 c004 c005",
	},
	"reply": {
		mpaFrame{reply: true, rev: 2, flags: mpaIsEnh, peerToPeer: true, rtr: rtrWrite, ird: 1, ord: 4, private: []byte{0x80, 0, 0, 0}},
		"4d504120494420526570204672616d65 10 02 0008 8001 8004 80000000",
	},
	"reject": {
		mpaFrame{reply: true, rev: 1, flags: mpaReject, private: []byte("no")},
		"4d504120494420526570204672616d65 20 01 0002 6e6f",
	},
}

func TestMPAFrame(t *testing.T) {
	for name, c := range mpaFrames {
		t.Run(name, func(t *testing.T) {
			b := unhex(c.bytes)
			if d := cmp.Diff(b, c.frame.append(nil)); d != "" {
				t.Error(d)
			}
			f, err := decodeMPA(b, c.frame.reply)
			must(t, err)
			if d := cmp.Diff(c.frame, f, cmp.AllowUnexported(mpaFrame{})); d != "" {
				t.Error(d)
			}
			for n := range b {
				if _, err := decodeMPA(b[:n], c.frame.reply); err == nil {
					t.Errorf("a prefix of %d bytes decodes", n)
				}
			}
			if _, err := decodeMPA(b, !c.frame.reply); err == nil {
				t.Error("a request decodes as reply, or the other way round")
			}
			maybe, sure := IsRequest(b)
			if maybe == c.frame.reply || sure == c.frame.reply {
				t.Errorf("IsRequest: %v, %v", maybe, sure)
			}
		})
	}
}

func TestIsRequest(t *testing.T) {
	for _, c := range []struct {
		b            string
		maybe, whole bool
	}{
		{"", true, false},
		{"M", true, false},
		{"MPA ID Re", true, false},
		{"MPA ID Rep Frame", false, false},
		{"C\x87\x00\x00", false, false},
		{"\x03", false, false},
		{mpaRequestKey, true, false},
		{mpaRequestKey + "\x00\x01\x00", true, false},
		{mpaRequestKey + "\x00\x01\x00\x00", true, true},
		{mpaRequestKey + "\x00\x01\x00\x04abc", true, false},
		{mpaRequestKey + "\x00\x01\x00\x04abcd", true, true},
		{mpaRequestKey + "\x00\x01\x00\x04abcde", true, true},
		{mpaRequestKey + "\x00\x01\x02\x01", true, true}, // too long, which is certain
	} {
		if maybe, whole := IsRequest([]byte(c.b)); maybe != c.maybe || whole != c.whole {
			t.Errorf("IsRequest(%q) = %v, %v", c.b, maybe, whole)
		}
	}
}

func TestSegment(t *testing.T) {
	for name, c := range map[string]struct {
		seg   segment
		bytes string
	}{
		"Send":       {segment{op: opSend, last: true, msn: 7, mo: 9}, "41 43 00000000 00000000 00000007 00000009"},
		"SendSEInv":  {segment{op: opSendSEInv, last: true, stag: 0xabcdef01, msn: 1}, "41 46 abcdef01 00000000 00000001 00000000"},
		"Write":      {segment{op: opWrite, tagged: true, stag: 0x11223344, to: 0x0102030405060708}, "81 40 11223344 0102030405060708"},
		"Response":   {segment{op: opReadResponse, tagged: true, last: true, stag: 1, to: 2}, "c1 42 00000001 0000000000000002"},
		"Request":    {segment{op: opReadRequest, last: true, qn: 1, msn: 3}, "41 41 00000000 00000001 00000003 00000000"},
		"Terminate":  {segment{op: opTerminate, last: true, qn: 2, msn: 1}, "41 47 00000000 00000002 00000001 00000000"},
		"Send, more": {segment{op: opSend, msn: 1}, "01 43 00000000 00000000 00000001 00000000"},
	} {
		t.Run(name, func(t *testing.T) {
			want := unhex(c.bytes)
			b := make([]byte, untaggedLen)
			n := c.seg.encode(b)
			if d := cmp.Diff(want, b[:n]); d != "" {
				t.Error(d)
			}
			var got segment
			got.decode(b)
			c.seg.dv, c.seg.rv = ddpVersion, rdmapVersion
			if got != c.seg {
				t.Errorf("%+v, want %+v", got, c.seg)
			}
		})
	}
}

func TestTerminateCodec(t *testing.T) {
	header, read := bytes.Repeat([]byte{0x41}, untaggedLen), bytes.Repeat([]byte{7}, readReqLen)
	for name, term := range map[string]terminate{
		"bare":   {fault: faultCRC},
		"header": {fault: faultTooLong, segLen: 99, header: header},
		"read":   {fault: faultSTag, segLen: 46, header: header, read: read},
		"tagged": {fault: faultTaggedSTag, segLen: 20, header: bytes.Repeat([]byte{0x81}, taggedLen)},
	} {
		t.Run(name, func(t *testing.T) {
			b := make([]byte, maxTerminateLen)
			b = b[:term.encode(b)]
			var got terminate
			must(t, got.decode(b))
			if d := cmp.Diff(term, got, cmp.AllowUnexported(terminate{})); d != "" {
				t.Error(d)
			}
			for n := range b {
				if got.decode(b[:n]) == nil {
					t.Errorf("a prefix of %d bytes decodes", n)
				}
			}
		})
	}
	// RFC 5040 section 4.8: layer, type, code, then M, D and R.
	b := make([]byte, maxTerminateLen)
	(&terminate{fault: faultNoBuffer, header: header}).encode(b)
	if d := cmp.Diff([]byte{0x12, 0x02, 0xc0, 0x00}, b[:4]); d != "" {
		t.Error(d)
	}
}

func TestFPDUSizes(t *testing.T) {
	for n := range 100 {
		if (fpduLenLen+n+fpduPad(n))%4 != 0 || fpduPad(n) > 3 {
			t.Errorf("padding of %d bytes is %d", n, fpduPad(n))
		}
	}
	for mss, want := range map[int]int{0: defaultULPDU, -1: defaultULPDU, 1460: 1454, 1448: 1442, 536: 530, 8948: 8942, 65483: 65474, 1 << 17: maxULPDU, 10: minULPDU} {
		if got := ulpduFor(mss); got != want {
			t.Errorf("ULPDU for MSS %d is %d, want %d", mss, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range [][2]string{
		{opSendSE.String(), "Send with SE"},
		{opcode(9).String(), "opcode(9)"},
		{faultCRC.Error(), "softiwarp: wrong CRC"},
		{fault(0x3421).Error(), "softiwarp: terminated: layer 3, error type 4, code 0x21"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}

package pcapng

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var at = time.Unix(0x12345678, 5)

// TestGolden compares each block, byte for byte, with what the draft's figures
// say.
func TestGolden(t *testing.T) {
	for _, x := range []struct {
		name, want string
		got        []byte
	}{
		{
			"section", `
			0a0d0d0a 34000000 4d3c2b1a 0100 0000 ffffffffffffffff
			0400 0500 6973657264 000000
			0100 0200 6869 0000
			0000 0000 34000000`,
			AppendSection(nil, "iserd", "hi"),
		},
		{
			"interface", `
			01000000 30000000 6500 0000 00010000
			0200 0300 746370 00
			0300 0100 64 000000
			0900 0100 09 000000
			0000 0000 30000000`,
			AppendInterface(nil, &Interface{Name: "tcp", Description: "d", Link: LinkRaw, Snaplen: 256}),
		},
		{
			"packet", `
			06000000 3c000000 01000000 3a4aa943 05606e0a
			05000000 09000000 4142434445 000000
			0100 0100 63 000000
			0200 0400 02000000
			0000 0000 3c000000`,
			AppendPacket(nil, &Packet{Interface: 1, Time: time.Unix(0, 0x43a94a3a_0a6e6005), Outbound: true, Length: 9, Comment: "c", Data: [][]byte{[]byte("AB"), []byte("CDE")}}),
		},
		{
			"packet with losses", `
			06000000 38000000 00000000 00000000 07000000
			00000000 00000000
			0200 0400 01000000
			0400 0800 0300000000000000
			0000 0000 38000000`,
			AppendPacket(nil, &Packet{Time: time.Unix(0, 7), Drops: 3}),
		},
		{
			"statistics", `
			05000000 34000000 01000000 00000000 07000000
			0400 0800 0900000000000000
			0500 0800 0200000000000000
			0000 0000 34000000`,
			AppendStatistics(nil, &Statistics{Interface: 1, Time: time.Unix(0, 7), Received: 9, Dropped: 2}),
		},
	} {
		want := unhex(t, x.want)
		if d := cmp.Diff(want, x.got); d != "" {
			t.Errorf("%s: %x\n%s", x.name, x.got, d)
		}
	}
}

// TestReadBlock: what is written is read again block by block, and a file that is
// cut anywhere says so.
func TestReadBlock(t *testing.T) {
	file := AppendSection(nil, "a", "")
	file = AppendInterface(file, &Interface{Name: "n"})
	file = AppendPacket(file, &Packet{Time: at, Data: [][]byte{make([]byte, 3)}})
	stats := Statistics{Interface: 2, Time: at, Received: 7, Dropped: 1}
	file = AppendStatistics(file, &stats)
	var kinds []uint32
	r := bytes.NewReader(file)
	var buf []byte
	for {
		kind, block, err := ReadBlock(r, buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		buf = block
		kinds = append(kinds, kind)
		if s, ok := ParseStatistics(block); ok != (kind == TypeStatistics) || ok && s != stats {
			t.Errorf("%v %v", s, ok)
		}
	}
	if d := cmp.Diff([]uint32{TypeSection, TypeInterface, TypePacket, TypeStatistics}, kinds); d != "" {
		t.Error(d)
	}
	_, first, err := ReadBlock(bytes.NewReader(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(first); n++ {
		if _, _, err := ReadBlock(bytes.NewReader(first[:n]), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	first[len(first)-1]++
	if _, _, err := ReadBlock(bytes.NewReader(first), nil); !errors.Is(err, ErrBlock) {
		t.Errorf("lengths differ: %v", err)
	}
}

func FuzzReadBlock(f *testing.F) {
	f.Add(AppendStatistics(nil, &Statistics{Received: 1}))
	f.Add(AppendSection(nil, "a", "b"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if _, block, err := ReadBlock(bytes.NewReader(b), nil); err == nil {
			ParseStatistics(block)
		}
	})
}

package pdu_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iserd/iserd/pdu"
)

type segment struct {
	Type pdu.AHSType
	Data []byte
}

// walk collects the segments of a.
func walk(a pdu.AHS) ([]segment, error) {
	var out []segment
	for len(a) > 0 {
		t, data, rest, err := a.Next()
		if err != nil {
			return nil, err
		}
		out = append(out, segment{t, data})
		a = rest
	}
	return out, nil
}

func TestAHSNext(t *testing.T) {
	tests := []struct {
		name string
		wire [][]byte
		want []segment
		ok   bool
	}{
		{"none", nil, nil, true},
		{"bidirectional read length", [][]byte{
			{0, 5}, {2}, {0}, // AHSLength, AHSType, reserved
			{0, 1, 0, 0}, // length
		}, []segment{{pdu.AHSBidiReadLength, []byte{0, 0, 1, 0, 0}}}, true},
		{"extended CDB with padding, then another", [][]byte{
			{0, 3}, {1}, {0}, // AHSLength, AHSType, reserved
			{0xaa, 0xbb}, {0, 0}, // CDB, padding
			{0, 1}, {0xc0 | 7}, {9}, // unknown type, reserved bits set
		}, []segment{{pdu.AHSExtendedCDB, []byte{0, 0xaa, 0xbb}}, {7, []byte{9}}}, true},
		{"the longest", [][]byte{
			{0x03, 0xf9}, {1}, zeros(1017), // 1017 + 3 bytes are 255 words
		}, []segment{{pdu.AHSExtendedCDB, zeros(1017)}}, true},
		{"short", [][]byte{{0, 1, 1}}, nil, false},
		{"length zero", [][]byte{{0, 0}, {1}, {0}}, nil, false},
		{"over the end", [][]byte{{0, 2}, {1}, {0}}, nil, false},
		{"padding over the end", [][]byte{{0, 3}, {1}, {0}, {1, 2}}, nil, false},
		{"largest length", [][]byte{{0xff, 0xff}, {1}, {0}}, nil, false},
		{"second one bad", [][]byte{{0, 1}, {1}, {0}, {0, 0}, {1}, {0}}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := walk(bytes.Join(tt.wire, nil))
			if (err == nil) != tt.ok {
				t.Fatalf("error %v", err)
			}
			var pe *pdu.ProtocolError
			if err != nil && (!errors.As(err, &pe) || pe.Reason != pdu.RejectInvalidPDUField) {
				t.Errorf("error %v, want an invalid PDU field", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, _, _, err := pdu.AHS(nil).Next(); err == nil {
		t.Error("Next takes nothing at all")
	}
}

func TestExtendedCDB(t *testing.T) {
	cdb := make([]byte, 32)
	for i := range cdb {
		cdb[i] = byte(i + 1)
	}
	one, err := pdu.AppendExtendedCDB(nil, cdb)
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]byte{0, 17, 1, 0}, cdb[16:]...); !bytes.Equal(one, want) {
		t.Fatalf("segment %x, want %x", one, want)
	}
	bidi := pdu.AppendBidiReadLength(nil, 0x01020304)
	tests := []struct {
		name string
		ahs  []byte
		want []byte
		ok   bool
	}{
		{"no segment", nil, cdb[:16], true},
		{"only another segment", bidi, cdb[:16], true},
		{"one", one, cdb, true},
		{"after another", append(bytes.Clone(bidi), one...), cdb, true},
		{"two", append(bytes.Clone(one), one...), nil, false},
		{"bad", one[:8], nil, false},
		{"too many bytes", make([]byte, pdu.MaxTotalAHSLength+4), nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := pdu.ExtendedCDB([]byte{0xee}, cdb[:16], tt.ahs)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v", err)
			}
			if want := append([]byte{0xee}, tt.want...); !bytes.Equal(got, want) {
				t.Errorf("got %x, want %x", got, want)
			}
		})
	}
}

func TestBidiReadLength(t *testing.T) {
	good := pdu.AppendBidiReadLength(nil, 0x01020304)
	tests := []struct {
		name    string
		ahs     pdu.AHS
		ok, err bool
	}{
		{"no segment", nil, false, false},
		{"one", good, true, false},
		{"two", append(bytes.Clone(good), good...), false, true},
		{"wrong length", pdu.AHS{0, 1, 2, 0}, false, true},
		{"bad", good[:4], false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, ok, err := tt.ahs.BidiReadLength()
			if ok != tt.ok || (err != nil) != tt.err || ok && n != 0x01020304 {
				t.Errorf("got %#x, %t, %v", n, ok, err)
			}
		})
	}
}

func TestAppendExtendedCDBRange(t *testing.T) {
	for _, n := range []int{0, 6, 16} {
		if got, err := pdu.AppendExtendedCDB(nil, make([]byte, n)); len(got) != 0 || err != nil {
			t.Errorf("CDB of %d bytes: %x, %v", n, got, err)
		}
	}
	// 1020 bytes less three of header and one reserved, plus 16 in the BHS
	const longest = 1020 - 4 + 16
	if got, err := pdu.AppendExtendedCDB(nil, make([]byte, longest)); len(got) != 1020 || err != nil {
		t.Errorf("longest CDB: %d bytes, %v", len(got), err)
	}
	if got, err := pdu.AppendExtendedCDB([]byte{1}, make([]byte, longest+1)); len(got) != 1 || err == nil {
		t.Errorf("CDB that is too long: %d bytes, %v", len(got), err)
	}
}

func TestExtendedCDBRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cdb := rapid.SliceOfN(rapid.Byte(), 16, 260).Draw(t, "cdb")
		n := rapid.Uint32().Draw(t, "n")
		ahs, err := pdu.AppendExtendedCDB(pdu.AppendBidiReadLength(nil, n), cdb)
		if err != nil {
			t.Fatal(err)
		}
		if len(ahs)%4 != 0 {
			t.Fatalf("%d bytes", len(ahs))
		}
		got, err := pdu.ExtendedCDB(nil, cdb[:16], ahs)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, cdb) {
			t.Fatalf("got %x, want %x", got, cdb)
		}
		if m, ok, err := pdu.AHS(ahs).BidiReadLength(); m != n || !ok || err != nil {
			t.Fatalf("got %d, %t, %v", m, ok, err)
		}
	})
}

func TestAHSAllocs(t *testing.T) {
	cdb := make([]byte, 32)
	ahs, err := pdu.AppendExtendedCDB(nil, cdb)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 260)
	n := testing.AllocsPerRun(100, func() {
		if _, err := pdu.ExtendedCDB(dst, cdb[:16], ahs); err != nil {
			t.Fatal(err)
		}
		if ahs, err = pdu.AppendExtendedCDB(ahs[:0], cdb); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzAHS(f *testing.F) {
	f.Add([]byte{0, 5, 2, 0, 0, 1, 0, 0})
	f.Add([]byte{0, 3, 1, 0, 1, 2, 0, 0, 0, 1, 7, 9})
	f.Add([]byte{0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		segs, err := walk(b)
		cdb, cerr := pdu.ExtendedCDB(nil, make([]byte, 16), b)
		_, _, berr := pdu.AHS(b).BidiReadLength()
		if err != nil {
			if cerr == nil || berr == nil {
				t.Fatalf("walk fails with %v, the others with %v and %v", err, cerr, berr)
			}
			return
		}
		total := 0
		for _, s := range segs {
			n := 3 + len(s.Data)
			total += n + pdu.Pad(n)
			if len(s.Data) == 0 {
				t.Fatal("segment without data")
			}
		}
		if total != len(b) {
			t.Fatalf("segments take %d of %d bytes", total, len(b))
		}
		if cerr == nil && (len(cdb) < 16 || len(cdb) > 16+len(b)) {
			t.Fatalf("CDB of %d bytes", len(cdb))
		}
	})
}

package text_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iserd/iserd/pdu/text"
)

func TestParseNumber(t *testing.T) {
	tests := []struct {
		in     string
		lo, hi uint64
		want   uint64
		err    error
	}{
		{"0", 0, 10, 0, nil},
		{"262144", 512, 1<<24 - 1, 262144, nil},
		{"0x0", 0, 10, 0, nil},
		{"0x40000", 512, 1<<24 - 1, 262144, nil},
		{"0XaBcD", 0, math.MaxUint64, 0xabcd, nil},
		{"0x0000000000000000000001", 0, 10, 1, nil},
		{"18446744073709551615", 0, math.MaxUint64, math.MaxUint64, nil},
		{"18446744073709551616", 0, math.MaxUint64, 0, text.ErrRange},
		{"0x10000000000000000", 0, math.MaxUint64, 0, text.ErrRange},
		{"511", 512, 1024, 0, text.ErrRange},
		{"1025", 512, 1024, 0, text.ErrRange},
		{"", 0, 10, 0, text.ErrSyntax},
		{"01", 0, 10, 0, text.ErrSyntax},
		{"00", 0, 10, 0, text.ErrSyntax},
		{"+1", 0, 10, 0, text.ErrSyntax},
		{"-1", 0, 10, 0, text.ErrSyntax},
		{" 1", 0, 10, 0, text.ErrSyntax},
		{"1 ", 0, 10, 0, text.ErrSyntax},
		{"1_0", 0, 10, 0, text.ErrSyntax},
		{"0x", 0, 10, 0, text.ErrSyntax},
		{"0x_1", 0, 10, 0, text.ErrSyntax},
		{"0x-1", 0, 10, 0, text.ErrSyntax},
		{"0xg", 0, 10, 0, text.ErrSyntax},
		{"0b1", 0, 10, 0, text.ErrSyntax},
		{"1a", 0, 10, 0, text.ErrSyntax},
		{"1.5", 0, 10, 0, text.ErrSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := text.ParseNumber(tt.in, tt.lo, tt.hi)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %d, %v; want %d, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// TestParseNumberModel compares with arithmetic that has no limit.
func TestParseNumberModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "n"))
		lo := rapid.Uint64().Draw(t, "lo")
		hi := rapid.Uint64Min(lo).Draw(t, "hi")
		format := rapid.SampledFrom([]string{"%d", "0x%x", "0X%X"}).Draw(t, "format")
		got, err := text.ParseNumber(fmt.Sprintf(format, n), lo, hi)
		want := n.IsUint64() && n.Uint64() >= lo && n.Uint64() <= hi
		switch {
		case want && (err != nil || got != n.Uint64()):
			t.Fatalf("%d in %d..%d: got %d, %v", n, lo, hi, got, err)
		case !want && !errors.Is(err, text.ErrRange):
			t.Fatalf("%d in %d..%d: got %d, %v", n, lo, hi, got, err)
		}
	})
}

func TestParseRange(t *testing.T) {
	tests := []struct {
		in       string
		from, to uint64
		err      error
	}{
		{"1~8", 1, 8, nil},
		{"0x10~0x10", 16, 16, nil},
		{"8~1", 0, 0, text.ErrRange},
		{"1~101", 0, 0, text.ErrRange},
		{"0~5", 0, 0, text.ErrRange},
		{"5", 0, 0, text.ErrSyntax},
		{"~5", 0, 0, text.ErrSyntax},
		{"5~", 0, 0, text.ErrSyntax},
		{"1~2~3", 0, 0, text.ErrSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			from, to, err := text.ParseRange(tt.in, 1, 100)
			if from != tt.from || to != tt.to || !errors.Is(err, tt.err) {
				t.Errorf("got %d, %d, %v", from, to, err)
			}
		})
	}
}

func TestParseBool(t *testing.T) {
	for _, v := range []bool{true, false} {
		if got, err := text.ParseBool(text.Bool(v)); got != v || err != nil {
			t.Errorf("%t: got %t, %v", v, got, err)
		}
	}
	for _, s := range []string{"", "yes", "no", "YES", "true", "1", "Yes "} {
		if _, err := text.ParseBool(s); !errors.Is(err, text.ErrSyntax) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseList(t *testing.T) {
	long := strings.Repeat("v", text.MaxSimpleValueLen)
	tests := []struct {
		name, in string
		want     []string
		err      error
	}{
		{"one", "None", []string{"None"}, nil},
		{"order stays", "CRC32C,None", []string{"CRC32C", "None"}, nil},
		{"longest element", "A," + long, []string{"A", long}, nil},
		{"most elements", strings.Repeat("a,", text.MaxListLen-1) + "a", strings.Split(strings.Repeat("a", text.MaxListLen), ""), nil},
		{"empty", "", nil, text.ErrSyntax},
		{"empty element", "A,,B", nil, text.ErrSyntax},
		{"comma first", ",A", nil, text.ErrSyntax},
		{"comma last", "A,", nil, text.ErrSyntax},
		{"element too long", "A,v" + long, nil, text.ErrTooLong},
		{"too many", strings.Repeat("a,", text.MaxListLen) + "a", nil, text.ErrTooMany},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := text.ParseList(tt.in)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseBinary(t *testing.T) {
	tests := []struct {
		name, in string
		limit    int
		want     []byte
		err      error
	}{
		{"hex", "0x00aAFf", 3, []byte{0, 0xaa, 0xff}, nil},
		{"upper case prefix", "0XAB", 1, []byte{0xab}, nil},
		{"odd digits", "0xabc", 2, []byte{0x0a, 0xbc}, nil},
		{"base64", "0bAKr/", 3, []byte{0, 0xaa, 0xff}, nil},
		{"base64, upper case prefix", "0BAKr/", 3, []byte{0, 0xaa, 0xff}, nil},
		{"base64, one padding byte", "0bAKo=", 2, []byte{0, 0xaa}, nil},
		{"base64, two padding bytes", "0bqg==", 1, []byte{0xaa}, nil},
		{"hex over the limit", "0x00aaff", 2, nil, text.ErrTooLong},
		{"odd digits over the limit", "0xabc", 1, nil, text.ErrTooLong},
		{"base64 over the limit", "0bAKr/", 2, nil, text.ErrTooLong},
		{"padded base64 over the limit", "0bAKo=", 1, nil, text.ErrTooLong},
		{"length comes before digits", "0x" + strings.Repeat("z", 8000), 1024, nil, text.ErrTooLong},
		{"empty", "", 10, nil, text.ErrSyntax},
		{"no prefix", "abcd", 10, nil, text.ErrSyntax},
		{"decimal", "12", 10, nil, text.ErrSyntax},
		{"no hex digits", "0x", 10, nil, text.ErrSyntax},
		{"no base64 digits", "0b", 10, nil, text.ErrSyntax},
		{"bad hex digit", "0x0g", 10, nil, text.ErrSyntax},
		{"bad base64 digit", "0bAK*/", 10, nil, text.ErrSyntax},
		{"base64 without padding", "0bqg", 10, nil, text.ErrSyntax},
		{"base64 with stray bits", "0bqh==", 10, nil, text.ErrSyntax},
		{"base64 with a line break", "0bAK\nr/", 10, nil, text.ErrSyntax},
		{"only line breaks", "0b\r\n\r\n", 10, nil, text.ErrSyntax},
		{"only padding", "0b====", 10, nil, text.ErrSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := text.ParseBinary(tt.in, tt.limit)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if !bytes.Equal(got, tt.want) {
				t.Errorf("got %x, want %x", got, tt.want)
			}
		})
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Byte(), 1, 1024).Draw(t, "value")
		for _, s := range []string{text.EncodeHex(want), text.EncodeBase64(want)} {
			got, err := text.ParseBinary(s, len(want))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: got %x, %v", s, got, err)
			}
			if _, err := text.ParseBinary(s, len(want)-1); !errors.Is(err, text.ErrTooLong) {
				t.Fatalf("%s with a limit too small: %v", s, err)
			}
		}
	})
}

func FuzzParseBinary(f *testing.F) {
	f.Add("0xabc", 16)
	f.Add("0bAKo=", 16)
	f.Add("0b\n", 1)
	f.Add("0x", 0)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		b, err := text.ParseBinary(s, limit)
		if err != nil {
			if b != nil || !errors.Is(err, text.ErrSyntax) && !errors.Is(err, text.ErrTooLong) {
				t.Fatalf("%x, %v", b, err)
			}
			return
		}
		if len(b) == 0 || len(b) > limit {
			t.Fatalf("%d bytes with limit %d", len(b), limit)
		}
		for _, enc := range []string{text.EncodeHex(b), text.EncodeBase64(b)} {
			again, err := text.ParseBinary(enc, len(b))
			if err != nil || !bytes.Equal(b, again) {
				t.Fatalf("%s: %x, %v", enc, again, err)
			}
		}
	})
}

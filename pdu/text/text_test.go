package text_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iserd/iserd/pdu/text"
)

func TestParse(t *testing.T) {
	longKey := "K" + strings.Repeat("k", text.MaxKeyLen-1)
	longValue := strings.Repeat("v", text.MaxValueLen)
	tests := []struct {
		name string
		in   string
		want []text.Pair
		err  error
	}{
		{"nothing", "", nil, nil},
		{"one pair", "InitiatorName=iqn.2001-04.com.example\x00", []text.Pair{{"InitiatorName", "iqn.2001-04.com.example"}}, nil},
		{"order and duplicates stay", "B=1\x00A=2\x00B=3\x00", []text.Pair{{"B", "1"}, {"A", "2"}, {"B", "3"}}, nil},
		{"empty value", "InitiatorAlias=\x00", []text.Pair{{"InitiatorAlias", ""}}, nil},
		{"equal signs in the value", "CHAP_C=0bAA==\x00", []text.Pair{{"CHAP_C", "0bAA=="}}, nil},
		{"UTF-8 value", "InitiatorAlias=Zürich\x00", []text.Pair{{"InitiatorAlias", "Zürich"}}, nil},
		{"all key bytes", "Az09.-+@_=1\x00", []text.Pair{{"Az09.-+@_", "1"}}, nil},
		{"private key", "X-com.example.do=1\x00", []text.Pair{{"X-com.example.do", "1"}}, nil},
		{"public extension key", "X#NodeArchitecture=x\x00", []text.Pair{{"X#NodeArchitecture", "x"}}, nil},
		{"further NULs", "\x00A=1\x00\x00\x00B=2\x00\x00", []text.Pair{{"A", "1"}, {"B", "2"}}, nil},
		{"longest key", longKey + "=\x00", []text.Pair{{longKey, ""}}, nil},
		{"longest value", "A=" + longValue + "\x00", []text.Pair{{"A", longValue}}, nil},

		{"no NUL", "A=1", nil, text.ErrSyntax},
		{"last without NUL", "A=1\x00B=2", nil, text.ErrSyntax},
		{"no equal sign", "A\x00", nil, text.ErrSyntax},
		{"empty key", "=1\x00", nil, text.ErrSyntax},
		{"lower case first", "iSCSIProtocolLevel=1\x00", []text.Pair{{Key: "iSCSIProtocolLevel", Value: "1"}}, nil},
		{"digit first", "1=1\x00", nil, text.ErrSyntax},
		{"space in key", "A B=1\x00", nil, text.ErrSyntax},
		{"number sign later", "AB#C=1\x00", nil, text.ErrSyntax},
		{"non-ASCII key", "Aü=1\x00", nil, text.ErrSyntax},
		{"key too long", longKey + "k=\x00", nil, text.ErrTooLong},
		{"value too long", "A=v" + longValue + "\x00", nil, text.ErrTooLong},
		{"most pairs", strings.Repeat("A=1\x00", text.MaxPairs), pairs(text.MaxPairs), nil},
		{"too many pairs", strings.Repeat("A=1\x00", text.MaxPairs+1), nil, text.ErrTooMany},
		{"bad pair after good ones", "A=1\x00B\x00", nil, text.ErrSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := text.Parse([]byte(tt.in))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func pairs(n int) []text.Pair {
	out := make([]text.Pair, n)
	for i := range out {
		out[i] = text.Pair{Key: "A", Value: "1"}
	}
	return out
}

// TestNoPrefixParses checks that text cut anywhere but after a pair is refused.
func TestNoPrefixParses(t *testing.T) {
	whole := "InitiatorName=iqn.x\x00SessionType=Normal\x00AuthMethod=CHAP,None\x00"
	for i := 1; i < len(whole); i++ {
		_, err := text.Parse([]byte(whole[:i]))
		if ended := whole[i-1] == 0; ended != (err == nil) {
			t.Errorf("%q: error %v", whole[:i], err)
		}
	}
}

// TestErrorsHideValues has secrets where a value or a broken key is.
func TestErrorsHideValues(t *testing.T) {
	const secret = "hunter2secret"
	_, err1 := text.Parse([]byte("CHAP_R=" + secret))
	_, err2 := text.Parse([]byte("CHAP_R=" + strings.Repeat(secret, 1000) + "\x00"))
	_, err3 := text.Parse([]byte("?" + secret + "=1\x00"))
	_, err4 := text.ParseBinary("0x"+secret, 1024)
	_, err5 := text.ParseNumber(secret, 0, 1)
	_, err6 := text.ParseBinary("0b"+secret, 1024)
	_, err7 := text.ParseBool(secret)
	_, err8 := text.ParseList(secret + ",")
	_, _, err9 := text.ParseRange(secret, 0, 1)
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8, err9} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("error %d: %v", i+1, err)
		}
	}
}

func TestAppend(t *testing.T) {
	got := text.Append([]byte("A=1\x00"), "TargetAlias", "disk\x00B=2")
	if want := "A=1\x00TargetAlias=disk\x00"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	dst := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { text.Append(dst, "TargetPortalGroupTag", "1") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pair := rapid.Custom(func(t *rapid.T) text.Pair {
			return text.Pair{
				Key:   rapid.StringMatching(`[A-Z][a-zA-Z0-9.+@_-]{0,62}`).Draw(t, "key"),
				Value: rapid.StringMatching(`[^\x00]*`).Draw(t, "value"),
			}
		})
		want := rapid.SliceOfN(pair, 0, text.MaxPairs).Draw(t, "pairs")
		var b []byte
		for _, p := range want {
			b = text.Append(b, p.Key, p.Value)
		}
		got, err := text.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 {
			want = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestParseOwns checks that pairs don't refer to the input.
func TestParseOwns(t *testing.T) {
	b := []byte("A=1\x00")
	got, err := text.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if diff := cmp.Diff([]text.Pair{{Key: "A", Value: "1"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCollector(t *testing.T) {
	var c text.Collector
	if _, err := c.Pairs(); !errors.Is(err, text.ErrIncomplete) {
		t.Errorf("Pairs of nothing: %v", err)
	}
	for i, s := range []string{"Initiator", "", "Name=iqn", ".x\x00B=2\x00"} {
		last := i == 3
		complete, err := c.Add([]byte(s), !last)
		if err != nil || complete != last || c.Pending() == last {
			t.Fatalf("PDU %d: complete %t, pending %t, error %v", i, complete, c.Pending(), err)
		}
	}
	got, err := c.Pairs()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]text.Pair{{Key: "InitiatorName", Value: "iqn.x"}, {Key: "B", Value: "2"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := c.Pairs(); !errors.Is(err, text.ErrIncomplete) || c.Pending() {
		t.Errorf("Pairs twice: %v", err)
	}
}

// TestCollectorNext starts a new text without Pairs of the one before.
func TestCollectorNext(t *testing.T) {
	var c text.Collector
	for _, s := range []string{"A=1\x00", "B=2\x00"} {
		if complete, err := c.Add([]byte(s), false); !complete || err != nil {
			t.Fatalf("complete %t, error %v", complete, err)
		}
	}
	got, err := c.Pairs()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]text.Pair{{Key: "B", Value: "2"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCollectorLimits(t *testing.T) {
	tests := []struct {
		name     string
		max      int
		size, ok int // bytes of each PDU, PDUs that are taken
		err      error
	}{
		{"default", 0, 8192, 8, text.ErrTooLong},
		{"own", 1000, 300, 3, text.ErrTooLong},
		{"smallest segments", 0, 512, 128, text.ErrTooLong},
		{"empty PDUs", 0, 0, text.MaxSegments, text.ErrTooMany},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := text.Collector{Max: tt.max}
			data := make([]byte, tt.size)
			for i := range tt.ok {
				if _, err := c.Add(data, true); err != nil {
					t.Fatalf("PDU %d: %v", i, err)
				}
			}
			if _, err := c.Add(data, true); !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if c.Pending() {
				t.Error("not empty after the error")
			}
		})
	}
}

// TestCollectorSplit cuts text at random places: the pairs stay the same.
func TestCollectorSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		var want []text.Pair
		for i := range rapid.IntRange(1, 10).Draw(t, "n") {
			p := text.Pair{Key: "K" + strconv.Itoa(i), Value: rapid.StringMatching(`[a-z]{0,20}`).Draw(t, "value")}
			want = append(want, p)
			b = text.Append(b, p.Key, p.Value)
		}
		var c text.Collector
		for len(b) > 0 {
			n := rapid.IntRange(1, len(b)).Draw(t, "cut")
			complete, err := c.Add(b[:n], n < len(b))
			if err != nil || complete != (n == len(b)) {
				t.Fatalf("complete %t, error %v", complete, err)
			}
			b = b[n:]
		}
		got, err := c.Pairs()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func FuzzTextParse(f *testing.F) {
	f.Add([]byte("InitiatorName=iqn.1993-08.org.debian:01:abc\x00InitiatorAlias=\x00SessionType=Normal\x00AuthMethod=None\x00"))
	f.Add([]byte("A=1\x00\x00B==\x00"))
	f.Add([]byte("X#a=\x00X-b=\x00"))
	f.Add([]byte("=\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := text.Parse(b)
		if err != nil {
			if first != nil {
				t.Fatal("pairs and an error")
			}
			return
		}
		if len(first) > text.MaxPairs {
			t.Fatalf("%d pairs", len(first))
		}
		var again []byte
		for _, p := range first {
			if err := text.CheckKey(p.Key); err != nil {
				t.Fatal(err)
			}
			again = text.Append(again, p.Key, p.Value)
		}
		if len(again) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(again))
		}
		second, err := text.Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatalf("no fixpoint (-first +second):\n%s", diff)
		}
	})
}

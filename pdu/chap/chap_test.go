package chap_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/pdu/chap"
)

// vectors were computed with another implementation of the four hash functions
// (OpenSSL): identifier 5a, the secret below, challenge 00 01 … 1f.
var vectors = []struct {
	algorithm chap.Algorithm
	name      string
	size      int
	response  string
}{
	{chap.MD5, "MD5", 16, "090b74e785d2a9e409db6495672f64dc"},
	{chap.SHA1, "SHA1", 20, "e7c75450aefb29accfa108e185a126aa456fc545"},
	{chap.SHA256, "SHA-256", 32, "e79db8d540ade273c7f41bf1af3a670ffa660fac36af94ce630f12223cd01400"},
	{chap.SHA3_256, "SHA3-256", 32, "4b8f4e006ba5f55ccd7feb27005a9b3c5544e1cfe3ddfaa99d7d51d5924c3b3d"},
}

const (
	vectorID     = 0x5a
	vectorSecret = "0123456789ab-secret"
)

func vectorChallenge() []byte {
	c := make([]byte, 32)
	for i := range c {
		c[i] = byte(i)
	}
	return c
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			got := chap.Response(v.algorithm, vectorID, []byte(vectorSecret), vectorChallenge())
			if diff := cmp.Diff(v.response, hex.EncodeToString(got)); diff != "" {
				t.Fatalf("Response (-want +got):\n%s", diff)
			}
			if v.algorithm.Size() != v.size || v.algorithm.String() != v.name {
				t.Errorf("Size %d, String %q", v.algorithm.Size(), v.algorithm)
			}
			c := chap.Challenge{Algorithm: v.algorithm, Identifier: vectorID, Value: vectorChallenge()}
			if !c.Verify([]byte(vectorSecret), got) {
				t.Error("right response refused")
			}
			for i := range got {
				wrong := bytes.Clone(got)
				wrong[i] ^= 0x80
				if c.Verify([]byte(vectorSecret), wrong) {
					t.Errorf("response with byte %d wrong accepted", i)
				}
			}
			for _, wrong := range [][]byte{nil, {}, got[:len(got)-1], append(bytes.Clone(got), 0)} {
				if c.Verify([]byte(vectorSecret), wrong) {
					t.Errorf("response of %d bytes accepted", len(wrong))
				}
			}
		})
	}
}

func TestUnknownAlgorithm(t *testing.T) {
	for _, a := range []chap.Algorithm{0, 1, 4, 9, 255} {
		if a.Size() != 0 {
			t.Errorf("%v has size %d", a, a.Size())
		}
		if r := chap.Response(a, 1, []byte("s"), []byte("c")); r != nil {
			t.Errorf("%v has response %x", a, r)
		}
		if chap.Verify(a, 1, []byte("s"), []byte("c"), nil) {
			t.Errorf("%v verifies nothing against nothing", a)
		}
		if _, err := chap.NewChallenge(rand.Reader, a, 0); err == nil {
			t.Errorf("%v: challenge without error", a)
		}
	}
	if got := chap.Algorithm(9).String(); got != "CHAP_A(9)" {
		t.Errorf("String %q", got)
	}
}

func TestSelect(t *testing.T) {
	all := chap.Algorithms()
	tests := []struct {
		name    string
		offered string
		allowed []chap.Algorithm
		want    chap.Algorithm // 0: error
	}{
		{"initiator's order, strong first", "8,7,6,5", all, chap.SHA3_256},
		{"initiator's order, weak first", "5,7", all, chap.MD5},
		{"our order has no say", "7,8", []chap.Algorithm{chap.SHA3_256, chap.SHA256}, chap.SHA256},
		{"MD5 not allowed", "5,7", []chap.Algorithm{chap.SHA256}, chap.SHA256},
		{"nothing allowed", "5", []chap.Algorithm{chap.SHA256}, 0},
		{"unknown skipped", "9,261,4294967295,5", all, chap.MD5},
		{"hex constant", "0x7", all, chap.SHA256},
		{"prefix of a number is not the number", "55", all, 0},
		{"low byte of a number is not the number", "261", all, 0},
		{"empty", "", all, 0},
		{"empty element", "5,,7", all, 0},
		{"trailing comma", "5,", all, 0},
		{"junk after a match", "5,junk", all, 0},
		{"space", "5, 7", all, 0},
		{"negative", "-5", all, 0},
		{"too many", strings.Repeat("9,", 40) + "5", all, 0},
		{"allowed but not implemented", "9", []chap.Algorithm{9}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := chap.Select(tt.offered, tt.allowed)
			if got != tt.want || (err == nil) != (tt.want != 0) {
				t.Errorf("Select(%q) = %v, %v, want %v", tt.offered, got, err, tt.want)
			}
		})
	}
}

func TestParseAlgorithm(t *testing.T) {
	for _, a := range chap.Algorithms() {
		for _, s := range []string{a.String(), strings.ToLower(a.String()), chap.FormatList([]chap.Algorithm{a})} {
			if got, err := chap.ParseAlgorithm(s); got != a || err != nil {
				t.Errorf("ParseAlgorithm(%q) = %v, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"", "9", "md4", "sha"} {
		if got, err := chap.ParseAlgorithm(s); err == nil {
			t.Errorf("ParseAlgorithm(%q) = %v", s, got)
		}
	}
	if got := chap.FormatList(chap.Algorithms()); got != "8,7,6,5" {
		t.Errorf("FormatList %q", got)
	}
}

func TestParseIdentifier(t *testing.T) {
	for s, want := range map[string]byte{"0": 0, "1": 1, "255": 255, "0xff": 255, "0x0": 0} {
		if got, err := chap.ParseIdentifier(s); got != want || err != nil {
			t.Errorf("ParseIdentifier(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "256", "0x100", "-1", "1 ", "0x", "a", "99999999999999999999"} {
		if got, err := chap.ParseIdentifier(s); err == nil {
			t.Errorf("ParseIdentifier(%q) = %d", s, got)
		}
	}
}

func TestParseChallenge(t *testing.T) {
	long := bytes.Repeat([]byte{0xa5}, chap.MaxBinaryLen)
	good := map[string][]byte{
		"0x00":                  {0},
		"0Xa5":                  {0xa5},
		"0xA5a5":                {0xa5, 0xa5},
		chap.Encode(long):       long,
		"0b" + b64(long):        long,
		"0bAQ==":                {1},
		"0BAQID":                {1, 2, 3},
		"0b" + b64(long[:1023]): long[:1023],
	}
	for s, want := range good {
		if got, err := chap.ParseChallenge(s); err != nil || !bytes.Equal(got, want) {
			t.Errorf("ParseChallenge(%.20q) = %x, %v", s, got, err)
		}
	}
	bad := []string{
		"", "0x", "0b", "0x0", "0x000", "a5", "165", "0xg0", "0x a5", "0xa5 ", "0b====", "0bA", "0bA===", "0b!!!!", "0bAQ==AQ==",
		chap.Encode(append(long, 0)), "0b" + b64(append(long, 0)), "0x" + strings.Repeat("00", 8192), "0b" + strings.Repeat("A", 8192),
	}
	for _, s := range bad {
		if got, err := chap.ParseChallenge(s); err == nil {
			t.Errorf("ParseChallenge(%.20q) = %x", s, got)
		}
	}
}

func TestParseResponse(t *testing.T) {
	for _, v := range vectors {
		for n := range 80 {
			b := bytes.Repeat([]byte{7}, n)
			for _, s := range []string{chap.Encode(b), "0b" + b64(b)} {
				got, err := chap.ParseResponse(s, v.algorithm)
				if ok := n == v.size; ok != (err == nil) || ok && !bytes.Equal(got, b) {
					t.Errorf("%s: %d bytes: %x, %v", v.name, n, got, err)
				}
			}
		}
	}
}

// TestParseAllocation shows that the length is checked before decoding (the
// class of CVE-2018-14633).
func TestParseAllocation(t *testing.T) {
	for _, s := range []string{"0x" + strings.Repeat("00", 1<<20), "0b" + strings.Repeat("AAAA", 1<<18)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			if _, err := chap.ParseResponse(s, chap.MD5); err == nil {
				t.Fatal("accepted")
			}
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 2048 {
			t.Errorf("%.4q…: %d bytes allocated", s, got)
		}
	}
}

func TestNewChallenge(t *testing.T) {
	seen := make(map[string]bool)
	for range 10_000 {
		c, err := chap.NewChallenge(rand.Reader, chap.SHA256, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Value) != chap.DefaultChallengeLen {
			t.Fatalf("%d bytes", len(c.Value))
		}
		if seen[string(c.Value)] {
			t.Fatal("a challenge for the second time")
		}
		seen[string(c.Value)] = true
	}
	for _, n := range []int{-1, 1, 15, 1025} {
		if _, err := chap.NewChallenge(rand.Reader, chap.MD5, n); err == nil {
			t.Errorf("challenge of %d bytes", n)
		}
	}
	if _, err := chap.NewChallenge(iotest.ErrReader(errors.New("dry")), chap.MD5, 0); err == nil {
		t.Error("no error without random bytes")
	}
	if _, err := chap.NewChallenge(bytes.NewReader(make([]byte, 8)), chap.MD5, 0); err == nil {
		t.Error("no error with too few random bytes")
	}
}

func TestSecrets(t *testing.T) {
	if err := chap.CheckSecret([]byte("12 bytes now")); err != nil {
		t.Error(err)
	}
	if err := chap.CheckSecret([]byte("11 bytes it")); !errors.Is(err, chap.ErrShortSecret) {
		t.Errorf("11 bytes: %v", err)
	}
	if err := chap.CheckSecret(make([]byte, 2000)); err == nil {
		t.Error("2000 bytes accepted")
	}
	if err := chap.CheckPair([]byte("a"), []byte("a")); !errors.Is(err, chap.ErrSameSecret) {
		t.Errorf("same: %v", err)
	}
	if err := chap.CheckPair([]byte("a"), []byte("b")); err != nil {
		t.Error(err)
	}
}

func TestOutstanding(t *testing.T) {
	var o chap.Outstanding
	a, b := []byte("aaaa"), []byte("bbbb")
	o.Remove(a)
	o.Add(a)
	o.Add(a)
	o.Add(b)
	o.Remove(a)
	if !o.Contains(a) || !o.Contains(b) || o.Contains([]byte("aaa")) || o.Len() != 2 {
		t.Error("wrong content")
	}
	o.Remove(a)
	o.Remove(b)
	if o.Contains(a) || o.Len() != 0 {
		t.Error("not empty")
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := []byte{byte(i)}
			for range 1000 {
				o.Add(c)
				if !o.Contains(c) {
					t.Error("lost")
				}
				o.Remove(c)
			}
		})
	}
	wg.Wait()
	if o.Len() != 0 {
		t.Errorf("%d left", o.Len())
	}
}

func FuzzCHAP(f *testing.F) {
	f.Add("5,7", "1", "0x00", "0bAAAA")
	f.Add("0x7", "0xff", "0bAQ==", "0x"+strings.Repeat("ab", 32))
	f.Fuzz(func(t *testing.T, a, i, c, r string) {
		algorithm, err := chap.Select(a, chap.Algorithms())
		if err != nil {
			algorithm = chap.SHA256
		}
		id, _ := chap.ParseIdentifier(i)
		challenge, err := chap.ParseChallenge(c)
		if err == nil {
			if len(challenge) == 0 || len(challenge) > chap.MaxBinaryLen {
				t.Fatalf("challenge of %d bytes", len(challenge))
			}
			if again, err := chap.ParseChallenge(chap.Encode(challenge)); err != nil || !bytes.Equal(again, challenge) {
				t.Fatalf("%x reads back as %x, %v", challenge, again, err)
			}
		}
		response, err := chap.ParseResponse(r, algorithm)
		if err == nil && len(response) != algorithm.Size() {
			t.Fatalf("response of %d bytes", len(response))
		}
		want := chap.Response(algorithm, id, []byte(c), challenge)
		if chap.Verify(algorithm, id, []byte(c), challenge, response) != bytes.Equal(want, response) {
			t.Fatal("Verify and Response disagree")
		}
	})
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

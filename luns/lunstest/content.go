package lunstest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/iserd/iserd/luns"
)

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// pattern returns n bytes that are different for every seed and position.
func pattern(seed uint64, n int) []byte {
	p := make([]byte, (n+7)&^7)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := 0; i < len(p); i += 8 {
		// xorshift64: never zero, so never mistaken for unwritten space.
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(p[i:], x)
	}
	return p[:n]
}

// poison fills p with a byte that a read has to overwrite.
func poison(p []byte) []byte {
	for i := range p {
		p[i] = 0xA5
	}
	return p
}

// unit returns the size of the pieces the kit works with: the block size, at
// least 512.
func unit(b luns.Backend) int64 { return max(512, int64(b.Info().BlockSize)) }

func read(t testing.TB, b luns.Backend, off, n int64) []byte {
	t.Helper()
	p := poison(make([]byte, n))
	if err := b.ReadAt(t.Context(), p, off); err != nil {
		t.Fatalf("ReadAt(%d bytes, %d): %v", n, off, err)
	}
	return p
}

func write(t testing.TB, b luns.Backend, p []byte, off int64, f luns.Flags) {
	t.Helper()
	if err := b.WriteAt(t.Context(), p, off, f); err != nil {
		t.Fatalf("WriteAt(%d bytes, %d, %v): %v", len(p), off, f, err)
	}
}

// same fails the test at the first byte that differs.
func same(t failer, what string, off int64, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d bytes, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: byte %d is %#02x, want %#02x", what, off+int64(i), got[i], want[i])
		}
	}
}

// zeroOrOld fails the test unless every unit of got is zero or as in old.
func zeroOrOld(t failer, what string, u int64, got, old []byte) {
	t.Helper()
	zeros := make([]byte, u)
	for i := int64(0); i < int64(len(got)); i += u {
		if g := got[i : i+u]; !bytes.Equal(g, zeros) && !bytes.Equal(g, old[i:i+u]) {
			t.Fatalf("%s: block at %d is neither zero nor as before", what, i)
		}
	}
}

package pdu_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/pdu"
)

// TestDigestVectors has the examples of RFC 3720 B.4, which are also in
// RFC 7143 appendix A.4. The digests are bytes in wire order.
func TestDigestVectors(t *testing.T) {
	up, down := make([]byte, 32), make([]byte, 32)
	for i := range up {
		up[i], down[i] = byte(i), byte(31-i)
	}
	tests := []struct {
		name string
		data []byte
		want [4]byte
	}{
		{"32 bytes of zeroes", make([]byte, 32), [4]byte{0xaa, 0x36, 0x91, 0x8a}},
		{"32 bytes of ones", bytes.Repeat([]byte{0xff}, 32), [4]byte{0x43, 0xab, 0xa8, 0x62}},
		{"32 bytes of incrementing", up, [4]byte{0x4e, 0x79, 0xdd, 0x46}},
		{"32 bytes of decrementing", down, [4]byte{0x5c, 0xdb, 0x3f, 0x11}},
		{"an iSCSI SCSI Read (10) command PDU", []byte{
			0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
			0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,
			0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		}, [4]byte{0x56, 0x3a, 0x96, 0xd9}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			crc := pdu.UpdateCRC32C(0, tt.data)
			var got [4]byte
			pdu.PutDigest(got[:], crc)
			if got != tt.want {
				t.Fatalf("got %x, want %x", got, tt.want)
			}
			if !pdu.CheckDigest(tt.want[:], crc) {
				t.Error("CheckDigest refuses the digest")
			}
			for i := range 32 {
				bad := tt.want
				bad[i/8] ^= 1 << (i % 8)
				if pdu.CheckDigest(bad[:], crc) {
					t.Errorf("CheckDigest takes a digest with bit %d flipped", i)
				}
			}
			if pdu.CheckDigest(tt.want[:3], crc) {
				t.Error("CheckDigest takes three bytes")
			}
		})
	}
}

// TestDigestSegments splits data anywhere: the digest is that of the whole.
func TestDigestSegments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		i := rapid.IntRange(0, len(b)).Draw(t, "split")
		if whole, parts := pdu.UpdateCRC32C(0, b), pdu.UpdateCRC32C(pdu.UpdateCRC32C(0, b[:i]), b[i:]); whole != parts {
			t.Fatalf("whole %#08x, parts %#08x", whole, parts)
		}
	})
}

func TestDigestAllocs(t *testing.T) {
	b := make([]byte, 4096)
	n := testing.AllocsPerRun(100, func() {
		crc := pdu.UpdateCRC32C(0, b)
		pdu.PutDigest(b, crc)
		pdu.CheckDigest(b, crc)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCRC32C4K(b *testing.B) {
	p := make([]byte, 4096)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		pdu.UpdateCRC32C(0, p)
	}
}

package bench

import (
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	block := func(seed, lba uint64, gen uint32) []byte {
		p := make([]byte, 1024)
		fillPattern(p, 512, seed, lba, gen)
		return p
	}
	flip := func(p []byte, i int) []byte { p[i] ^= 0x10; return p }
	tests := []struct {
		name string
		data []byte
		want string // part of the error; empty: none
	}{
		{"right", block(1, 100, 3), ""},
		{"zeroes", make([]byte, 1024), "no pattern"},
		{"old generation", block(1, 100, 2), "holds generation 2"},
		{"misdirected", block(1, 101, 3), "misdirected"},
		{"other seed", block(2, 100, 3), "another run"},
		{"bit flip in the filling", flip(block(1, 100, 3), 300), "CRC mismatch"},
		{"bit flip in the CRC", flip(block(1, 100, 3), 29), "CRC mismatch"},
		{"bit flip in the second block", flip(block(1, 100, 3), 1023), "LBA 101: CRC mismatch"},
		{"second block is old", append(block(1, 100, 3)[:512], block(1, 100, 2)[512:]...), "LBA 101: holds generation 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkPattern(tt.data, 512, 1, 100, 3)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if err := checkPattern(block(1, 100, 7), 512, 1, 100, anyGeneration); err != nil {
		t.Error(err)
	}
}

package config

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseSize(t *testing.T) {
	tests := []struct {
		text string
		want int64
	}{
		{"0", 0},
		{"1", 1},
		{"512B", 512},
		{"1K", 1 << 10},
		{"1KiB", 1 << 10},
		{"1KB", 1000},
		{"1.5GiB", 3 << 29},
		{"40 GiB", 40 << 30},
		{"100M", 100 << 20},
		{"2TB", 2e12},
		{"1P", 1 << 50},
		{"7EiB", 7 << 60},
		{"9223372036854775807", math.MaxInt64},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := ParseSize(tt.text)
			if err != nil || got != tt.want {
				t.Errorf("ParseSize(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
			}
		})
	}
	for _, text := range []string{"", "B", "GiB", "-1", "+1", "1XB", "1gib", "1 KiBs", "1e3", "0x10", ".5GiB", "1.GiB", "1.2.3GiB", "0.3B", "1/2", "8EiB", "9223372036854775808", "1_000", strings.Repeat("9", 100)} {
		t.Run("wrong "+text, func(t *testing.T) {
			if got, err := ParseSize(text); err == nil {
				t.Errorf("ParseSize(%q) = %d, want an error", text, got)
			}
		})
	}
}

func TestSizeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "n")
		if got, err := ParseSize(FormatSize(n)); err != nil || got != n {
			t.Fatalf("ParseSize(FormatSize(%d)) = %d, %v", n, got, err)
		}
	})
}

func TestISCSIName(t *testing.T) {
	for _, s := range []string{
		"iqn.2026-11.com.example:disk1", "iqn.2026-11.com.example", "iqn.1993-08.org.debian:01:8d2c9f7a1b",
		"iqn.2005-03.org.open-iscsi:abc", "iqn.1998-01.com.vmware:esx01-5a0e", "iqn.1991-05.com.microsoft:host.example.com",
		"eui.02004567a425678d", "naa.52004567ba64678d", "naa.62004567ba64678d0123456789abcdef",
	} {
		if err := checkISCSIName(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "iqn", "iqn.", "iqn.2026-11", "iqn.2026-11.", "iqn.2026-11.:x", "iqn.2026-11.com..example", "iqn.2026-00.com.example",
		"iqn.26-11.com.example", "iqn.2026-1.com.example", "iqn.2026-11.-com.example", "iqn.2026-11.com.example:a b",
		"iqn.2026-11.com.example:a_b", "eui.", "eui.02004567a425678", "eui.02004567a425678g", "naa.123", "foo.2026-11.com.example",
	} {
		if checkISCSIName(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

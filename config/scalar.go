package config

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// errSize says what a size looks like.
var errSize = errors.New("sizes are a whole number and one of B, KiB, MiB, GiB, TiB, PiB, EiB (or KB, MB, GB, TB, PB, EB), such as \"40GiB\"")

// ParseSize returns the number of bytes that text stands for: a number, with
// decimals if a unit follows, and a unit. KiB … EiB are powers of 1024, KB … EB
// of 1000, and K, M, G, T, P, E alone are powers of 1024 as in ctl.conf and
// tgtadm; no unit means bytes. The result must be whole and less than 2^63.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimLeft(text, "0123456789.")
	number, unit := text[:len(text)-len(digits)], strings.TrimSpace(digits)
	factor, ok := unitFactor(unit)
	if !ok || number == "" || len(number) > 24 || number[0] == '.' || strings.HasSuffix(number, ".") {
		return 0, errSize
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, errSize
	}
	r.Mul(r, new(big.Rat).SetInt64(factor))
	if !r.IsInt() {
		return 0, errSize
	}
	if !r.Num().IsInt64() {
		// 8 EiB itself is 2^63; the largest store that Go's offsets reach is
		// one byte less.
		return 0, fmt.Errorf("the size is more than %d bytes", int64(math.MaxInt64))
	}
	return r.Num().Int64(), nil
}

func unitFactor(unit string) (int64, bool) {
	if unit == "" || unit == "B" {
		return 1, true
	}
	exp := strings.IndexByte("KMGTPE", unit[0]) + 1
	if exp == 0 {
		return 0, false
	}
	base := int64(1024)
	switch unit[1:] {
	case "", "iB":
	case "B":
		base = 1000
	default:
		return 0, false
	}
	factor := int64(1)
	for range exp {
		factor *= base
	}
	return factor, true
}

// FormatSize writes n bytes with the largest binary unit that keeps it whole.
func FormatSize(n int64) string {
	const units = "KMGTPE"
	i := -1
	for n != 0 && n%1024 == 0 && i+1 < len(units) {
		n /= 1024
		i++
	}
	if i < 0 {
		return fmt.Sprintf("%dB", n)
	}
	return fmt.Sprintf("%d%ciB", n, units[i])
}

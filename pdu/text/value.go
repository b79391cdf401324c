package text

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxListLen is the most elements that ParseList takes.
const MaxListLen = 64

// ParseNumber reads a numerical-value, RFC 7143 §6.1: a decimal constant without
// leading zeros, or a hex constant after 0x or 0X. The error wraps ErrSyntax, or
// ErrRange for a number that is not in lo..hi.
func ParseNumber(s string, lo, hi uint64) (uint64, error) {
	digits, base := s, 10
	if isHex(s) {
		digits, base = s[2:], 16
	} else if len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("text: number with a leading zero: %w", ErrSyntax)
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("text: number of more than 64 bits: %w", ErrRange)
	}
	if err != nil {
		return 0, fmt.Errorf("text: number: %w", ErrSyntax)
	}
	if n < lo || n > hi {
		return 0, fmt.Errorf("text: number not in %d..%d: %w", lo, hi, ErrRange)
	}
	return n, nil
}

// ParseRange reads a numeric-range, RFC 7143 §6.1: two numbers with a tilde
// between, the second not below the first, both in lo..hi. The error wraps
// ErrSyntax or ErrRange.
func ParseRange(s string, lo, hi uint64) (from, to uint64, err error) {
	a, b, ok := strings.Cut(s, "~")
	if !ok {
		return 0, 0, fmt.Errorf("text: range without a tilde: %w", ErrSyntax)
	}
	if from, err = ParseNumber(a, lo, hi); err != nil {
		return 0, 0, err
	}
	if to, err = ParseNumber(b, lo, hi); err != nil {
		return 0, 0, err
	}
	if to < from {
		return 0, 0, fmt.Errorf("text: range ends before it starts: %w", ErrRange)
	}
	return from, to, nil
}

// ParseBool reads a boolean-value, RFC 7143 §6.1: Yes or No, in this case. The
// error wraps ErrSyntax.
func ParseBool(s string) (bool, error) {
	switch s {
	case Yes:
		return true, nil
	case No:
		return false, nil
	}
	return false, fmt.Errorf("text: neither Yes nor No: %w", ErrSyntax)
}

// Bool returns Yes or No.
func Bool(v bool) string {
	if v {
		return Yes
	}
	return No
}

// ParseList reads a list-of-values, RFC 7143 §6.1: one or more values with
// commas between, in the sender's order of preference. The error wraps ErrSyntax
// for an empty element, ErrTooLong for one over MaxSimpleValueLen and ErrTooMany
// for more than MaxListLen.
func ParseList(s string) ([]string, error) {
	n := strings.Count(s, ",") + 1
	if n > MaxListLen {
		return nil, fmt.Errorf("text: list of %d elements: %w", n, ErrTooMany)
	}
	list := strings.Split(s, ",")
	for _, v := range list {
		if v == "" {
			return nil, fmt.Errorf("text: empty list element: %w", ErrSyntax)
		}
		if len(v) > MaxSimpleValueLen {
			return nil, fmt.Errorf("text: list element of %d bytes: %w", len(v), ErrTooLong)
		}
	}
	return list, nil
}

// ParseBinary reads a binary-value in hex (0x or 0X) or base64 (0b or 0B),
// RFC 7143 §6.1, of at most limit bytes and at least one, and returns owned
// bytes. An odd number of hex digits reads as if a 0 came first. The decimal
// form that the standard allows up to 64 bits is not taken: such a value has no
// length. The error wraps ErrTooLong, found before anything is decoded, or
// ErrSyntax.
func ParseBinary(s string, limit int) ([]byte, error) {
	switch {
	case isHex(s):
		return parseHex(s[2:], limit)
	case len(s) > 2 && s[0] == '0' && (s[1] == 'b' || s[1] == 'B'):
		return parseBase64(s[2:], limit)
	}
	return nil, fmt.Errorf("text: binary value without 0x or 0b or without digits: %w", ErrSyntax)
}

func parseHex(digits string, limit int) ([]byte, error) {
	n := (len(digits) + 1) / 2
	if n > limit {
		return nil, fmt.Errorf("text: binary value of %d bytes where %d are allowed: %w", n, limit, ErrTooLong)
	}
	if len(digits)%2 != 0 {
		digits = "0" + digits
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("text: hex constant: %w", ErrSyntax)
	}
	return b, nil
}

func parseBase64(digits string, limit int) ([]byte, error) {
	n := len(digits) / 4 * 3
	switch {
	case strings.HasSuffix(digits, "=="):
		n -= 2
	case strings.HasSuffix(digits, "="):
		n--
	}
	if n > limit {
		return nil, fmt.Errorf("text: binary value of %d bytes where %d are allowed: %w", n, limit, ErrTooLong)
	}
	if strings.ContainsAny(digits, "\r\n") { // the decoder would skip those
		return nil, fmt.Errorf("text: base64 constant: %w", ErrSyntax)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(digits)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("text: base64 constant: %w", ErrSyntax)
	}
	return b, nil
}

// EncodeHex returns b as a hex constant, 0x and two lower case digits for each
// byte. b must not be empty: no constant says that.
func EncodeHex(b []byte) string { return "0x" + hex.EncodeToString(b) }

// EncodeBase64 returns b as a base64 constant, 0b and padded base64. b must not
// be empty: no constant says that.
func EncodeBase64(b []byte) string { return "0b" + base64.StdEncoding.EncodeToString(b) }

// isHex reports whether s has the form of a hex constant, without looking at the
// digits.
func isHex(s string) bool {
	return len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X')
}

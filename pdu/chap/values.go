package chap

import (
	"errors"
	"fmt"
	"strings"

	"github.com/iserd/iserd/pdu/text"
)

// ParseIdentifier decodes a CHAP_I value: a number of one byte, RFC 1994 §4.1.
func ParseIdentifier(s string) (byte, error) {
	n, err := parseNumber(s, 255)
	if err != nil {
		return 0, fmt.Errorf("chap: CHAP_I: %w", err)
	}
	return byte(n), nil
}

// ParseChallenge decodes a CHAP_C value, hexadecimal (0x) or base64 (0b), of 1
// to [MaxBinaryLen] bytes. The length is checked before anything is decoded.
// It returns an owned slice.
func ParseChallenge(s string) ([]byte, error) {
	b, err := parseBinary(s, MaxBinaryLen)
	if err != nil {
		return nil, fmt.Errorf("chap: CHAP_C: %w", err)
	}
	return b, nil
}

// ParseResponse decodes a CHAP_R value, hexadecimal (0x) or base64 (0b), of
// exactly [Algorithm.Size] bytes. The length is checked before anything is
// decoded. It returns an owned slice.
func ParseResponse(s string, a Algorithm) ([]byte, error) {
	b, err := parseBinary(s, a.Size())
	if err != nil {
		return nil, fmt.Errorf("chap: CHAP_R: %w", err)
	}
	if len(b) != a.Size() {
		return nil, fmt.Errorf("chap: CHAP_R has %d bytes, %v wants %d", len(b), a, a.Size())
	}
	return b, nil
}

// Encode returns the hexadecimal form of a CHAP_C or CHAP_R value. Every
// initiator reads hexadecimal; not every one reads base64.
func Encode(b []byte) string { return text.EncodeHex(b) }

// errOddDigits is returned for a hexadecimal value that is not whole bytes. As a
// number it would have a meaning; as the octets of RFC 1994 two peers could
// read it in two ways.
var errOddDigits = errors.New("odd number of hexadecimal digits")

// parseBinary decodes a binary value of 1 to limit bytes.
func parseBinary(s string, limit int) ([]byte, error) {
	hex := strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X")
	if hex && len(s)%2 != 0 {
		return nil, errOddDigits
	}
	return text.ParseBinary(s, limit)
}

// parseNumber decodes a decimal or 0x number of at most limit.
func parseNumber(s string, limit uint32) (uint32, error) {
	n, err := text.ParseNumber(s, 0, uint64(limit))
	return uint32(n), err
}

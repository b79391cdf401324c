package text

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Limits of the text that Parse takes.
const (
	// MaxKeyLen is the longest key in bytes, RFC 7143 §6.1 (standard-label).
	MaxKeyLen = 63
	// MaxValueLen is the longest value in bytes. The standard has no limit for
	// lists and encoded binary values; this one has room for a binary value of
	// 1024 bytes, the longest of RFC 7143 §12.1, in hex four times over.
	MaxValueLen = 8192
	// MaxSimpleValueLen is the longest simple-value in bytes unless its key says
	// otherwise, RFC 7143 §6.1. Parse doesn't know keys and leaves this check
	// to its caller; ParseList makes it for each element.
	MaxSimpleValueLen = 255
	// MaxPairs is the most pairs in one text.
	MaxPairs = 128
)

// Values with a meaning for all keys, RFC 7143 §6.2, and the boolean values.
const (
	None          = "None"          // no value, or an empty list
	Reject        = "Reject"        // the offer is not admissible
	Irrelevant    = "Irrelevant"    // the offer means nothing at this point
	NotUnderstood = "NotUnderstood" // the key is not known
	Yes           = "Yes"
	No            = "No"
)

var (
	// ErrSyntax is the error for text that doesn't follow RFC 7143 §6.1.
	ErrSyntax = errors.New("bad syntax")
	// ErrTooLong is the error for a key, value or text over its limit.
	ErrTooLong = errors.New("too long")
	// ErrTooMany is the error for more pairs, list elements or PDUs than the
	// limit.
	ErrTooMany = errors.New("too many")
	// ErrRange is the error for a number outside of its range.
	ErrRange = errors.New("out of range")
)

// Pair is one key=value pair, RFC 7143 §6.1. Parse has checked the key; the
// value is any bytes but NUL.
type Pair struct{ Key, Value string }

// Parse reads a complete text: key=value pairs, each ended by a NUL byte.
// Further NUL bytes between pairs are skipped. It returns the pairs in order;
// they don't refer to b, which it borrows. The error wraps ErrSyntax for a pair
// without its NUL or "=" or with a malformed key, ErrTooLong for a key over
// MaxKeyLen or a value over MaxValueLen, and ErrTooMany for more than MaxPairs;
// no pairs are returned then.
func Parse(b []byte) ([]Pair, error) {
	var pairs []Pair
	for off := 0; off < len(b); {
		end := bytes.IndexByte(b[off:], 0)
		if end < 0 {
			return nil, fmt.Errorf("text: no NUL after the pair at byte %d: %w", off, ErrSyntax)
		}
		if end == 0 {
			off++
			continue
		}
		if len(pairs) == MaxPairs {
			return nil, fmt.Errorf("text: more than %d pairs: %w", MaxPairs, ErrTooMany)
		}
		p, err := parsePair(b[off : off+end])
		if err != nil {
			return nil, fmt.Errorf("text: pair at byte %d: %w", off, err)
		}
		pairs = append(pairs, p)
		off += end + 1
	}
	return pairs, nil
}

// parsePair reads one pair without its NUL. The value is everything after the
// first "=" and may contain more of them, RFC 7143 §6.1.
func parsePair(b []byte) (Pair, error) {
	eq := bytes.IndexByte(b, '=')
	if eq < 0 {
		return Pair{}, fmt.Errorf("no \"=\": %w", ErrSyntax)
	}
	if eq > MaxKeyLen {
		return Pair{}, fmt.Errorf("key of %d bytes: %w", eq, ErrTooLong)
	}
	key := string(b[:eq])
	if err := CheckKey(key); err != nil {
		return Pair{}, err
	}
	if n := len(b) - eq - 1; n > MaxValueLen {
		return Pair{}, fmt.Errorf("value of %d bytes for %s: %w", n, key, ErrTooLong)
	}
	return Pair{Key: key, Value: string(b[eq+1:])}, nil
}

// CheckKey returns nil when key is a key-name, RFC 7143 §6.1: one to MaxKeyLen
// letters, digits, dots, minuses, pluses, commercial ats and underscores, with a
// letter first: §6.1 asks for a capital one, but iSCSIProtocolLevel (§13.24) and
// iSERHelloRequired (RFC 7145 §6.10) are keys, too. The second character may also be "#", as in public
// extension keys (X#NodeArchitecture, RFC 7143 §13.26). The error wraps ErrSyntax or ErrTooLong
// and doesn't quote the key.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("empty key: %w", ErrSyntax)
	}
	if len(key) > MaxKeyLen {
		return fmt.Errorf("key of %d bytes: %w", len(key), ErrTooLong)
	}
	if c := key[0] | 0x20; c < 'a' || c > 'z' {
		return fmt.Errorf("key starts with byte %#02x: %w", key[0], ErrSyntax)
	}
	for i := 1; i < len(key); i++ {
		if !keyByte(key[i]) && (i != 1 || key[i] != '#') {
			return fmt.Errorf("byte %#02x in a key: %w", key[i], ErrSyntax)
		}
	}
	return nil
}

func keyByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '.' || c == '-' || c == '+' || c == '@' || c == '_'
}

// Append appends the pair and its NUL to dst and returns the extended slice. It
// doesn't check the key. A value that contains a NUL is cut there: the rest
// would read as another pair.
func Append(dst []byte, key, value string) []byte {
	value, _, _ = strings.Cut(value, "\x00")
	dst = append(dst, key...)
	dst = append(dst, '=')
	dst = append(dst, value...)
	return append(dst, 0)
}

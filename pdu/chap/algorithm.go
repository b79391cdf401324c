package chap

import (
	"crypto/md5"  //nolint:gosec // RFC 7143 §12.1.3 obliges every peer to implement CHAP with MD5.
	"crypto/sha1" //nolint:gosec // Registered for CHAP_A (value 6); policy may leave it out.
	"crypto/sha256"
	"crypto/sha3"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
)

// Algorithm is a value of the CHAP_A key, RFC 7143 §12.1.3 and the IANA
// registry "PPP Authentication Algorithms".
type Algorithm uint8

const (
	// MD5 is CHAP with MD5 (RFC 1994): the one algorithm that every iSCSI
	// implementation has to know, RFC 7143 §12.1.3.
	MD5 Algorithm = 5
	// SHA1 is CHAP with SHA-1.
	SHA1 Algorithm = 6
	// SHA256 is CHAP with SHA-256.
	SHA256 Algorithm = 7
	// SHA3_256 is CHAP with SHA3-256.
	SHA3_256 Algorithm = 8 //nolint:revive // The name of the function in FIPS 202.
)

// Algorithms returns all implemented algorithms, strongest first: the order in
// which our initiator offers them. The caller owns the slice.
func Algorithms() []Algorithm {
	return []Algorithm{SHA3_256, SHA256, SHA1, MD5}
}

// String returns the name of the hash function, or "CHAP_A(n)" for a value that
// is not implemented.
func (a Algorithm) String() string {
	switch a {
	case MD5:
		return "MD5"
	case SHA1:
		return "SHA1"
	case SHA256:
		return "SHA-256"
	case SHA3_256:
		return "SHA3-256"
	}
	return "CHAP_A(" + strconv.Itoa(int(a)) + ")"
}

// Size returns the length of a response in bytes, 0 when a is not implemented.
func (a Algorithm) Size() int {
	switch a {
	case MD5:
		return md5.Size
	case SHA1:
		return sha1.Size
	case SHA256, SHA3_256:
		return 32
	}
	return 0
}

// hash returns a new hash of the algorithm, nil when a is not implemented.
func (a Algorithm) hash() hash.Hash {
	switch a {
	case MD5:
		return md5.New() //nolint:gosec // See the import.
	case SHA1:
		return sha1.New() //nolint:gosec // See the import.
	case SHA256:
		return sha256.New()
	case SHA3_256:
		return sha3.New256()
	}
	return nil
}

// ParseAlgorithm accepts the name that [Algorithm.String] prints (case and
// hyphens do not matter) or the number of the CHAP_A registry.
func ParseAlgorithm(s string) (Algorithm, error) {
	fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	for _, a := range Algorithms() {
		if fold(s) == fold(a.String()) || s == strconv.Itoa(int(a)) {
			return a, nil
		}
	}
	return 0, fmt.Errorf("chap: unknown algorithm %q", s)
}

// FormatList returns the value of a CHAP_A key that offers list in that order.
func FormatList(list []Algorithm) string {
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(a)))
	}
	return b.String()
}

// ErrNoAlgorithm is returned by [Select] when no offered algorithm is allowed.
var ErrNoAlgorithm = errors.New("chap: no offered algorithm is allowed")

// maxOffers bounds the work that one CHAP_A value can cause.
const maxOffers = 32

// Select picks the algorithm with which a responder answers the CHAP_A list of
// the originator: the first offered one that is implemented and in allowed.
//
// RFC 7143 §12.1.3 only wants "one of" the proposed values, but they are listed
// "in order of preference", and §6.2.1 binds the responder of every list
// negotiation to the first value that it supports and may use with this
// originator. So the initiator's order decides, and the target's say is the set
// allowed: leaving MD5 out of it is the way not to be asked for MD5. The order
// of allowed has no meaning here. (Ignoring the offered order would gain
// nothing: the exchange is not integrity-protected, so whoever can reorder the
// list can also shorten it.)
//
// Unknown numbers are skipped; a list that is empty, over long or holds
// something else than decimal or 0x numbers is an error.
func Select(offered string, allowed []Algorithm) (Algorithm, error) {
	items := strings.Split(offered, ",")
	if len(items) > maxOffers {
		return 0, fmt.Errorf("chap: CHAP_A lists %d algorithms", len(items))
	}
	var chosen Algorithm
	for _, item := range items {
		n, err := parseNumber(item, 1<<32-1)
		if err != nil {
			return 0, fmt.Errorf("chap: CHAP_A: %w", err)
		}
		if chosen != 0 || n > 255 {
			continue
		}
		if a := Algorithm(n); a.Size() != 0 && slices.Contains(allowed, a) {
			chosen = a
		}
	}
	if chosen == 0 {
		return 0, ErrNoAlgorithm
	}
	return chosen, nil
}

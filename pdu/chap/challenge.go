package chap

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

const (
	// DefaultChallengeLen is the length in bytes of the challenges we issue.
	DefaultChallengeLen = 32
	// MaxBinaryLen is the longest CHAP_C or CHAP_R in bytes, not counting its
	// encoding, RFC 7143 §12.1.3.
	MaxBinaryLen = 1024
	// MinSecretLen is the shortest secret in bytes that the configuration should
	// accept: 96 bits, RFC 7143 §9.2.1.
	MinSecretLen = 12

	// minChallengeLen is the shortest challenge that we issue.
	minChallengeLen = 16
)

// Challenge is one challenge of the authenticator, RFC 1994 §4.1. It is used
// for one exchange and then thrown away.
type Challenge struct {
	Algorithm  Algorithm
	Identifier byte   // CHAP_I
	Value      []byte // CHAP_C
}

// NewChallenge draws an identifier and a challenge of n bytes (16 to 1024; 0
// means [DefaultChallengeLen]) from r. It returns an error when r fails or a is
// not implemented. The caller owns the result.
func NewChallenge(r io.Reader, a Algorithm, n int) (*Challenge, error) {
	if n == 0 {
		n = DefaultChallengeLen
	}
	if n < minChallengeLen || n > MaxBinaryLen {
		return nil, fmt.Errorf("chap: challenge of %d bytes", n)
	}
	if a.Size() == 0 {
		return nil, fmt.Errorf("chap: %v is not implemented", a)
	}
	b := make([]byte, 1+n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("chap: random source: %w", err)
	}
	return &Challenge{Algorithm: a, Identifier: b[0], Value: b[1:]}, nil
}

// Verify reports whether response answers the challenge with secret. It
// borrows its arguments and takes the same time for every wrong response of the
// right length.
func (c *Challenge) Verify(secret, response []byte) bool {
	return Verify(c.Algorithm, c.Identifier, secret, c.Value, response)
}

// Response computes the response to a challenge: the hash over the identifier,
// the secret and the challenge, RFC 1994 §4.1. It borrows its arguments and
// returns an owned slice, nil when a is not implemented.
func Response(a Algorithm, id byte, secret, challenge []byte) []byte {
	h := a.hash()
	if h == nil {
		return nil
	}
	h.Write([]byte{id})
	h.Write(secret)
	h.Write(challenge)
	return h.Sum(nil)
}

// Verify reports whether response is the response to challenge, in constant
// time over the content of response. It borrows its arguments.
func Verify(a Algorithm, id byte, secret, challenge, response []byte) bool {
	want := Response(a, id, secret, challenge)
	return len(want) != 0 && subtle.ConstantTimeCompare(want, response) == 1
}

// ErrShortSecret is wrapped by [CheckSecret].
var ErrShortSecret = errors.New("chap: secret is shorter than 96 bits")

// ErrSameSecret is returned by [CheckPair].
var ErrSameSecret = errors.New("chap: both directions use the same secret")

// CheckSecret returns an error for a secret that the configuration should
// refuse: RFC 7143 §9.2.1 wants 96 bits at least where IPsec does not protect
// the connection.
func CheckSecret(secret []byte) error {
	if len(secret) < MinSecretLen {
		return fmt.Errorf("%w: %d bytes, want %d", ErrShortSecret, len(secret), MinSecretLen)
	}
	if len(secret) > MaxBinaryLen {
		return fmt.Errorf("chap: secret of %d bytes, want at most %d", len(secret), MaxBinaryLen)
	}
	return nil
}

// CheckPair returns [ErrSameSecret] when the secret that authenticates the
// initiator equals the one that authenticates the target: RFC 7143 §9.2.1
// forbids it, because each side could then answer with the other's response.
// It borrows its arguments and compares in constant time.
func CheckPair(in, out []byte) error {
	if subtle.ConstantTimeCompare(in, out) == 1 {
		return ErrSameSecret
	}
	return nil
}

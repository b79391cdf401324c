package config

import "fmt"

const redacted = "(secret)"

// Secret is a CHAP secret. It never prints its value: every fmt verb, JSON and
// text encoding show "(secret)". The zero value means that there is none.
type Secret struct {
	value string
}

// NewSecret returns a Secret that holds value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the secret's bytes, a fresh copy at each call. Give them only
// to the authentication code.
func (s Secret) Reveal() []byte { return []byte(s.value) }

// Len returns the length in bytes.
func (s Secret) Len() int { return len(s.value) }

// IsZero reports whether no secret is set.
func (s Secret) IsZero() bool { return s.value == "" }

// Equal reports whether both hold the same value. The time it takes depends on
// the values: use it for configuration checks, not for authentication.
func (s Secret) Equal(o Secret) bool { return s.value == o.value }

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format implements fmt.Formatter: no verb and no flag shows the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText implements encoding.TextMarshaler; encoding/json uses it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

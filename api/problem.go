package api

import "fmt"

// problem is an error with a text of its own that wraps one of the kinds.
type problem struct {
	kind  error
	text  string
	cause error // may be nil
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() []error {
	if p.cause == nil {
		return []error{p.kind}
	}
	return []error{p.kind, p.cause}
}

func problemf(kind error, format string, args ...any) error {
	return &problem{kind: kind, text: fmt.Sprintf(format, args...)}
}

// Problemf returns an error that wraps kind, one of ErrNotFound, ErrConflict,
// ErrForbidden and ErrInvalid, and reads as the rest says.
func Problemf(kind error, format string, args ...any) error { return problemf(kind, format, args...) }

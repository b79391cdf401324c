package api

import "fmt"

// problem is an error with a text of its own that wraps one of the kinds.
type problem struct {
	kind error
	text string
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() error { return p.kind }

func problemf(kind error, format string, args ...any) error {
	return &problem{kind, fmt.Sprintf(format, args...)}
}

// Problemf returns an error that wraps kind, one of ErrNotFound, ErrConflict,
// ErrForbidden and ErrInvalid, and reads as the rest says.
func Problemf(kind error, format string, args ...any) error { return problemf(kind, format, args...) }

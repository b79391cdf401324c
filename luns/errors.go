package luns

import (
	"errors"
	"fmt"
)

// The classes of errors that decide the sense data of a failed command.
// Backends wrap them (fmt.Errorf("rbd: read %s: %w", name, ErrMedium)); callers
// test with errors.Is. An error of no class counts as a failure of the target
// itself.
var (
	// ErrMedium: the medium could not be read or written. MEDIUM ERROR.
	ErrMedium = errors.New("medium error")
	// ErrNoSpace: no capacity could be allocated for the write; it may
	// succeed when space has been freed. DATA PROTECT, SPACE ALLOCATION
	// FAILED WRITE PROTECT.
	ErrNoSpace = errors.New("no space left")
	// ErrReadOnly: the backend does not take writes. DATA PROTECT, WRITE
	// PROTECTED.
	ErrReadOnly = errors.New("read-only")
	// ErrTransient: the same request may well succeed later; nothing is
	// known to be lost. The initiator is asked to retry.
	ErrTransient = errors.New("temporary failure")
	// ErrOffline: the backend is gone or closed.
	ErrOffline = errors.New("offline")
	// ErrClosed is what calls after Close return. errors.Is(ErrClosed,
	// ErrOffline) holds.
	ErrClosed = fmt.Errorf("backend is closed: %w", ErrOffline)
)

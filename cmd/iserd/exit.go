package main

import (
	"errors"
	"fmt"
	"strings"
)

// The exit codes.
const (
	exitOK       = 0
	exitRuntime  = 1 // something failed while running
	exitUsage    = 2 // unknown command or flag, wrong arguments
	exitConfig   = 3 // the configuration is invalid
	exitNotUp    = 4 // the daemon is not running; for commands that talk to it
	exitNotFound = 5 // what was asked for does not exist
	exitBusy     = 6 // it is in use: a port, a backing store
)

// exitHelp is the paragraph of the help and the manual page on exit codes.
func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:")
	for _, c := range []struct {
		code int
		text string
	}{
		{exitOK, "ok"},
		{exitRuntime, "runtime failure"},
		{exitUsage, "usage"},
		{exitConfig, "configuration invalid"},
		{exitNotUp, "daemon not running"},
		{exitNotFound, "not found"},
		{exitBusy, "busy or in use"},
	} {
		fmt.Fprintf(&b, "\n  %d  %s", c.code, c.text)
	}
	return b.String()
}

// exitError is an error with the code that the process exits with. A nil err
// means that everything was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitCode returns the code for err.
func exitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	default:
		return exitRuntime
	}
}

func usageError(err error) error { return &exitError{exitUsage, err} }

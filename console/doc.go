// Package console is the full-screen view of a running daemon in a terminal:
// what LUNs and sessions do, the actors, and what went wrong. It knows the
// daemon by the API alone.
//
// It is not for scripts: those have the commands of iserd with -o json.
package console

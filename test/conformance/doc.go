// Package conformance runs other people's conformance suites against the
// daemon and compares the outcome with what testdata/ expects, test by test.
package conformance

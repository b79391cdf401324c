// Package ffp is the conformance suite of the target, one test for each number
// of the test plans of the UNH-IOL iSCSI consortium (login, full feature phase,
// CHAP) that applies at ErrorRecoveryLevel 0. docs/conformance.md is its index.
//
// Every test drives the server with raw PDUs, directly and once more through a
// proxy that cuts the streams into small segments.
package ffp

// Package chap is the Challenge Handshake Authentication Protocol as iSCSI
// uses it: RFC 7143 §12.1.3 on top of RFC 1994, with the hash functions that
// IANA registered for the CHAP_A key.
//
// It computes and checks values. It holds no connection, knows nothing of
// login stages (package login does), stores no secret, and is not for anything
// but CHAP. Both sides are here: a target creates a [Challenge] and checks the
// answer with [Challenge.Verify]; an initiator answers with [Response].
//
// Every comparison of a secret-dependent value takes constant time, and random
// bytes come only from the reader that the caller injects (crypto/rand.Reader
// in production).
//
// All functions are safe for concurrent use; so is [Outstanding].
package chap

// Package initiator is an iSCSI initiator in user space (RFC 7143), written
// for tests, for the load generator and for small tools. It comes in layers;
// each can be used without the one above it:
//
//   - [Conn] frames PDUs on a byte stream. It sends what it is told to send,
//     wrong PDUs included (see [Frame]), and knows nothing of sessions.
//   - [Negotiate] takes a Conn through the login phase (RFC 7143 §6) with CHAP
//     (§12.1), and [Login] makes it a [Session].
//   - [Session] has one synchronous method per request type, safe for use by
//     many goroutines: Exec, TaskManagement, NOP, Text, Logout.
//   - [Pipeline] is the load generator's engine: one goroutine keeps a number
//     of I/Os in flight on a Conn, batch by batch, without allocating.
//
// The package is not an operating system's initiator: it has one connection
// per session, ErrorRecoveryLevel 0, and does not log in again after a
// connection is lost. It does no logging.
package initiator

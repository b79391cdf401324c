// Package iser is the initiator's side of iSER (RFC 7145), for tests, for the
// load generator and for small tools.
//
//   - [Conn] sends and receives iSER messages over a queue pair, wrong ones
//     included, and has registered memory that a target may be told of.
//   - [Pipeline] keeps commands in flight on a Conn, for load generators.
//   - [Dial] makes a Conn behave as a net.Conn that carries iSCSI PDUs as over
//     TCP: package initiator works over it unchanged. Data-In and R2T PDUs, which
//     do not exist over iSER, are made here.
//
// Receives are posted as the Linux initiator does it: one of 8 KiB for each Login
// Request, and short ones, for 128 bytes of data, with the request that asks for
// the full feature phase. A target that sends more than that breaks the connection.
package iser

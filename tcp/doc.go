// Package tcp is the datamover over TCP (RFC 7143 §4.2, RFC 5047): it frames
// PDUs, checks and makes digests, and moves the data of tasks by Data-In, R2T
// and Data-Out PDUs. It knows no SCSI and decides nothing about logins.
//
// The goroutine that calls Conn.Serve owns the socket. It parks on Go's
// network poller and turns every wake-up into turns of the connection's
// context (an actor's mailbox, run inline): one receive, everything in it
// executed, one vectored send. Sending is tried at once in whatever turn made
// the data; only when the socket is full a second goroutine waits for room.
//
// What is sent may point into the memory of a logical unit, but only within a
// turn: what the socket does not take at once is copied, so a peer that stops
// reading holds no lock and no memory of a unit.
package tcp

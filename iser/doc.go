// Package iser is the datamover over RDMA (RFC 7145, RFC 5047): control-type
// PDUs travel in Send messages behind a 28-byte iSER header, the data of tasks by
// RDMA Write and RDMA Read. It knows no SCSI and decides nothing about logins.
//
// # Who does the work
//
// An Engine is one provider of package verbs with its connection manager. Each
// device has pumps: an OS-locked goroutine that owns a completion queue, polls
// it, and hands each connection the completions of a batch as one Turn, which
// runs in the connection's context (an actor's mailbox, run inline). All work
// requests are posted by the pump. What a connection queues elsewhere, because a
// message made it answer, wakes the pump.
//
// # Memory
//
// Receives, sends and the data of tasks are in registered memory of the device's
// pool (package pool), which is registered once and outlives every connection.
// What was posted belongs to the hardware until its completion; a connection that
// ends goes to the error state first, and its memory is used again when nothing
// of it is under way any more. A completion of an earlier user of a queue pair's
// slot is known by its generation and touches nothing.
//
// # Credits
//
// There are as many receives as the initiator may have PDUs under way: the
// command window, unsolicited Data-Out PDUs, and a reserve for what no window
// bounds. A receive is posted again before the response that lets the initiator
// use it. It is not posted while too many responses wait, so that a peer that
// does not take them gets no further commands in.
package iser

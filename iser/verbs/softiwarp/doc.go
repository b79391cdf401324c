// Package softiwarp is iWARP in software: RDMAP (RFC 5040) over DDP
// (RFC 5041) over MPA (RFC 5044, RFC 6581) over the TCP of the system, behind
// the interface of package verbs. Its peers are adapters, other software
// (Linux siw) and itself.
//
// # Who does the work
//
// The provider has no goroutines. CM.Next accepts, connects and exchanges MPA
// frames. As soon as a connection is established, its socket belongs to the
// receive CQ of its queue pair: CQ.Poll sends what was posted, receives,
// places and completes, on the goroutine that calls it. PostSend only queues:
// what a batch of completions causes to be sent leaves with one system call in
// the next Poll, unless it is much: then it leaves at once, for the peer to work
// on. CQ.Fd is an epoll instance of the sockets.
//
// # Memory
//
// Without CRC, payload is received straight into the registered memory; only
// what came in one piece with headers is copied. With CRC, nothing is placed
// before the CRC of its FPDU was found good, because a damaged header could
// name any memory (RFC 5044 section 4.4).
//
// A steering tag is 24 bits of index and 8 bits of key; an index that is used
// again gets another key. The sink of an RDMA Read has a steering tag of its
// own, for the time of the Read and the connection only, so it needs no remote
// access. Access is checked for each segment when its bytes are placed, so a
// region that is closed in the middle of a message is safe.
//
// # Not in here
//
// MPA markers, atomics (RFC 7306), shared receive queues, the IANA port
// mapper. A receive that finds no buffer terminates the connection (RFC 5041
// section 7.1), there is no receiver-not-ready.
package softiwarp

// Package verbs is the small part of the RDMA verbs (RFC 5040; InfiniBand
// Architecture Specification, volume 1, chapters 10 and 11) and of their
// connection management that iSER needs, batch-oriented, so that the iSER
// engine runs unchanged on adapters (package native) and on software
// providers.
//
// It is not a general verbs binding: one transport service (reliable
// connected), no shared receive queues, no atomics, no multicast.
//
// # Objects
//
//	Provider ─▶ Device ─▶ MR, Window, CQ
//	        └─▶ CM ─▶ Listener
//	              └─▶ Conn ─▶ QP
//
// A Conn is one connection of either side, with the queue pair that it owns.
// The passive side gets it with an EventConnectRequest, the active side from
// CM.Dial. Its life:
//
//	passive: event → NewQP → PostRecv… → Accept → EventEstablished
//	active:  Dial  → NewQP → PostRecv… → Connect → EventEstablished
//	both:    Disconnect, or EventDisconnected → ToError → all work requests
//	         have completed (WCFlushed) → Close
//
// Receives must be posted before Accept and Connect: the peer may send as soon
// as it is connected, and its message may be completed before the event
// EventEstablished is seen.
//
// # Goroutines
//
// A provider has no goroutines. CM.Next and Device.NextEvent wait for events
// on the goroutine that calls them; each has one caller at a time. CQ.Poll,
// and QP.PostSend, PostRecv and Bind of the queue pairs on that CQ, are called
// by one goroutine at a time: the owner of the CQ. A software provider moves
// all its data inside Poll, so a CQ that is neither polled nor waited on with
// Fd stands still. All other methods may be called by any goroutine, also
// while others are in Poll or Next.
//
// # Memory
//
// Memory given to a provider must not be Go memory: it is mapped (Map), or a
// file mapped by a backend, and stays mapped and registered until every work
// request that names it has completed. Work request identifiers are integers;
// no Go pointer ever goes to a provider. Slices of work requests and of
// completions are borrowed for the call.
package verbs

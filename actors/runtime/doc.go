// Package runtime runs the actors of iserd: it is the only importer of
// protoactor-go and shows package actors a narrow, typed part of it.
//
// What it adds to the library:
//
//   - A panic is contained at every callback, Stopping and Stopped included; it
//     becomes exactly one supervision [Event] and one log record.
//   - One-for-one supervision with exponential backoff, jitter, a cap and a
//     limit; past the limit the actor is stopped and its parent gets [GaveUp].
//     Supervision never ends the process.
//   - Two mailboxes: a persistent worker goroutine per actor, and [Pump], whose
//     owner runs messages inline on its own goroutine. Neither allocates per
//     message.
//   - Timers are messages tied to the incarnation that set them.
//   - Messages still queued when an actor stops go to [Spec].Dropped, so that
//     what they own can be released.
//
// What it is not for: bulk data and I/O. Messages carry control and ownership
// tokens; the data path is one Pump.Run per batch. There are no futures, no
// guardians, no stash, no receive timeouts and no actors on other machines.
//
// # Rules for actors
//
// Receive is never run by two goroutines at once, must not block, and must not
// call Call, Describe or Shutdown, nor runtime.Goexit (testing.T.FailNow): on
// an ordinary message that counts as a panic, but on Stopping, Stopped or
// Restarting it leaves the actor unfinished. A value sent is not changed
// afterwards. The order of messages from one sender to one actor is kept. After
// Stopping no further message but Terminated and Stopped is delivered.
//
// Terminated reaches the parent after Stopped was handled and Dropped called
// for all that was queued; the name is free again by then.
package runtime

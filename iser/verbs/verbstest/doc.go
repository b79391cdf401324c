// Package verbstest is the acceptance suite of verbs providers: what package
// verbs promises, tried between two addresses.
//
// The suite calls each CQ, and the queue pairs on it, from one goroutine, and
// keeps polling while it waits for events, so it suits providers that move
// data in Poll only.
package verbstest

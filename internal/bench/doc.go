// Package bench is a load generator for iSCSI targets on top of package
// initiator. Run does one measurement; NewCommand wraps it as "iserd bench".
//
// Each session is one goroutine and one connection that keeps a queue of
// commands filled. Latency runs from the moment a batch of commands is built to
// the moment the batch of answers that holds the command's status has been
// received: what an application on top of this initiator would see.
package bench

// Package iscsi is the target's iSCSI layer: what a connection does with the
// PDUs it gets, from the first Login Request to the last Logout Response
// (RFC 7143). It numbers commands, keeps tasks, runs SCSI commands against
// logical units, and answers task management, Text and NOP.
//
// It stands above the Datamover seam of RFC 5047, so TCP and iSER run the same
// code: a datamover carries control-type PDUs and moves the data of tasks, by
// Data-In, R2T and Data-Out over TCP, by RDMA Write and Read over iSER.
//
// It knows no socket, no actor and starts no goroutine. Everything but
// Task.Done runs in the context of the connection's owner, one call at a time.
package iscsi

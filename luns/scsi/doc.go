// Package scsi is a SCSI disk device server (SAM-6, SPC-5, SBC-4) over a
// luns.Backend: it decodes CDBs, moves data between a command's buffers and the
// backend, and makes sense data, VPD pages, mode pages and unit attentions.
//
// The package knows no transport. It is not for task ordering, task management
// or residual counts: those belong to the iSCSI engine, which drives each
// Command through Decode, TryExec or Submit, and Release.
//
// # Objects
//
//   - Unit is one incarnation of a logical unit over an opened backend. A
//     restart of the logical unit replaces it.
//   - Port is the stable data port of a logical unit. Sessions hold the Port;
//     the owner publishes and revokes Units behind it.
//   - Nexus is an I_T_L nexus: the unit attention queue and other state that
//     belongs to one initiator port and one logical unit.
//   - Command is one command, reused by its owner.
//
// # Ordering and atomicity
//
// Each READ, WRITE, COMPARE AND WRITE and ORWRITE holds a range lock of the
// Unit while it touches the medium, so that each is atomic against the others.
// WRITE SAME and UNMAP lock chunk by chunk. A backend call that hangs keeps its
// lock, whatever becomes of the session that asked for it: that is what keeps a
// stale write from overtaking a newer one.
//
// # Reservations and access states
//
// Persistent and SPC-2 reservations and the states of target port groups belong
// to the Port, so that a restart of the Unit lifts no fence. What they refuse
// to a Nexus is one word in it, its gate, which is zero almost always: a command
// looks at it when it is decoded, and again when it has locked its range.
// Whoever takes rights away closes the gates first and then passes every stripe
// of the range lock: behind the GOOD of a RESERVE, PREEMPT or PREEMPT AND ABORT
// no command of a fenced nexus touches the medium, whatever was under way.
//
// With a Store (package aptpl), reservations survive a restart of the target:
// they are durable before the initiator is told GOOD. A store that cannot be
// read fences every initiator with RESERVATION CONFLICT, and READ RESERVATION
// says why (44h/01h), until REPLACE LOST RESERVATION, CLEAR, or
// Port.ClearReservations.
//
// # Concurrency
//
// Port, Nexus and Unit are safe for concurrent use. A Command belongs to one
// goroutine at a time: its owner, or between Submit and Done the workers.
// Abort and the Aborted flag alone may be used from elsewhere.
package scsi

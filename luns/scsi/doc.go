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
// # Concurrency
//
// Port, Nexus and Unit are safe for concurrent use. A Command belongs to one
// goroutine at a time: its owner, or between Submit and Done the workers.
// Abort and the Aborted flag alone may be used from elsewhere.
package scsi

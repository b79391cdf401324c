// Package luns is the contract between a SCSI logical unit and the bytes
// behind it: the required Backend interface, optional capabilities found with
// As, the error classes that become sense data, and the registry by which a
// configuration names a kind of backend.
//
// Backends live in sub-packages (memory, file, block, null), filters that wrap
// any of them under filter/, and the acceptance kit that every backend has to
// pass in lunstest. The package imports the standard library only.
//
// It is not for SCSI: CDBs, sense data, reservations and the ordering of
// overlapping commands belong to luns/scsi.
//
// # Who validates, who serialises
//
// A backend may trust its arguments. The caller sees to it that every range
// lies inside Info().Size, that offsets and lengths are multiples of
// Info().BlockSize, and that nothing writes to a backend whose Info().ReadOnly
// is set. A length of zero is allowed and does nothing.
//
// Every method may be called from many goroutines at once. Backends need not
// order overlapping requests: the caller (the range lock of luns/scsi) never
// has two of them under way when one is a write.
//
// # Contexts
//
// A context bounds the wait for a request to start, not the request: a write
// that has been handed to a device cannot be called back. WriteAt, Unmap,
// WriteZeroes and Flush therefore return only when nothing of the request can
// reach the medium any more, even if their context ended long before. That is
// what makes a lock held over the call a fence against stale writes.
package luns

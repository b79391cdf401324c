// Package aptpl keeps the persistent reservations of a logical unit in a file,
// so that they hold through a restart of the target (APTPL, SPC-5 5.14.5). It is
// a scsi.Store; what is inside the file is the business of package scsi.
//
// # The file
//
// One line with the name of the format, its version, the SHA-256 of the content
// and its length, then the content, JSON that a human can read:
//
//	iserd-reservations 1 9f86d08…0a08 212
//	{"version":1,"type":5,"holder":{…},"registrants":[…]}
//
// The line has exactly one spelling, so that any changed, missing or additional
// byte is found. A damaged file is never taken for an empty one: Load fails, and
// the logical unit fences every initiator until somebody clears it.
//
// # Durability
//
// Save writes a second file (the name with ".new"), fsyncs it, renames it over
// the first and fsyncs the directory. At every moment the file is the old or the
// new one, and after Save has returned nil it is the new one.
//
// One process at a time may use a file; the package does not lock it.
package aptpl

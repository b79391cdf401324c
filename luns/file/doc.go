// Package file is a backend in a regular file.
//
// By default I/O goes through the page cache: reads that hit it are served
// without waiting (luns.Trier), writes are durable after Flush or with FUA.
// With Options.DirectIO it goes past the page cache (O_DIRECT); Info().BlockSize
// is then the alignment the file system asks for.
//
// The file is locked against other users (an open file description lock on
// all of it), so a second daemon, or the second LUN of this one, gets an error
// that says who holds it.
//
// After a failed flush or durable write nothing is written any more: see
// luns.Backend.Flush. That holds across the restarts of a logical unit, which
// use the same Opener; an operator's reload makes a new one.
//
// # What does not wait
//
// Reads use preadv2 with RWF_NOWAIT, which ext4, xfs and btrfs know. Writes
// use pwritev2 with RWF_NOWAIT, which xfs and btrfs know; ext4 (as of Linux
// 6.18) refuses it for buffered writes, so there TryWriteAt is never done. A
// plain write is not tried instead: it usually takes microseconds, but may
// wait for the device as long as it likes, to read the block around a partial
// write, for a journal commit, or because too many pages are dirty. Measured on
// ext4 on a virtual disk, 4 KiB rewrites of cached blocks: median 7 µs and
// longest 5 ms without other load; with a flush always under way beside them
// 9 µs, 3 ms for the slowest in 1000, and 60 ms for the longest. On tmpfs plain
// reads and writes are used, since there is no device.
package file

// Package block is a backend on a block device: a disk, a partition, a logical
// volume.
//
// The device is opened exclusively (O_EXCL), so the kernel refuses it while
// it is mounted, part of a RAID or volume group, or open in another daemon
// that does the same. I/O goes through the page cache of the device, or past
// it with Options.DirectIO. Info().BlockSize is the logical block size.
//
// Unmapped ranges are said to read as zeros only where the kernel tells that
// the device deallocates by writing zeros (write_zeroes_unmap_max_hw_bytes in
// sysfs, Linux 6.17). Other devices get a discard, after which any content may
// appear.
//
// A failed flush ends all writing, as in package file.
package block

package fdio

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
)

// rawLimit bounds the copying during which the processor is kept from other
// goroutines: about 20 microseconds.
const rawLimit = 128 << 10

// TryReadAt implements luns.Trier: a read from the page cache. Direct I/O
// always waits for the device, so there it never succeeds.
func (d *Device) TryReadAt(p []byte, off int64) (done bool, err error) {
	if !d.noWaitRead.Load() {
		return false, nil
	}
	if !d.gate.Enter() {
		return true, luns.ErrClosed
	}
	defer d.gate.Leave()
	if d.cfg.NeverWaits {
		if err := d.readFull(p, off); err != nil {
			return true, d.wrap("read", off, int64(len(p)), err)
		}
		return true, nil
	}
	n, err := preadv2(d.fd, p, off, unix.RWF_NOWAIT, len(p) <= rawLimit)
	if err == nil {
		// A short read ends where the cache or the file does; ReadAt finds
		// out which.
		return n == len(p), nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		d.noWaitRead.Store(false)
	}
	return false, nil
}

// TryWriteAt implements luns.Trier: a write to the page cache. A plain write
// may wait, for the block around it to be read or for dirty pages to be
// written, so it is not tried; RWF_NOWAIT is, which some file systems know
// (xfs, btrfs) and others not (ext4, block devices).
func (d *Device) TryWriteAt(p []byte, off int64, f luns.Flags) (done bool, err error) {
	if f&luns.FUA != 0 && !d.cfg.NeverWaits || !d.noWaitWrite.Load() {
		return false, nil
	}
	if d.cfg.Info.ReadOnly || d.cfg.Health.Err() != nil {
		return false, nil // WriteAt says why
	}
	if !d.gate.Enter() {
		return true, luns.ErrClosed
	}
	defer d.gate.Leave()
	if d.cfg.NeverWaits {
		if err := d.writeFull(d.fd, p, off, 0); err != nil {
			return true, d.wrap("write", off, int64(len(p)), err)
		}
		return true, nil
	}
	n, err := d.sys.pwritev2(d.fd, p, off, unix.RWF_NOWAIT)
	if err == nil {
		return n == len(p), nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		d.noWaitWrite.Store(false)
	}
	return false, nil
}

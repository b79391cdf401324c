package fdio

import (
	"errors"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysOps are the system calls whose failures the tests have to produce.
type sysOps struct {
	pread     func(fd int, p []byte, off int64) (int, error)
	pwrite    func(fd int, p []byte, off int64) (int, error)
	pwritev2  func(fd int, p []byte, off int64, flags int) (int, error)
	fdatasync func(fd int) error
}

func realSys() sysOps {
	return sysOps{pread: unix.Pread, pwrite: unix.Pwrite, pwritev2: pwritev2, fdatasync: unix.Fdatasync}
}

// preadv2 and pwritev2 transfer one buffer without allocating. The raw form
// keeps the processor: it is for calls that cannot wait.
func preadv2(fd int, p []byte, off int64, flags int, raw bool) (int, error) {
	return rwv2(unix.SYS_PREADV2, fd, p, off, flags, raw)
}

func pwritev2(fd int, p []byte, off int64, flags int) (int, error) {
	return rwv2(unix.SYS_PWRITEV2, fd, p, off, flags, false)
}

func rwv2(trap uintptr, fd int, p []byte, off int64, flags int, raw bool) (int, error) {
	var iov unix.Iovec
	if len(p) > 0 {
		iov.Base = &p[0]
	}
	iov.SetLen(len(p))
	var n uintptr
	var errno unix.Errno
	// The kernel joins the two halves of the offset by shifting: on 64-bit
	// systems the high half is shifted out.
	lo, hi := uintptr(off), uintptr(uint64(off)>>32)
	if raw {
		n, _, errno = unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1, lo, hi, uintptr(flags))
	} else {
		n, _, errno = unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1, lo, hi, uintptr(flags))
	}
	if errno != 0 {
		return 0, errnoError(errno)
	}
	return int(n), nil
}

// errnoError boxes the usual errnos without allocating.
func errnoError(e unix.Errno) error {
	switch e {
	case unix.EAGAIN:
		return unix.EAGAIN
	case unix.EOPNOTSUPP:
		return unix.EOPNOTSUPP
	case unix.EINTR:
		return unix.EINTR
	default:
		return e
	}
}

// readFull reads len(p) bytes, across short transfers and signals.
func (d *Device) readFull(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := d.sys.pread(d.fd, p, off)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n <= 0:
			return io.ErrUnexpectedEOF
		default:
			p, off = p[n:], off+int64(n)
		}
	}
	return nil
}

// writeFull writes p to fd, across short transfers and signals. flags are
// those of pwritev2.
func (d *Device) writeFull(fd int, p []byte, off int64, flags int) error {
	for len(p) > 0 {
		var n int
		var err error
		if flags == 0 {
			n, err = d.sys.pwrite(fd, p, off)
		} else {
			n, err = d.sys.pwritev2(fd, p, off, flags)
		}
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n <= 0:
			return io.ErrShortWrite
		default:
			p, off = p[n:], off+int64(n)
		}
	}
	return nil
}

// retry calls f until it is not interrupted by a signal.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

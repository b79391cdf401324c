package tcp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls on a non-blocking socket by RawSyscall: they return at once, so
// telling Go's scheduler about them costs more than they take. They hold the
// processor while the kernel copies, which is why one call moves at most
// maxSend or maxReceive bytes (some 50 µs).
const (
	maxSend    = 256 << 10
	maxReceive = 512 << 10
	maxIovecs  = 1024 // UIO_MAXIOV
)

func recvv(fd int, iov []unix.Iovec) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// sendv sends from the front of iov. msg is scratch.
func sendv(fd int, iov []unix.Iovec, msg *unix.Msghdr) (int, unix.Errno) {
	msg.Iov = unsafe.SliceData(iov)
	msg.SetIovlen(len(iov))
	for {
		n, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(msg)), unix.MSG_NOSIGNAL)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

func iovecEnd(v *unix.Iovec) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(v.Base), v.Len) }

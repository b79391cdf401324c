package softiwarp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls that do not block by RawSyscall: they return at once, so telling
// Go's scheduler about them costs more than they take. They hold the
// processor while the kernel copies, so one call moves at most maxSend or
// maxReceive bytes (some 50 µs).
const (
	maxSend    = 256 << 10
	maxReceive = 512 << 10
	maxIovecs  = 1024 // UIO_MAXIOV
)

func sendmsg(fd int, msg *unix.Msghdr, iov []unix.Iovec) (int, unix.Errno) {
	msg.Iov = unsafe.SliceData(iov)
	msg.SetIovlen(len(iov))
	for {
		n, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func recvmsg(fd int, msg *unix.Msghdr, iov []unix.Iovec) (int, unix.Errno) {
	msg.Iov = unsafe.SliceData(iov)
	msg.SetIovlen(len(iov))
	for {
		n, _, e := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(msg)), unix.MSG_DONTWAIT)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// recv receives into b.
func recv(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// epollWait returns what is ready now. Never blocks.
func epollWait(epfd int, events []unix.EpollEvent) int {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		if e == 0 {
			return int(n)
		}
		if e != unix.EINTR {
			return 0
		}
	}
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

func iovecEnd(v *unix.Iovec) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(v.Base), v.Len) }

// epollEvent makes an event with 64 bits that come back with it.
func epollEvent(events uint32, token uint64) unix.EpollEvent {
	return unix.EpollEvent{Events: events, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32))}
}

func epollToken(e *unix.EpollEvent) uint64 {
	return uint64(uint32(e.Pad))<<32 | uint64(uint32(e.Fd))
}

// newPoller makes an epoll instance with an eventfd in it, whose token is 0.
func newPoller() (epfd, evfd int, err error) {
	if epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return -1, -1, err
	}
	if evfd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(epfd)
		return -1, -1, err
	}
	ev := epollEvent(unix.EPOLLIN, 0)
	if err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, evfd, &ev); err != nil {
		_ = unix.Close(epfd)
		_ = unix.Close(evfd)
		return -1, -1, err
	}
	return epfd, evfd, nil
}

func signalEvent(evfd int) {
	b := uint64(1)
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(evfd), uintptr(unsafe.Pointer(&b)), 8) // EAGAIN: it is readable already
}

func drainEvent(evfd int) {
	var b uint64
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(evfd), uintptr(unsafe.Pointer(&b)), 8)
}

// epollModify changes what fd is watched for. It fails for what is gone only.
func epollModify(epfd, fd int, events uint32, token uint64) {
	ev := epollEvent(events, token)
	_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), unix.EPOLL_CTL_MOD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
}

// maxSegment is the TCP_MAXSEG of socket fd; 0: it is not known.
func maxSegment(fd int) int {
	var mss int32
	size := uint32(4)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG,
		uintptr(unsafe.Pointer(&mss)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return int(mss)
}

// sockaddr converts for the system. The zone of a link-local address is its
// interface.
func sockaddr(a netip.AddrPort) (unix.Sockaddr, int) {
	addr := a.Addr().Unmap()
	if addr.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: addr.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: addr.As16(), ZoneId: zoneID(addr.Zone())}, unix.AF_INET6
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 {
			addr = addr.WithZone(zoneName(sa.ZoneId))
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func localAddr(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func peerAddr(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func setNoDelay(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

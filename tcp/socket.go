package tcp

import (
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// AsSocket makes a Socket of any net.Conn: the conn itself when it is one, else
// one end of a socket pair whose other end is joined to it, by goroutines that
// are started with start. It takes c.
func AsSocket(c net.Conn, start func(name string, f func())) (Socket, error) {
	if s, ok := c.(Socket); ok {
		return s, nil
	}
	ours, theirs, err := Pair()
	if err != nil {
		return nil, err
	}
	join := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src)
		dst.Close()
		src.Close()
	}
	start("join", func() { join(theirs, c) })
	start("join", func() { join(c, theirs) })
	return named{ours, c}, nil
}

// named is a Socket that reports the addresses of the conn behind it.
type named struct {
	Socket
	behind net.Conn
}

func (n named) RemoteAddr() net.Addr { return n.behind.RemoteAddr() }
func (n named) LocalAddr() net.Addr  { return n.behind.LocalAddr() }

// Pair returns two connected sockets within this process.
func Pair() (a, b Socket, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("tcp: %w", os.NewSyscallError("socketpair", err))
	}
	var out [2]Socket
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("tcp: %w", err)
		}
		out[i] = c.(*net.UnixConn)
	}
	return out[0], out[1], nil
}

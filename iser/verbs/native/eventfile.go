//go:build linux && cgo && (amd64 || arm64)

package native

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// eventFile waits for a descriptor of the libraries with Go's poller.
type eventFile struct {
	f      *os.File // a duplicate: the libraries close their own
	rc     syscall.RawConn
	closed atomic.Bool
}

func newEventFile(fd int, name string) (*eventFile, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	dup, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("fcntl", errno)
	}
	f := os.NewFile(dup, name)
	rc, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &eventFile{f: f, rc: rc}, nil
}

// wait calls try until its error is not EAGAIN, and returns that; before each
// call but the first it waits until the descriptor is readable. When ctx is
// done it returns ctx's error, after close an error that wraps
// verbs.ErrClosed. One caller at a time.
func (e *eventFile) wait(ctx context.Context, try func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = e.f.SetReadDeadline(time.Unix(1, 0))
		close(fired)
	})
	var result error
	err := e.rc.Read(func(uintptr) bool {
		for {
			result = try()
			if !errors.Is(result, syscall.EINTR) {
				return !errors.Is(result, syscall.EAGAIN)
			}
		}
	})
	if !stop() {
		<-fired
		_ = e.f.SetReadDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return result
	case e.closed.Load():
		return verbs.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

// close ends wait.
func (e *eventFile) close() {
	e.closed.Store(true)
	_ = e.f.Close()
}

package fdio

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
)

// Opener returns a luns.Opener by way of open. All that it opens share their
// health: a lost write is not forgotten by opening anew.
func Opener[B luns.Backend](open func(*Health) (B, error)) luns.Opener {
	health := new(Health)
	return func(ctx context.Context) (luns.Backend, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := open(health)
		if err != nil {
			return nil, err // not b: that is no nil interface
		}
		return b, nil
	}
}

// Register registers a kind of backend whose options are an O.
func Register[O any](kind string, newOpener func(O) (luns.Opener, error)) {
	luns.Register(kind, func(decode func(any) error) (luns.Opener, error) {
		var opts O
		if err := decode(&opts); err != nil {
			return nil, err
		}
		return newOpener(opts)
	})
}

// Flags are those of open(2) for a backend.
func Flags(readOnly, direct bool) int {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if readOnly {
		flags = unix.O_RDONLY | unix.O_CLOEXEC
	}
	if direct {
		flags |= unix.O_DIRECT
	}
	return flags
}

// Open is open(2), again after signals.
func Open(path string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(path, flags, 0o600)
		return err
	})
	return fd, err
}

// Classified adds the class of an errno to it.
func Classified(err error) error {
	if class := Class(err); class != nil {
		return fmt.Errorf("%w (%w)", class, err)
	}
	return err
}

// Punch deallocates a range, which reads as zeros afterwards; parts of blocks are
// zeroed.
func Punch(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// ZeroOrPunch is a Config.Zero that deallocates where it may, and else is zero.
func ZeroOrPunch(zero func(fd int, off, n int64, mayUnmap bool) error) func(fd int, off, n int64, mayUnmap bool) error {
	return func(fd int, off, n int64, mayUnmap bool) error {
		if mayUnmap {
			return Punch(fd, off, n)
		}
		return zero(fd, off, n, false)
	}
}

// As implements luns.Asker with what every device has: Trier unless it is direct,
// Unmapper if there is a way, Zeroer and Refresher.
func (d *Device) As(target any) bool {
	switch t := target.(type) {
	case *luns.Trier:
		*t = d
		return !d.cfg.Direct
	case *luns.Unmapper:
		*t = d
		return d.cfg.Punch != nil
	case *luns.Zeroer:
		*t = d
	case *luns.Refresher:
		*t = d
	default:
		return false
	}
	return true
}

package fdio

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
)

// Class returns the error class of package luns that err, usually an errno,
// belongs to, or nil if none fits.
func Class(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return luns.ErrMedium // shorter than it was: somebody truncated it
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	switch errno {
	case unix.EIO, unix.EREMOTEIO, unix.ENODATA, unix.EILSEQ, unix.EUCLEAN:
		return luns.ErrMedium
	case unix.ENOSPC, unix.EDQUOT:
		return luns.ErrNoSpace
	case unix.EROFS, unix.EPERM, unix.EACCES:
		return luns.ErrReadOnly
	case unix.EAGAIN, unix.EBUSY, unix.ENOMEM, unix.ENOBUFS, unix.ETIMEDOUT, unix.ENOLINK, unix.EBADE:
		return luns.ErrTransient
	case unix.ENODEV, unix.ENXIO, unix.ESHUTDOWN, unix.ESTALE, unix.ENOMEDIUM, unix.EHOSTDOWN:
		return luns.ErrOffline
	default:
		return nil
	}
}

// wrap adds what was tried and the class of the cause.
func (d *Device) wrap(op string, off, n int64, err error) error {
	if class := Class(err); class != nil {
		return fmt.Errorf("%s: %s %d bytes at %d of %s: %w (%w)", d.cfg.Kind, op, n, off, d.cfg.Path, class, err)
	}
	return fmt.Errorf("%s: %s %d bytes at %d of %s: %w", d.cfg.Kind, op, n, off, d.cfg.Path, err)
}

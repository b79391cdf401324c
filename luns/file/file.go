package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/internal/fdio"
)

// Options describe a file backend.
type Options struct {
	// Path of the file.
	Path string `hcl:"path"`
	// Size in bytes that a file created or grown by Create gets. A larger
	// file keeps its size. Without Create it is checked if it is not 0.
	Size int64 `hcl:"size,optional"`
	// Create makes a missing file, sparse, and lets the backend grow it.
	Create bool `hcl:"create,optional"`
	// DirectIO goes past the page cache.
	DirectIO bool `hcl:"direct_io,optional"`
	// ReadOnly opens the file for reading. Many may do so at once.
	ReadOnly bool `hcl:"read_only,optional"`
}

func (o Options) check() error {
	switch {
	case o.Path == "":
		return errors.New("file: path is empty")
	case o.Size < 0:
		return fmt.Errorf("file: size is %d, want 0 or more", o.Size)
	case o.Create && o.Size == 0:
		return errors.New("file: create needs a size")
	case o.Create && o.ReadOnly:
		return errors.New("file: create and read_only exclude each other")
	}
	return nil
}

// NewOpener returns an Opener of the file. It does not touch the file yet.
func NewOpener(opts Options) (luns.Opener, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	return fdio.Opener(func(h *fdio.Health) (*Backend, error) { return open(opts, h) }), nil
}

// Open opens the file. The caller owns the backend.
func Open(opts Options) (*Backend, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	return open(opts, new(fdio.Health))
}

func init() { fdio.Register("file", NewOpener) }

type device = fdio.Device

// Backend is an open file. Besides luns.Backend it has luns.Trier, Zeroer,
// Extenter, Refresher, Resizer and ResourceCounter, and Unmapper if the file system can punch
// holes; luns.As tells.
type Backend struct {
	*device
	opts Options
}

var (
	_ luns.Backend   = (*Backend)(nil)
	_ luns.Asker     = (*Backend)(nil)
	_ luns.Trier     = (*Backend)(nil)
	_ luns.Unmapper  = (*Backend)(nil)
	_ luns.Zeroer    = (*Backend)(nil)
	_ luns.Extenter  = (*Backend)(nil)
	_ luns.Refresher = (*Backend)(nil)
	_ luns.Resizer   = (*Backend)(nil)

	_ luns.ResourceCounter = (*Backend)(nil)
)

// As implements luns.Asker.
func (b *Backend) As(target any) bool {
	switch t := target.(type) {
	case *luns.Extenter:
		*t = b
	case *luns.Resizer:
		*t = b
	case *luns.ResourceCounter:
		*t = b
	default:
		return b.device.As(target)
	}
	return true
}

// Resize implements luns.Resizer. The file grows if Options.Create is set;
// otherwise it must have the size already. It is never cut: shrinking a file
// is left to its owner, followed by Refresh.
func (b *Backend) Resize(ctx context.Context, size int64) error {
	if err := b.Enter(ctx); err != nil {
		return err
	}
	defer b.Leave()
	have, err := fileSize(b.FD())
	switch {
	case err != nil:
		return fmt.Errorf("file: size of %s: %w", b.opts.Path, err)
	case size == have:
	case size < have:
		return fmt.Errorf("file: %s has %d bytes, it is not shrunk to %d", b.opts.Path, have, size)
	case size%int64(b.Info().BlockSize) != 0:
		return fmt.Errorf("file: size %d is not a multiple of %d", size, b.Info().BlockSize)
	case !b.opts.Create:
		return fmt.Errorf("file: %s has %d bytes, and is not grown to %d without create", b.opts.Path, have, size)
	default:
		if err := grow(b.FD(), b.opts.Path, size); err != nil {
			return err
		}
	}
	_, err = b.Refresh(ctx)
	return err
}

// Resources implements luns.ResourceCounter: they are those of the file system,
// without what it keeps for the superuser.
func (b *Backend) Resources(ctx context.Context) (used, available int64, err error) {
	if err := b.Enter(ctx); err != nil {
		return 0, 0, err
	}
	defer b.Leave()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(b.FD(), &fs); err != nil {
		return 0, 0, fmt.Errorf("file: file system of %s: %w", b.opts.Path, fdio.Classified(err))
	}
	return int64(fs.Blocks-fs.Bfree) * fs.Bsize, int64(fs.Bavail) * fs.Bsize, nil
}

func fileSize(fd int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return st.Size, nil
}

// grow extends the file by a hole and makes the new size durable.
func grow(fd int, path string, size int64) error {
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("file: grow %s to %d bytes: %w", path, size, fdio.Classified(err))
	}
	if err := unix.Fsync(fd); err != nil {
		return fmt.Errorf("file: grow %s to %d bytes: %w", path, size, fdio.Classified(err))
	}
	return nil
}

// syncDir makes a new directory entry durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() // only read
	return dir.Sync()
}

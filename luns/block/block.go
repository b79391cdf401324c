package block

import (
	"errors"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/internal/fdio"
)

// Options describe a block backend.
type Options struct {
	// Path of the device; links such as /dev/disk/by-id/... are followed.
	Path string `hcl:"path"`
	// DirectIO goes past the page cache.
	DirectIO bool `hcl:"direct_io,optional"`
	// ReadOnly opens the device for reading.
	ReadOnly bool `hcl:"read_only,optional"`
}

func (o Options) check() error {
	if o.Path == "" {
		return errors.New("block: path is empty")
	}
	return nil
}

// NewOpener returns an Opener of the device. It does not touch it yet.
func NewOpener(opts Options) (luns.Opener, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	return fdio.Opener(func(h *fdio.Health) (*Backend, error) { return open(opts, h) }), nil
}

// Open opens the device. The caller owns the backend.
func Open(opts Options) (*Backend, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	return open(opts, new(fdio.Health))
}

func init() { fdio.Register("block", NewOpener) }

type device = fdio.Device

// Backend is an open block device. Besides luns.Backend it has luns.Zeroer
// and Refresher, Trier unless Options.DirectIO is set, and Unmapper if the
// device discards; luns.As tells.
type Backend struct{ *device }

var (
	_ luns.Backend   = (*Backend)(nil)
	_ luns.Asker     = (*Backend)(nil)
	_ luns.Trier     = (*Backend)(nil)
	_ luns.Unmapper  = (*Backend)(nil)
	_ luns.Zeroer    = (*Backend)(nil)
	_ luns.Refresher = (*Backend)(nil)
)

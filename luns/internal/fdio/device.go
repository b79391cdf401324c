package fdio

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/internal/gate"
)

// Config is what an opener found out about its descriptor.
type Config struct {
	Kind string // prefix of errors: "file" or "block"
	Path string // for errors

	// Info is what Info returns, but for Size, which the device keeps.
	Info luns.Info

	// Direct says that FD was opened with O_DIRECT; buffers are then aligned
	// to MemoryAlign, a power of two.
	Direct      bool
	MemoryAlign int

	// NeverWaits says that plain reads and writes involve no device (tmpfs).
	NeverWaits bool

	// Health outlives the device: it belongs to the Opener. Not nil.
	Health *Health

	// Punch deallocates a range, which then reads as zeros if
	// Info.UnmapZeroes is set. nil if there is no way.
	Punch func(fd int, off, n int64) error

	// Zero writes zeros by a faster way than writing them. With mayUnmap it
	// may deallocate. It returns EOPNOTSUPP if there is no way.
	Zero func(fd int, off, n int64, mayUnmap bool) error

	// Size reads the size of the medium.
	Size func(fd int) (int64, error)
}

// Device implements luns.Backend, Unmapper, Zeroer, Refresher and Trier on a
// descriptor.
type Device struct {
	fd   int
	cfg  Config
	sys  sysOps
	gate gate.Gate
	size atomic.Int64

	bounce  bouncePool
	flusher flusher
	fua     descriptors

	// noWaitRead and noWaitWrite are cleared when the file system turns out
	// not to know RWF_NOWAIT; noDSync is set when it does not know RWF_DSYNC.
	noWaitRead, noWaitWrite, noDSync atomic.Bool
}

// New returns a device. It takes fd, and closes it when it fails.
func New(fd int, cfg Config) (*Device, error) {
	d := &Device{fd: fd, cfg: cfg, sys: realSys()}
	d.gate.Init()
	d.bounce.align = cfg.MemoryAlign
	d.fua.origin = fd
	d.flusher.sync = d.fdatasync
	d.noWaitRead.Store(!cfg.Direct)
	d.noWaitWrite.Store(!cfg.Direct)
	if _, err := d.readSize(); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return d, nil
}

// FD returns the descriptor, which the device keeps. It must be used only
// between Enter and Leave.
func (d *Device) FD() int { return d.fd }

// Enter admits a call; if it returns nil the caller calls Leave.
func (d *Device) Enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !d.gate.Enter() {
		return luns.ErrClosed
	}
	return nil
}

// Leave ends what Enter began.
func (d *Device) Leave() { d.gate.Leave() }

// enterWrite admits a call that changes the medium.
func (d *Device) enterWrite(ctx context.Context) error {
	if d.cfg.Info.ReadOnly {
		return fmt.Errorf("%s: %s: %w", d.cfg.Kind, d.cfg.Path, luns.ErrReadOnly)
	}
	if err := d.cfg.Health.Err(); err != nil {
		return err
	}
	return d.Enter(ctx)
}

// Info implements luns.Backend.
func (d *Device) Info() luns.Info {
	info := d.cfg.Info
	info.Size = d.size.Load()
	return info
}

// Close implements luns.Backend.
func (d *Device) Close() error {
	if !d.gate.Close() {
		return nil
	}
	d.fua.close()
	if err := unix.Close(d.fd); err != nil {
		return fmt.Errorf("%s: close %s: %w", d.cfg.Kind, d.cfg.Path, err)
	}
	return nil
}

// ReadAt implements luns.Backend.
func (d *Device) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := d.Enter(ctx); err != nil {
		return err
	}
	defer d.Leave()
	var err error
	if d.aligned(p) {
		err = d.readFull(p, off)
	} else {
		err = d.readBounced(p, off)
	}
	if err != nil {
		return d.wrap("read", off, int64(len(p)), err)
	}
	return nil
}

// WriteAt implements luns.Backend.
func (d *Device) WriteAt(ctx context.Context, p []byte, off int64, f luns.Flags) error {
	if err := d.enterWrite(ctx); err != nil {
		return err
	}
	defer d.Leave()
	if f&luns.FUA != 0 {
		return d.writeDurably(p, off)
	}
	if err := d.write(d.fd, p, off, 0); err != nil {
		return d.wrap("write", off, int64(len(p)), err)
	}
	return nil
}

// write stores p through fd with the given pwritev2 flags.
func (d *Device) write(fd int, p []byte, off int64, flags int) error {
	if d.aligned(p) {
		return d.writeFull(fd, p, off, flags)
	}
	return d.writeBounced(fd, p, off, flags)
}

// Unmap implements luns.Unmapper if Config.Punch is set.
func (d *Device) Unmap(ctx context.Context, off, n int64) error {
	if n == 0 {
		return nil
	}
	if err := d.enterWrite(ctx); err != nil {
		return err
	}
	defer d.Leave()
	if err := retry(func() error { return d.cfg.Punch(d.fd, off, n) }); err != nil {
		return d.wrap("unmap", off, n, err)
	}
	return nil
}

// WriteZeroes implements luns.Zeroer.
func (d *Device) WriteZeroes(ctx context.Context, off, n int64, mayUnmap bool, f luns.Flags) error {
	if n == 0 {
		return nil
	}
	if err := d.enterWrite(ctx); err != nil {
		return err
	}
	defer d.Leave()
	err := retry(func() error { return d.cfg.Zero(d.fd, off, n, mayUnmap) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = d.writeZeroBytes(off, n)
	}
	if err != nil {
		return d.wrap("write zeros", off, n, err)
	}
	if f&luns.FUA != 0 {
		return d.flush()
	}
	return nil
}

// writeZeroBytes is the slow way: zeros are written like data.
func (d *Device) writeZeroBytes(off, n int64) error {
	buf := d.bounce.get()
	defer d.bounce.put(buf)
	clear(buf.b)
	for n > 0 {
		part := buf.b[:min(n, int64(len(buf.b)))]
		if err := d.writeFull(d.fd, part, off, 0); err != nil {
			return err
		}
		off += int64(len(part))
		n -= int64(len(part))
	}
	return nil
}

// Refresh implements luns.Refresher.
func (d *Device) Refresh(ctx context.Context) (int64, error) {
	if err := d.Enter(ctx); err != nil {
		return 0, err
	}
	defer d.Leave()
	return d.readSize()
}

// readSize sets the size from the medium, rounded down to whole blocks.
func (d *Device) readSize() (int64, error) {
	size, err := d.cfg.Size(d.fd)
	if err != nil {
		return 0, fmt.Errorf("%s: size of %s: %w", d.cfg.Kind, d.cfg.Path, err)
	}
	size -= size % int64(d.cfg.Info.BlockSize)
	d.size.Store(size)
	return size, nil
}

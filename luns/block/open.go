package block

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/internal/fdio"
)

// open opens and measures the device.
func open(opts Options, health *fdio.Health) (*Backend, error) {
	fd, err := openDevice(opts)
	if err != nil {
		return nil, err
	}
	cfg, err := configure(fd, opts)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	cfg.Health = health
	d, err := fdio.New(fd, cfg)
	if err != nil {
		return nil, err
	}
	if d.Info().Size == 0 {
		_ = d.Close()
		return nil, fmt.Errorf("block: %s has no capacity: %w", opts.Path, luns.ErrOffline)
	}
	return &Backend{device: d}, nil
}

func openDevice(opts Options) (int, error) {
	// O_EXCL without O_CREAT claims the device, see open(2). On other files
	// its effect is undefined, so look first.
	var st unix.Stat_t
	if err := unix.Stat(opts.Path, &st); err != nil {
		return -1, fmt.Errorf("block: %s: %w", opts.Path, fdio.Classified(err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return -1, fmt.Errorf("block: %s is not a block device", opts.Path)
	}
	fd, err := fdio.Open(opts.Path, fdio.Flags(opts.ReadOnly, opts.DirectIO)|unix.O_EXCL)
	switch {
	case errors.Is(err, unix.EBUSY):
		return -1, fmt.Errorf("block: %s is in use%s: %w", opts.Path, users(st.Rdev), luns.ErrTransient)
	case err != nil:
		return -1, fmt.Errorf("block: open %s: %w", opts.Path, fdio.Classified(err))
	default:
		return fd, nil
	}
}

// users tells who claims the device, as far as sysfs knows.
func users(rdev uint64) string {
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev))
	holders, _ := filepath.Glob(filepath.Join(dir, "holders", "*"))
	if len(holders) == 0 {
		return " (mounted, or open in another program)"
	}
	var text strings.Builder
	text.WriteString(" by ")
	for i, h := range holders {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(filepath.Base(h))
	}
	return text.String()
}

// configure asks the device and sysfs for its properties.
func configure(fd int, opts Options) (fdio.Config, error) {
	logical, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
	if err != nil {
		return fdio.Config{}, fmt.Errorf("block: logical block size of %s: %w", opts.Path, fdio.Classified(err))
	}
	physical, err := unix.IoctlGetInt(fd, unix.BLKPBSZGET)
	if err != nil || physical < logical {
		physical = logical
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fdio.Config{}, fmt.Errorf("block: stat %s: %w", opts.Path, err)
	}
	if !opts.ReadOnly {
		if ro, err := unix.IoctlGetInt(fd, unix.BLKROGET); err == nil && ro != 0 {
			return fdio.Config{}, fmt.Errorf("block: %s is write-protected: %w", opts.Path, luns.ErrReadOnly)
		}
	}
	disk := fdio.SysBlock(st.Rdev)
	cfg := fdio.Config{
		Kind: "block",
		Path: opts.Path,
		Info: luns.Info{
			BlockSize:         logical,
			PhysicalBlockSize: physical,
			OptimalIOSize:     int(fdio.SysInt(disk, "queue/optimal_io_size")),
			ReadOnly:          opts.ReadOnly,
			Rotational:        fdio.SysInt(disk, "queue/rotational") == 1,
			// The page cache is one; past it, the kernel knows the drive's.
			VolatileCache: !opts.DirectIO || fdio.SysString(disk, "queue/write_cache") != "write through",
			ID:            identity(disk, st.Rdev),
		},
		Direct: opts.DirectIO,
		// The logical block size satisfies every driver.
		MemoryAlign: logical,
		Zero:        zeroOut,
		Size:        deviceSize,
	}
	if opts.ReadOnly {
		cfg.Info.VolatileCache = false
		return cfg, nil
	}
	configureUnmap(&cfg, disk)
	return cfg, nil
}

// configureUnmap chooses how to give capacity back.
func configureUnmap(cfg *fdio.Config, disk string) {
	granularity := int(fdio.SysInt(disk, "queue/discard_granularity"))
	switch {
	case fdio.SysInt(disk, "queue/write_zeroes_unmap_max_hw_bytes") > 0:
		cfg.Punch, cfg.Zero = fdio.Punch, fdio.ZeroOrPunch(zeroOut)
		cfg.Info.UnmapZeroes = true
	case fdio.SysInt(disk, "queue/discard_max_bytes") > 0:
		cfg.Punch = discard
	default:
		return
	}
	cfg.Info.Thin = true
	cfg.Info.UnmapGranularity = granularity
}

// identity returns the world wide name of a whole disk or the UUID of a
// device-mapper device. Partitions have none of their own here.
func identity(disk string, rdev uint64) string {
	if fdio.SysString(disk, "dev") != fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev)) {
		return ""
	}
	for _, attribute := range []string{"wwid", "device/wwid", "dm/uuid"} {
		if id := fdio.SysString(disk, attribute); id != "" {
			return id
		}
	}
	return ""
}

func deviceSize(fd int) (int64, error) {
	var size uint64
	if err := ioctl(fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return 0, err
	}
	return int64(size), nil
}

// discard tells the device that a range is not needed. The device may ignore
// it, in whole or in part.
func discard(fd int, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	return ioctl(fd, unix.BLKDISCARD, unsafe.Pointer(&r))
}

// zeroOut writes zeros without deallocating; the kernel writes pages of zeros
// where the device has no command for it.
func zeroOut(fd int, off, n int64, _ bool) error {
	r := [2]uint64{uint64(off), uint64(n)}
	return ioctl(fd, unix.BLKZEROOUT, unsafe.Pointer(&r))
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/internal/fdio"
)

// open opens, locks and measures the file.
func open(opts Options, health *fdio.Health) (*Backend, error) {
	fd, err := openLocked(opts)
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
	return &Backend{device: d, opts: opts}, nil
}

// openLocked returns the locked descriptor of a regular file of the right
// size.
func openLocked(opts Options) (int, error) {
	fd, created, err := openFile(opts)
	if err != nil {
		return -1, err
	}
	if err := prepare(fd, opts, created); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func openFile(opts Options) (fd int, created bool, err error) {
	// O_NONBLOCK keeps the open of a FIFO from hanging; on regular files it
	// means nothing.
	flags := fdio.Flags(opts.ReadOnly, opts.DirectIO) | unix.O_NONBLOCK
	fd, err = fdio.Open(opts.Path, flags)
	if opts.Create && errors.Is(err, unix.ENOENT) {
		fd, err = fdio.Open(opts.Path, flags|unix.O_CREAT)
		created = err == nil
	}
	switch {
	case err == nil:
		return fd, created, nil
	case opts.DirectIO && errors.Is(err, unix.EINVAL):
		return -1, false, fmt.Errorf("file: open %s: the file system does not support direct_io: %w", opts.Path, err)
	default:
		return -1, false, fmt.Errorf("file: open %s: %w", opts.Path, fdio.Classified(err))
	}
}

// prepare checks that fd is a regular file, locks it and sees to its size.
func prepare(fd int, opts Options, created bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("file: stat %s: %w", opts.Path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		return fmt.Errorf("file: %s is a block device: use the backend kind \"block\"", opts.Path)
	default:
		return fmt.Errorf("file: %s is not a regular file", opts.Path)
	}
	if err := fdio.Lock(fd, opts.ReadOnly); err != nil {
		return fmt.Errorf("file: %s: %w", opts.Path, err)
	}
	// The size counts only under the lock: another process may just have
	// finished creating the file.
	size, err := fileSize(fd)
	switch {
	case err != nil:
		return fmt.Errorf("file: stat %s: %w", opts.Path, err)
	case opts.Create && size < opts.Size:
		if err := grow(fd, opts.Path, opts.Size); err != nil {
			return err
		}
	case !opts.Create && opts.Size != 0 && size != opts.Size:
		return fmt.Errorf("file: %s has %d bytes, the configuration says %d", opts.Path, size, opts.Size)
	case size == 0:
		return fmt.Errorf("file: %s is empty", opts.Path)
	}
	if created {
		if err := syncDir(opts.Path); err != nil {
			return fmt.Errorf("file: create %s: %w", opts.Path, err)
		}
	}
	return nil
}

// configure finds out what the file system can do.
func configure(fd int, opts Options) (fdio.Config, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fdio.Config{}, fmt.Errorf("file: stat %s: %w", opts.Path, err)
	}
	offAlign, memAlign := 1, 1
	if opts.DirectIO {
		offAlign, memAlign = directAlignment(fd, int(st.Blksize))
		if st.Size%int64(offAlign) != 0 {
			return fdio.Config{}, fmt.Errorf("file: %s has %d bytes, direct_io needs a multiple of %d", opts.Path, st.Size, offAlign)
		}
	}
	var fs unix.Statfs_t
	inMemory := unix.Fstatfs(fd, &fs) == nil && (fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC)
	disk := fdio.SysBlock(st.Dev)
	cfg := fdio.Config{
		Kind: "file",
		Path: opts.Path,
		Info: luns.Info{
			BlockSize:         offAlign,
			PhysicalBlockSize: int(st.Blksize),
			ReadOnly:          opts.ReadOnly,
			Rotational:        fdio.SysInt(disk, "queue/rotational") == 1,
			VolatileCache:     !opts.ReadOnly && !inMemory,
		},
		Direct:      opts.DirectIO,
		MemoryAlign: memAlign,
		NeverWaits:  inMemory && !opts.DirectIO,
		Zero:        zeroRange,
		Size:        fileSize,
	}
	if !opts.ReadOnly && canPunch(fd, st.Size, st.Blksize) {
		cfg.Punch = fdio.Punch
		cfg.Zero = fdio.ZeroOrPunch(zeroRange)
		cfg.Info.Thin = true
		cfg.Info.UnmapGranularity = int(st.Blksize)
		cfg.Info.UnmapZeroes = true
	}
	return cfg, nil
}

// directAlignment asks statx for the alignment of direct I/O; before Linux 6.1
// the block size of the file system is a safe guess.
func directAlignment(fd, blksize int) (off, mem int) {
	var stx unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &stx)
	if err == nil && stx.Mask&unix.STATX_DIOALIGN != 0 && stx.Dio_offset_align > 0 {
		return int(stx.Dio_offset_align), max(int(stx.Dio_mem_align), 1)
	}
	return max(blksize, 4096), max(blksize, 4096)
}

// canPunch tries to punch a hole behind the end of the file, which changes
// nothing.
func canPunch(fd int, size, blksize int64) bool {
	if blksize <= 0 {
		return false
	}
	behind := (size + 2*blksize) / blksize * blksize
	return fdio.Punch(fd, behind, blksize) == nil
}

// zeroRange makes a range allocated and unwritten.
func zeroRange(fd int, off, n int64, _ bool) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

package fdio

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
)

const testSize = 1 << 20

// newDevice returns a device on a new file of testSize bytes.
func newDevice(t *testing.T) *Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, testSize); err != nil {
		t.Fatal(err)
	}
	d, err := New(fd, Config{
		Kind: "test", Path: path, Info: luns.Info{BlockSize: 1}, MemoryAlign: 1, Health: new(Health),
		Zero: func(int, int64, int64, bool) error { return unix.EOPNOTSUPP },
		Size: func(int) (int64, error) { return testSize, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// Bar C12: after a failed fsync nothing is acknowledged any more.
func TestFailedFlushIsFinal(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Device)
		call  func(*Device) error
	}{
		{
			"fdatasync", func(d *Device) { d.sys.fdatasync = failOnce(unix.EIO, unix.Fdatasync) },
			func(d *Device) error { return d.Flush(t.Context()) },
		},
		{
			"durable write", func(d *Device) { d.sys.pwritev2 = failWriteOnce(unix.EIO) },
			func(d *Device) error { return d.WriteAt(t.Context(), []byte("x"), 0, luns.FUA) },
		},
		{
			"durable zeros", func(d *Device) { d.sys.fdatasync = failOnce(unix.EIO, unix.Fdatasync) },
			func(d *Device) error { return d.WriteZeroes(t.Context(), 8192, 4096, false, luns.FUA) },
		},
		{
			"write-back without space", func(d *Device) { d.sys.pwritev2 = failWriteOnce(unix.ENOSPC) },
			func(d *Device) error { return d.WriteAt(t.Context(), []byte("x"), 0, luns.FUA) },
		},
		{
			"fdatasync where RWF_DSYNC is unknown", func(d *Device) {
				d.sys.pwritev2 = failWriteOnce(unix.EOPNOTSUPP)
				d.sys.fdatasync = failOnce(unix.EIO, unix.Fdatasync)
			},
			func(d *Device) error { return d.WriteAt(t.Context(), []byte("x"), 0, luns.FUA) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDevice(t)
			if err := d.WriteAt(t.Context(), []byte("before"), 100, 0); err != nil {
				t.Fatal(err)
			}
			c.spoil(d)
			if err := c.call(d); !errors.Is(err, luns.ErrMedium) {
				t.Fatalf("the failing call: %v, want ErrMedium", err)
			}
			for name, err := range map[string]error{
				"Flush":        d.Flush(t.Context()),
				"write":        d.WriteAt(t.Context(), []byte("y"), 0, 0),
				"durable":      d.WriteAt(t.Context(), []byte("y"), 0, luns.FUA),
				"zeros":        d.WriteZeroes(t.Context(), 0, 10, true, 0),
				"the same now": c.call(d),
			} {
				if !errors.Is(err, luns.ErrMedium) {
					t.Errorf("%s afterwards: %v, want ErrMedium", name, err)
				}
			}
			if done, _ := d.TryWriteAt([]byte("y"), 0, 0); done {
				t.Error("TryWriteAt afterwards was done")
			}
			p := make([]byte, 6)
			if err := d.ReadAt(t.Context(), p, 100); err != nil || string(p) != "before" {
				t.Errorf("reading afterwards: %q, %v", p, err)
			}
		})
	}
}

func failOnce(errno unix.Errno, then func(int) error) func(int) error {
	var failed atomic.Bool
	return func(fd int) error {
		if failed.CompareAndSwap(false, true) {
			return errno
		}
		return then(fd)
	}
}

func failWriteOnce(errno unix.Errno) func(int, []byte, int64, int) (int, error) {
	var failed atomic.Bool
	return func(fd int, p []byte, off int64, flags int) (int, error) {
		if failed.CompareAndSwap(false, true) {
			return 0, errno
		}
		return pwritev2(fd, p, off, flags)
	}
}

// A write that finds no space hurts nobody else, and may succeed later.
func TestNoSpaceIsNotFinal(t *testing.T) {
	d := newDevice(t)
	d.sys.pwritev2 = func(int, []byte, int64, int) (int, error) { return 0, unix.ENOSPC }
	d.sys.pwrite = func(int, []byte, int64) (int, error) { return 0, unix.ENOSPC }
	for _, f := range []luns.Flags{0, luns.FUA} {
		if err := d.WriteAt(t.Context(), []byte("x"), 0, f); !errors.Is(err, luns.ErrNoSpace) || errors.Is(err, luns.ErrMedium) {
			t.Errorf("write with %v: %v, want ErrNoSpace", f, err)
		}
	}
	d.sys = realSys()
	if err := d.WriteAt(t.Context(), []byte("x"), 0, luns.FUA); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// Transfers are completed across signals and short counts.
func TestWholeTransfers(t *testing.T) {
	d := newDevice(t)
	n := 0
	some := func(p []byte) []byte { return p[:max(1, len(p)/3)] }
	d.sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
		if n++; n%2 == 0 {
			return 0, unix.EINTR
		}
		return unix.Pwrite(fd, some(p), off)
	}
	d.sys.pwritev2 = func(fd int, p []byte, off int64, flags int) (int, error) {
		if n++; n%2 == 0 {
			return 0, unix.EINTR
		}
		return pwritev2(fd, some(p), off, flags)
	}
	d.sys.pread = func(fd int, p []byte, off int64) (int, error) {
		if n++; n%2 == 0 {
			return 0, unix.EINTR
		}
		return unix.Pread(fd, some(p), off)
	}
	want := bytes.Repeat([]byte("0123456789"), 1000)
	for _, f := range []luns.Flags{0, luns.FUA} {
		want[0]++
		if err := d.WriteAt(t.Context(), want, 33, f); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if err := d.ReadAt(t.Context(), got, 33); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("flags %v: read back: %v", f, err)
		}
	}
}

// A file cut by somebody else is an error, not zeros.
func TestTruncatedFile(t *testing.T) {
	d := newDevice(t)
	if err := os.Truncate(d.cfg.Path, 4096); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8192)
	if err := d.ReadAt(t.Context(), p, 0); !errors.Is(err, luns.ErrMedium) {
		t.Errorf("ReadAt: %v, want ErrMedium", err)
	}
	if done, err := d.TryReadAt(p, 0); done || err != nil {
		t.Errorf("TryReadAt: %v, %v, want not done", done, err)
	}
}

// Flushes are joined, but a flush never shares a sync that began before it.
func TestFlusher(t *testing.T) {
	var syncs, durable, acked atomic.Int64
	f := &flusher{}
	f.sync = func() {
		upTo := acked.Load() // what a sync that starts now makes durable
		syncs.Add(1)
		durable.Store(upTo)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				mine := acked.Add(1)
				f.flush()
				if durable.Load() < mine {
					t.Error("flush returned before its data was durable")
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d syncs for 8000 flushes", syncs.Load())
}

func TestClass(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.EIO: luns.ErrMedium, unix.ENOSPC: luns.ErrNoSpace, unix.EDQUOT: luns.ErrNoSpace,
		unix.EROFS: luns.ErrReadOnly, unix.ENOMEM: luns.ErrTransient, unix.EAGAIN: luns.ErrTransient,
		unix.ESHUTDOWN: luns.ErrOffline, unix.ENODEV: luns.ErrOffline, unix.EINVAL: nil,
	} {
		if got := Class(errno); !errors.Is(got, want) || (got == nil) != (want == nil) {
			t.Errorf("Class(%v) is %v, want %v", errno, got, want)
		}
	}
	if Class(context.Canceled) != nil {
		t.Error("a context's error has a class")
	}
}

func TestTryReadDoesNotAllocate(t *testing.T) {
	d := newDevice(t)
	p := make([]byte, 4096)
	if err := d.WriteAt(t.Context(), p, 0, 0); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, _ = d.TryReadAt(p, 0)
		_ = d.ReadAt(ctx, p, 0)
		_ = d.WriteAt(ctx, p, 0, 0)
	}); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

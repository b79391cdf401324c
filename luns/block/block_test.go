package block_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/block"
	"github.com/iserd/iserd/luns/lunstest"
)

// loop returns a loop device of size bytes on a new file, and skips the test
// where there is none to be had: without root, in most containers, or on a
// kernel without them. That is not a missing tool, so it is no failure in CI.
func loop(t *testing.T, size int64) string {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	defer control.Close()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "loop"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	// Between asking for a free device and taking it another may be faster.
	for range 10 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skipf("needs loop devices: %v", err)
		}
		path := filepath.Join("/dev", "loop"+strconv.Itoa(n))
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Skipf("needs loop devices: %v", err)
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd())})
		if errors.Is(err, unix.EBUSY) {
			_ = dev.Close()
			continue
		}
		if err != nil {
			_ = dev.Close()
			t.Skipf("needs loop devices: %s: %v", path, err)
		}
		t.Cleanup(func() {
			if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
				t.Errorf("%s: clear: %v", path, err)
			}
			_ = dev.Close()
		})
		return path
	}
	t.Skip("needs loop devices: all are taken")
	return ""
}

func open(t *testing.T, opts block.Options) *block.Backend {
	t.Helper()
	b, err := block.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestAcceptance(t *testing.T) {
	for _, direct := range []bool{false, true} {
		name := "page cache"
		if direct {
			name = "direct"
		}
		t.Run(name, func(t *testing.T) {
			var last block.Options
			lunstest.Run(t, func(t *testing.T) luns.Backend {
				last = block.Options{Path: loop(t, 8<<20), DirectIO: direct}
				return open(t, last)
			}, lunstest.Persistent(func(t *testing.T) luns.Backend { return open(t, last) }))
		})
	}
}

func TestInUse(t *testing.T) {
	path := loop(t, 1<<20)
	b := open(t, block.Options{Path: path})
	if _, err := block.Open(block.Options{Path: path}); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("second Open: %v", err)
	}
	if err := b.WriteAt(t.Context(), make([]byte, 512), 0, luns.FUA); err != nil {
		t.Errorf("durable write: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, block.Options{Path: path})
}

func TestReadOnly(t *testing.T) {
	b := open(t, block.Options{Path: loop(t, 1<<20), ReadOnly: true})
	if err := b.WriteAt(t.Context(), make([]byte, 512), 0, 0); !errors.Is(err, luns.ErrReadOnly) {
		t.Errorf("WriteAt: %v", err)
	}
	if _, ok := luns.As[luns.Unmapper](b); ok {
		t.Error("has an Unmapper")
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ path, want string }{
		{"", "path is empty"},
		{filepath.Join(dir, "missing"), "no such file"},
		{dir, "is not a block device"},
		{"/dev/null", "is not a block device"},
	} {
		_, err := block.Open(block.Options{Path: c.path})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%q): %v, want %q", c.path, err, c.want)
		}
	}
}

// Refresh notices that a device has grown.
func TestRefresh(t *testing.T) {
	path := loop(t, 1<<20)
	b := open(t, block.Options{Path: path})
	backing, err := os.ReadFile("/sys/block/" + filepath.Base(path) + "/loop/backing_file")
	if err != nil {
		t.Skip("needs sysfs")
	}
	if err := os.Truncate(strings.TrimSpace(string(backing)), 2<<20); err != nil {
		t.Fatal(err)
	}
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		t.Fatal(err)
	}
	if size, err := b.Refresh(t.Context()); err != nil || size != 2<<20 || b.Info().Size != size {
		t.Errorf("Refresh: %d, %v", size, err)
	}
}

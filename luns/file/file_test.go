package file_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/file"
	"github.com/iserd/iserd/luns/lunstest"
)

// ramDir returns a directory on tmpfs.
func ramDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "iserd-file-test-*") //nolint:usetesting // it has to be on tmpfs
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs /dev/shm: %v", err)
		}
		t.Skipf("needs /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestAcceptance(t *testing.T) {
	for _, c := range []struct {
		name   string
		dir    func(testing.TB) string
		direct bool
	}{
		{"page cache", func(t testing.TB) string { return t.TempDir() }, false},
		{"direct", func(t testing.TB) string { return t.TempDir() }, true},
		{"tmpfs", ramDir, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var last file.Options
			lunstest.Run(t, func(t *testing.T) luns.Backend {
				last = file.Options{
					Path: filepath.Join(c.dir(t), "disk"), Size: 16 << 20,
					Create: true, DirectIO: c.direct,
				}
				return open(t, last)
			}, lunstest.Persistent(func(t *testing.T) luns.Backend { return open(t, last) }))
		})
	}
}

func open(t testing.TB, opts file.Options) *file.Backend {
	t.Helper()
	b, err := file.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	path := func(name string, size int64) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(p, size); err != nil {
			t.Fatal(err)
		}
		return p
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		opts file.Options
		want string
	}{
		{"no path", file.Options{}, "path is empty"},
		{"negative size", file.Options{Path: "x", Size: -1}, "size is -1"},
		{"create without size", file.Options{Path: "x", Create: true}, "create needs a size"},
		{"create read-only", file.Options{Path: "x", Create: true, Size: 1, ReadOnly: true}, "exclude each other"},
		{"missing", file.Options{Path: filepath.Join(dir, "missing")}, "no such file"},
		{"directory", file.Options{Path: dir, ReadOnly: true}, "not a regular file"},
		{"fifo", file.Options{Path: fifo}, "not a regular file"},
		{"empty", file.Options{Path: path("empty", 0)}, "is empty"},
		{"other size", file.Options{Path: path("other", 4096), Size: 8192}, "has 4096 bytes, the configuration says 8192"},
		{"odd size direct", file.Options{Path: path("odd", 1000), DirectIO: true}, "needs a multiple of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := file.Open(c.opts)
			if err == nil {
				_ = b.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v, want %q", err, c.want)
			}
		})
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	b := open(t, file.Options{Path: path, Size: 1 << 20, Create: true})
	for _, readOnly := range []bool{false, true} {
		_, err := file.Open(file.Options{Path: path, ReadOnly: readOnly})
		if err == nil || !strings.Contains(err.Error(), "in use by another LUN of this process") {
			t.Errorf("second Open, read-only %v: %v", readOnly, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, file.Options{Path: path, ReadOnly: true})
	open(t, file.Options{Path: path, ReadOnly: true})
	if _, err := file.Open(file.Options{Path: path}); err == nil {
		t.Error("a writer got in beside readers")
	}
}

// The test binary runs itself as the other process.
func TestLockOfAnotherProcess(t *testing.T) {
	if path := os.Getenv("ISERD_TEST_LOCK"); path != "" {
		b, err := file.Open(file.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		os.Stdout.WriteString("locked\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent closes it
		return
	}
	path := filepath.Join(t.TempDir(), "disk")
	b := open(t, file.Options{Path: path, Size: 1 << 20, Create: true})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockOfAnotherProcess$")
	cmd.Env = append(os.Environ(), "ISERD_TEST_LOCK="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	_, err = file.Open(file.Options{Path: path})
	if want := fmt.Sprintf("in use by another process (pid %d)", cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Open: %v, want %q", err, want)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	b := open(t, file.Options{Path: path, Size: 1 << 20, Create: true})
	_ = b.Close()
	b = open(t, file.Options{Path: path, Size: 2 << 20, Create: true})
	if got := b.Info().Size; got != 2<<20 {
		t.Errorf("grown to %d", got)
	}
	_ = b.Close()
	b = open(t, file.Options{Path: path, Size: 1 << 20, Create: true})
	if got := b.Info().Size; got != 2<<20 {
		t.Errorf("a larger file has size %d", got)
	}
	_ = b.Close()
	b = open(t, file.Options{Path: path})
	if err := b.Resize(t.Context(), 3<<20); err == nil {
		t.Error("grown without create")
	}
	if err := os.Truncate(path, 3<<20); err != nil {
		t.Fatal(err)
	}
	if err := b.Resize(t.Context(), 3<<20); err != nil || b.Info().Size != 3<<20 {
		t.Errorf("Resize to the size that it has: %v, %d", err, b.Info().Size)
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	w := open(t, file.Options{Path: path, Size: 1 << 20, Create: true})
	_ = w.Close()
	b := open(t, file.Options{Path: path, ReadOnly: true})
	if i := b.Info(); !i.ReadOnly || i.VolatileCache {
		t.Errorf("Info: %+v", i)
	}
	if err := b.WriteAt(t.Context(), []byte("x"), 0, 0); !errors.Is(err, luns.ErrReadOnly) {
		t.Errorf("WriteAt: %v", err)
	}
	if err := b.WriteZeroes(t.Context(), 0, 1, true, 0); !errors.Is(err, luns.ErrReadOnly) {
		t.Errorf("WriteZeroes: %v", err)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	if _, ok := luns.As[luns.Unmapper](b); ok {
		t.Error("has an Unmapper")
	}
}

func TestUnmapFreesSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	b := open(t, file.Options{Path: path, Size: 8 << 20, Create: true})
	if _, ok := luns.As[luns.Unmapper](b); !ok {
		t.Skip("the file system of the temporary directory cannot punch holes")
	}
	used := func() int64 {
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	sparse := used()
	if err := b.WriteAt(t.Context(), make([]byte, 4<<20), 0, 0); err != nil {
		t.Fatal(err)
	}
	full := used()
	if err := b.Unmap(t.Context(), 0, 4<<20); err != nil {
		t.Fatal(err)
	}
	if after := used(); sparse > 64<<10 || full < 4<<20 || after > full/2 {
		t.Errorf("used bytes: sparse %d, written %d, unmapped %d", sparse, full, after)
	}
}

// The Opener remembers a failure across restarts; this checks that it is the
// one that is asked. The failure itself is tested in fdio.
func TestOpener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	f, ok := luns.Lookup("file")
	if !ok {
		t.Fatal("kind \"file\" is not registered")
	}
	op, err := f(func(into any) error {
		*into.(*file.Options) = file.Options{Path: path, Size: 1 << 20, Create: true}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the factory touched the disk")
	}
	for range 2 {
		b, err := op(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkFile(b *testing.B) {
	for _, fs := range []struct {
		name string
		dir  func(testing.TB) string
	}{
		{"disk", func(t testing.TB) string { return t.TempDir() }},
		{"tmpfs", ramDir},
	} {
		f := open(b, file.Options{Path: filepath.Join(fs.dir(b), "disk"), Size: 16 << 20, Create: true})
		buf, ctx := make([]byte, 4096), b.Context()
		for off := int64(0); off < 16<<20; off += 4096 {
			if err := f.WriteAt(ctx, buf, off, 0); err != nil {
				b.Fatal(err)
			}
		}
		tries := 0
		for _, c := range []struct {
			name string
			call func(off int64) (bool, error)
		}{
			{"TryRead4k", func(off int64) (bool, error) { return f.TryReadAt(buf, off) }},
			{"Read4k", func(off int64) (bool, error) { return true, f.ReadAt(ctx, buf, off) }},
			{"TryWrite4k", func(off int64) (bool, error) { return f.TryWriteAt(buf, off, 0) }},
			{"Write4k", func(off int64) (bool, error) { return true, f.WriteAt(ctx, buf, off, 0) }},
		} {
			b.Run(fs.name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				tries = 0
				n := 0
				for b.Loop() {
					done, err := c.call(int64(n) * 4096 % (16 << 20))
					if err != nil {
						b.Fatal(err)
					}
					if done {
						tries++
					}
					n++
				}
				b.ReportMetric(float64(tries)/float64(n), "done/op")
			})
		}
	}
}

package file_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/file"
	"github.com/iserd/iserd/luns/lunstest"
)

// ramDir returns a directory on tmpfs.
func ramDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "iserd-file-test-*")
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

package file_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/file"
	"github.com/iserd/iserd/luns/filter/delay"
)

// TestResources: what is in use and free is that of the file system, also seen
// through a filter.
func TestResources(t *testing.T) {
	dir := t.TempDir()
	b, err := file.Open(file.Options{Path: filepath.Join(dir, "disk"), Size: 64 << 20, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	slow := delay.New(b, nil)
	counter, ok := luns.As[luns.ResourceCounter](slow)
	if !ok {
		t.Fatal("a file does not count its resources")
	}
	used, available, err := counter.Resources(t.Context())
	var fs unix.Statfs_t
	if err != nil || unix.Statfs(dir, &fs) != nil {
		t.Fatal(err)
	}
	if size := int64(fs.Blocks) * fs.Bsize; used <= 0 || available <= 0 || used+available > size {
		t.Errorf("%d bytes used and %d available of %d", used, available, size)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := counter.Resources(t.Context()); err == nil {
		t.Error("a closed file counts")
	}
}

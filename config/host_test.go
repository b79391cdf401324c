package config_test

import (
	"io/fs"
	"os"
	"path"
	"sort"
	"time"

	"github.com/iserd/iserd/config"
)

// fakeHost is a machine of files that exist only in the test.
type fakeHost struct {
	env   map[string]string
	files map[string]fakeFile
}

type fakeFile struct {
	data string
	size int64 // when data is empty
	mode fs.FileMode
}

var _ config.Host = (*fakeHost)(nil)

func (h *fakeHost) Getenv(name string) (string, bool) {
	v, ok := h.env[name]
	return v, ok
}

func (h *fakeHost) Stat(name string) (fs.FileInfo, error) {
	f, ok := h.files[path.Clean(name)]
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return fakeInfo{name: path.Base(name), f: f}, nil
}

func (h *fakeHost) ReadFile(name string, limit int64) ([]byte, fs.FileInfo, error) {
	info, err := h.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: os.ErrInvalid}
	}
	return []byte(h.files[name].data), info, nil
}

func (h *fakeHost) ReadDir(name string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	for p, f := range h.files {
		if path.Dir(p) == name {
			out = append(out, fs.FileInfoToDirEntry(fakeInfo{name: path.Base(p), f: f}))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out, nil
}

type fakeInfo struct {
	name string
	f    fakeFile
}

func (i fakeInfo) Name() string { return i.name }
func (i fakeInfo) Size() int64 {
	if i.f.data != "" {
		return int64(len(i.f.data))
	}
	return i.f.size
}
func (i fakeInfo) Mode() fs.FileMode  { return i.f.mode }
func (i fakeInfo) ModTime() time.Time { return time.Time{} }
func (i fakeInfo) IsDir() bool        { return i.f.mode.IsDir() }
func (i fakeInfo) Sys() any           { return nil }

// testHost is the machine that the tests' configurations speak of.
func testHost() *fakeHost {
	return &fakeHost{
		env: map[string]string{"POOL": "fast", "MUTUAL": "target-secret-1"},
		files: map[string]fakeFile{
			"/srv/luns":            {mode: fs.ModeDir | 0o755},
			"/srv/luns/boot.img":   {size: 40 << 30, mode: 0o600},
			"/srv/luns/odd.img":    {size: 1000, mode: 0o600},
			"/srv/luns/s512.img":   {size: 1<<20 + 512, mode: 0o600},
			"/srv/luns/empty.img":  {mode: 0o600},
			"/srv/luns/pipe":       {mode: fs.ModeNamedPipe | 0o600},
			"/dev/sdb":             {mode: fs.ModeDevice | 0o660},
			"/dev/tty":             {mode: fs.ModeDevice | fs.ModeCharDevice | 0o660},
			"/etc/iserd/s/esx01":   {data: "secret-of-esx01\n", mode: 0o600},
			"/etc/iserd/s/esx02":   {data: "secret-of-esx02\r\n", mode: 0o640},
			"/etc/iserd/s/public":  {data: "secret-of-public\n", mode: 0o644},
			"/etc/iserd/s/short":   {data: "short-secr\n", mode: 0o600},
			"/etc/iserd/s/empty":   {data: "\n", mode: 0o600},
			"/etc/iserd/s/asdir":   {mode: fs.ModeDir | 0o700},
			"/etc/iserd/s/toolong": {data: string(make([]byte, 100<<10)), mode: 0o600},
		},
	}
}

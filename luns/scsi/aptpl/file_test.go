package aptpl

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	older = `{"version":1}`
	newer = `{"version":1,"type":5,"registrants":[{"initiator":"iqn.a:b","isid":"400000000000","port":1,"key":"1f"}]}`
)

func TestRoundTrip(t *testing.T) {
	f := New(filepath.Join(t.TempDir(), "lun0"))
	if got, err := f.Load(); got != nil || err != nil {
		t.Fatalf("without a file: %q, %v", got, err)
	}
	for _, s := range []string{older, newer, older, "", "no\nJSON\n", strings.Repeat("x", 1<<20)} {
		if err := f.Save([]byte(s)); err != nil {
			t.Fatal(err)
		}
		got, err := f.Load()
		if err != nil || got == nil || string(got) != s {
			t.Fatalf("got %q, %v; want %q", got, err, s)
		}
	}
	if names, _ := filepath.Glob(f.Path() + "*"); len(names) != 1 {
		t.Errorf("files left: %v", names)
	}
	if st, err := os.Stat(f.Path()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := f.Save(make([]byte, maxSize)); err == nil {
		t.Error("saved what Load would refuse")
	}
	// Not the operating system's word for a file that is not there: an error.
	if got, err := New(filepath.Join(f.Path(), "below a file")).Load(); err == nil {
		t.Errorf("got %q", got)
	}
	if err := New(filepath.Join(t.TempDir(), "no", "directory")).Save(nil); err == nil {
		t.Error("saved without a directory")
	}
}

// TestDamage is bar D13: every flipped bit, every truncation and every
// additional byte is found.
func TestDamage(t *testing.T) {
	f := New(filepath.Join(t.TempDir(), "lun0"))
	if err := f.Save([]byte(newer)); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(f.Path(), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Load(); got != nil || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			check(fmt.Sprintf("byte %d bit %d", i, bit), bad)
		}
		check(fmt.Sprintf("first %d bytes", i), good[:i])
		check(fmt.Sprintf("without byte %d", i), slices.Delete(bytes.Clone(good), i, i+1))
	}
	check("a byte more", append(bytes.Clone(good), '\n'))
	check("twice", append(bytes.Clone(good), good...))
	check("zeros", make([]byte, len(good)))
	check("too long", append(bytes.Clone(good), make([]byte, maxSize)...))
}

// diskFS is a file system that loses what was not made durable. Names and
// contents are apart, as on a disk: an inode is a pointer.
type diskFS struct {
	names, durable map[string]*inode // as the process sees them; as a crash leaves them
	left           int               // calls until the crash
	fail           error             // what the call then returns; nil: the process is gone
	log            []string
}

type inode struct{ data, durable []byte }

var errCrash = errors.New("crash")

func newDisk(content string) *diskFS {
	n := &inode{data: []byte(content), durable: []byte(content)}
	return &diskFS{names: map[string]*inode{"f": n}, durable: map[string]*inode{"f": n}, left: 1 << 30}
}

func (d *diskFS) step(call string) error {
	d.log = append(d.log, call)
	d.left--
	switch {
	case d.left == 0 && d.fail != nil:
		return d.fail
	case d.left <= 0 && d.fail == nil:
		return errCrash
	default:
		return nil
	}
}

func (d *diskFS) read(path string, _ int64) ([]byte, error) {
	n := d.names[path]
	if n == nil {
		return nil, os.ErrNotExist
	}
	return bytes.Clone(n.data), nil
}

func (d *diskFS) write(path string, data []byte) error {
	if err := d.step("create"); err != nil {
		return err
	}
	n := &inode{}
	d.names[path] = n
	return fill(&diskFile{d, n}, data)
}

type diskFile struct {
	d *diskFS
	n *inode
}

func (f *diskFile) Write(p []byte) (int, error) {
	err := f.d.step("write")
	if err != nil {
		p = p[:len(p)/2] // a crash or a full disk in the middle
	}
	f.n.data = append(f.n.data, p...)
	return len(p), err
}

func (f *diskFile) Sync() error {
	if err := f.d.step("fsync"); err != nil {
		return err
	}
	f.n.durable = bytes.Clone(f.n.data)
	return nil
}

func (f *diskFile) Close() error { return f.d.step("close") }

func (d *diskFS) rename(from, to string) error {
	if err := d.step("rename"); err != nil {
		return err
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *diskFS) remove(path string) error {
	if err := d.step("remove"); err != nil {
		return err
	}
	delete(d.names, path)
	return nil
}

func (d *diskFS) syncDir(string) error {
	if err := d.step("fsync directory"); err != nil {
		return err
	}
	d.durable = map[string]*inode{}
	maps.Copy(d.durable, d.names)
	return nil
}

// after returns what a crash may leave: names as they were or as they are, and
// of each file what was durable, all of it, or an empty or half-written one.
func (d *diskFS) after() (disks []*diskFS) {
	for _, names := range []map[string]*inode{d.durable, d.names} {
		for _, content := range []func(*inode) []byte{
			func(n *inode) []byte { return n.durable },
			func(n *inode) []byte { return n.data },
			func(n *inode) []byte { return n.data[:max(len(n.durable), len(n.data)/3)] },
		} {
			x := &diskFS{names: map[string]*inode{}, left: 1 << 30}
			for k, n := range names {
				x.names[k] = &inode{data: content(n)}
			}
			disks = append(disks, x)
		}
	}
	return disks
}

// TestCrash is bar D12: Save stopped at each system call, by the end of the
// process, the power or an error of the call, leaves the old or the new
// content; after nil it is the new one, whatever the disk had not made durable.
func TestCrash(t *testing.T) {
	for _, fail := range []error{nil, syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
		for call := 1; ; call++ {
			d := newDisk(string(encode([]byte(older))))
			d.left, d.fail = call, fail
			err := (&File{"f", d}).Save([]byte(newer))
			if d.left > 0 { // got through
				if err != nil || call < 6 {
					t.Fatalf("%v: done after %v: %v", fail, d.log, err)
				}
				break
			}
			if err == nil {
				t.Errorf("%v at %v: no error", fail, d.log)
			}
			for i, x := range d.after() {
				got, err := (&File{"f", x}).Load()
				if err != nil || string(got) != older && string(got) != newer {
					t.Errorf("%v at %v, case %d: %q, %v", fail, d.log, i, got, err)
				}
				if err := (&File{"f", x}).Save([]byte(newer)); err != nil {
					t.Errorf("cannot save after a crash: %v", err)
				}
			}
		}
	}
	d := newDisk(string(encode([]byte(older))))
	if err := (&File{"f", d}).Save([]byte(newer)); err != nil {
		t.Fatal(err)
	}
	for i, x := range d.after() {
		if got, err := (&File{"f", x}).Load(); err != nil || string(got) != newer {
			t.Errorf("case %d after success: %q, %v", i, got, err)
		}
	}
	want := "create,write,fsync,close,rename,fsync directory"
	if got := strings.Join(d.log, ","); got != want {
		t.Errorf("calls %s, want %s", got, want)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(encode([]byte(newer)))
	f.Add([]byte("iserd-reservations 1 \n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		d := newDisk(string(content))
		data, err := (&File{"f", d}).Load()
		if err == nil && !bytes.Equal(encode(data), content) {
			t.Errorf("%q was read from %q", data, content)
		}
	})
}

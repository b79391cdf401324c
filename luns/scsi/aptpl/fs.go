package aptpl

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// file and filesystem are the system calls of a Save, so that tests can stop it
// at each of them.
type file interface {
	Write(p []byte) (int, error)
	Sync() error
	Close() error
}

type filesystem interface {
	// read returns the content of a file, up to limit bytes.
	read(path string, limit int64) ([]byte, error)
	// write creates or empties a file, fills it and makes it durable.
	write(path string, data []byte) error
	rename(from, to string) error
	remove(path string) error
	// syncDir makes the directory entries beside path durable.
	syncDir(path string) error
}

// osFS is the file system of the operating system.
type osFS struct{}

func (osFS) read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit))
}

func (osFS) write(path string, data []byte) error {
	// Keys are no secrets, but they let an initiator preempt: for the owner only.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return fill(f, data)
}

// fill writes data to a new file, makes it durable and closes it.
func fill(f file, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (osFS) rename(from, to string) error { return os.Rename(from, to) }

func (osFS) remove(path string) error { return os.Remove(path) }

func (osFS) syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

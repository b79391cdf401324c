package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Host is what the loader may learn from the machine. It only reads.
type Host interface {
	// Getenv returns an environment variable.
	Getenv(name string) (value string, ok bool)
	// Stat describes a file, following links.
	Stat(name string) (fs.FileInfo, error)
	// ReadFile returns the content of a regular file of at most limit bytes, and
	// its description.
	ReadFile(name string, limit int64) ([]byte, fs.FileInfo, error)
	// ReadDir lists a directory in lexical order.
	ReadDir(name string) ([]fs.DirEntry, error)
}

// osHost is the machine itself.
type osHost struct{}

func (osHost) Getenv(name string) (string, bool) { return os.LookupEnv(name) }

func (osHost) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

func (osHost) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

var errNotRegular = errors.New("not a regular file")

func (osHost) ReadFile(name string, limit int64) ([]byte, fs.FileInfo, error) {
	// Look before opening: opening a FIFO would wait for a writer.
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: errNotRegular}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	// The mode that counts is that of the file which is read.
	if info, err = f.Stat(); err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > limit {
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("longer than %d bytes", limit)}
	}
	return data, info, nil
}

// OS returns the machine itself as a Host.
func OS() Host { return osHost{} }

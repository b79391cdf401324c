package aptpl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
)

// ErrDamaged is wrapped by the error of Load for a file that is not as Save
// wrote it.
var ErrDamaged = errors.New("the file is damaged")

// maxSize bounds what Load reads: 1024 registrations take a quarter of it.
const maxSize = 2 << 20

// File is a scsi.Store in one file. Load and Save must not overlap.
type File struct {
	path string
	fs   filesystem
}

// New returns the store in the file path, which need not exist; its directory
// has to, when something is saved. It does no I/O.
func New(path string) *File { return &File{path, osFS{}} }

// Path returns the name of the file.
func (f *File) Path() string { return f.path }

// Load returns what Save stored last; nil if the file does not exist. It
// returns owned data.
func (f *File) Load() ([]byte, error) {
	raw, err := f.fs.read(f.path, maxSize+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("aptpl: %w", err)
	}
	_, data, ok := bytes.Cut(raw, []byte("\n"))
	if !ok || len(raw) > maxSize || !bytes.Equal(encode(data), raw) {
		return nil, fmt.Errorf("aptpl: %s: %w", f.path, ErrDamaged)
	}
	return data, nil
}

// encode returns the content of the file for data.
func encode(data []byte) []byte {
	return append(fmt.Appendf(nil, "iserd-reservations 1 %x %d\n", sha256.Sum256(data), len(data)), data...)
}

// Save stores data durably. It borrows data. After an error the file may be the
// old or the new one.
func (f *File) Save(data []byte) error {
	raw := encode(data)
	if len(raw) > maxSize {
		return fmt.Errorf("aptpl: %s: %d bytes are more than %d", f.path, len(raw), maxSize)
	}
	temp := f.path + ".new"
	err := f.fs.write(temp, raw)
	if err == nil {
		err = f.fs.rename(temp, f.path)
	}
	if err != nil {
		_ = f.fs.remove(temp) // it would be overwritten the next time anyway
		return fmt.Errorf("aptpl: %w", err)
	}
	if err := f.fs.syncDir(f.path); err != nil {
		return fmt.Errorf("aptpl: %w", err)
	}
	return nil
}

package config

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// minBlock is the least logical block length, which every size is a multiple of.
const minBlock = 512

func (k *checker) backends() {
	names, paths := seen{}, seen{}
	for i := range k.Backends {
		b := &k.Backends[i]
		k.identifier("a backend", b.Name, b.At("name"))
		k.once(names, "backend", b.Ref().String(), b.At("name"))
		switch {
		case b.File != nil:
			f := b.File
			if f.good("path") && f.Path != "" {
				k.once(paths, "path", filepath.Clean(f.Path), f.At("path"))
				k.file(f)
			}
			k.wholeBlocks(&f.Source, f.Size)
		case b.Block != nil:
			d := b.Block
			if d.good("path") && d.Path != "" {
				k.once(paths, "path", filepath.Clean(d.Path), d.At("path"))
				k.device(d)
			}
		case b.Memory != nil:
			k.wholeBlocks(&b.Memory.Source, b.Memory.Size)
		case b.Null != nil:
			k.wholeBlocks(&b.Null.Source, b.Null.Size)
		}
	}
}

func (k *checker) wholeBlocks(s *Source, size int64) {
	if s.good("size") && size%minBlock != 0 {
		k.errorf(s.At("size"), "Invalid size", "The size is a multiple of %d bytes; this is %s.", minBlock, FormatSize(size))
	}
}

// file checks the arguments of a file backend against each other and the host.
func (k *checker) file(f *FileBackend) {
	if f.Create && f.ReadOnly {
		k.errorf(f.At("create"), "Create and read_only", "A file that is opened for reading only cannot be created.")
		return
	}
	if f.Create && !f.Has("size") {
		k.errorf(f.At("create"), "Missing size", "With create = true the file needs a size, such as size = \"40GiB\".")
		return
	}
	info, err := k.host.Stat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.Create:
		k.parent(f)
	case errors.Is(err, fs.ErrNotExist):
		k.errorf(f.At("path"), "No such file", "The file %s does not exist. Set create = true and a size to have it made.", f.Path)
	case err != nil:
		k.errorf(f.At("path"), "Cannot use the file", "%v.", err)
	case info.IsDir():
		k.errorf(f.At("path"), "Not a file", "%s is a directory.", f.Path)
	case info.Mode()&fs.ModeDevice != 0:
		k.errorf(f.At("path"), "Not a file", "%s is a device. Use backend \"block\" for it.", f.Path)
	case !info.Mode().IsRegular():
		k.errorf(f.At("path"), "Not a file", "%s is not a regular file.", f.Path)
	case f.good("size") && f.Create && f.Size >= info.Size():
		// It is grown when it is opened.
	case f.good("size") && f.Has("size") && f.Size != info.Size():
		k.errorf(f.At("size"), "Size mismatch", "%s has %s (%d bytes), and the configuration says %s. Leave size out to take the file's own; create = true lets it grow.",
			f.Path, FormatSize(info.Size()), info.Size(), FormatSize(f.Size))
	case info.Size() == 0:
		k.errorf(f.At("path"), "Empty file", "The file %s is empty, and there is no size to make it.", f.Path)
	case info.Size()%minBlock != 0:
		k.errorf(f.At("path"), "Invalid size", "The file %s has %d bytes, which is not a multiple of %d.", f.Path, info.Size(), minBlock)
	}
}

// parent checks the directory in which a file is to be created.
func (k *checker) parent(f *FileBackend) {
	dir := filepath.Dir(f.Path)
	info, err := k.host.Stat(dir)
	if err != nil || !info.IsDir() {
		k.errorf(f.At("path"), "No such directory", "The file cannot be created: there is no directory %s.", dir)
	}
}

func (k *checker) device(d *BlockBackend) {
	info, err := k.host.Stat(d.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.errorf(d.At("path"), "No such device", "The device %s does not exist.", d.Path)
	case err != nil:
		k.errorf(d.At("path"), "Cannot use the device", "%v.", err)
	case info.Mode().IsRegular():
		k.errorf(d.At("path"), "Not a block device", "%s is a file. Use backend \"file\" for it.", d.Path)
	case info.Mode()&fs.ModeDevice == 0 || info.Mode()&fs.ModeCharDevice != 0:
		k.errorf(d.At("path"), "Not a block device", "%s is not a block device.", d.Path)
	}
}

// sizeOf returns the size of b's store in bytes, and whether it is known before
// the store is opened.
func (k *checker) sizeOf(b *Backend) (int64, bool) {
	if n := b.Size(); n > 0 {
		return n, true
	}
	if b.File == nil || b.File.Path == "" {
		return 0, false
	}
	info, err := k.host.Stat(b.File.Path)
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	return info.Size(), true
}

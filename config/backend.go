package config

// BackendKind is the first label of a backend block.
type BackendKind string

// The backend kinds.
const (
	BackendFile   BackendKind = "file"
	BackendBlock  BackendKind = "block"
	BackendMemory BackendKind = "memory"
	BackendNull   BackendKind = "null"
)

// BackendRef is a reference to a backend block, written backend.KIND.NAME.
type BackendRef struct {
	Kind BackendKind
	Name string
}

// String returns the reference as it is written.
func (r BackendRef) String() string { return "backend." + string(r.Kind) + "." + r.Name }

// Backend is the store behind a logical unit. Exactly one of File, Block,
// Memory and Null is set, as Kind says.
type Backend struct {
	Source
	// Kind is `file`, `block`, `memory` or `null`.
	Kind BackendKind `hcl:"kind,label"`
	// Name is what a lun refers to: `backend.KIND.NAME`.
	Name string `hcl:"name,label"`

	File   *FileBackend
	Block  *BlockBackend
	Memory *MemoryBackend
	Null   *NullBackend
}

// Ref returns the reference to b.
func (b *Backend) Ref() BackendRef { return BackendRef{Kind: b.Kind, Name: b.Name} }

// Size returns the configured size in bytes; 0 when the store itself tells it.
func (b *Backend) Size() int64 {
	switch {
	case b.File != nil:
		return b.File.Size
	case b.Memory != nil:
		return b.Memory.Size
	case b.Null != nil:
		return b.Null.Size
	default:
		return 0
	}
}

// body returns what the block's arguments are decoded into, by its kind, and
// the name of that place in the reference; nil when the kind is unknown.
func (b *Backend) body() (any, string) {
	switch b.Kind {
	case BackendFile:
		b.File = new(FileBackend)
		return b.File, "backend.file"
	case BackendBlock:
		b.Block = new(BlockBackend)
		return b.Block, "backend.block"
	case BackendMemory:
		b.Memory = new(MemoryBackend)
		return b.Memory, "backend.memory"
	case BackendNull:
		b.Null = new(NullBackend)
		return b.Null, "backend.null"
	default:
		return nil, ""
	}
}

// FileBackend is a regular file.
type FileBackend struct {
	Source
	// Path is that of the file, absolute.
	Path string `hcl:"path" kind:"path"`
	// Size is that of the file. With `create` it is needed, and a smaller file grows to
	// it; otherwise it must agree with the file's own.
	Size int64 `hcl:"size,optional" kind:"size" min:"4KiB" max:"4EiB"`
	// Create: make the file, sparse, when it does not exist.
	Create bool `hcl:"create,optional" default:"false"`
	// DirectIO: bypass the page cache (O_DIRECT).
	DirectIO bool `hcl:"direct_io,optional" default:"false"`
	// ReadOnly: open the file for reading only.
	ReadOnly bool `hcl:"read_only,optional" default:"false"`
}

// BlockBackend is a block device of the host.
type BlockBackend struct {
	Source
	// Path is that of the device, absolute; names under /dev/disk/by-id stay the same
	// when the host is restarted.
	Path string `hcl:"path" kind:"path"`
	// DirectIO: bypass the page cache (O_DIRECT).
	DirectIO bool `hcl:"direct_io,optional" default:"true"`
	// ReadOnly: open the device for reading only.
	ReadOnly bool `hcl:"read_only,optional" default:"false"`
}

// MemoryBackend is memory of the daemon, and lost with it.
type MemoryBackend struct {
	Source
	// Size is that of the store; memory is taken only for what was written.
	Size int64 `hcl:"size" kind:"size" min:"4KiB" max:"16TiB"`
	// Pin: take all of the memory at once and for good, unmapped blocks included.
	// RDMA adapters then know all of it from its first use on, in place of parts as
	// they fill up.
	Pin bool `hcl:"pin,optional" default:"false"`
}

// NullBackend is nothing: it reads as zeros and drops what is written. For
// measurements.
type NullBackend struct {
	Source
	// Size is what is reported.
	Size int64 `hcl:"size" kind:"size" min:"4KiB" max:"4EiB"`
}

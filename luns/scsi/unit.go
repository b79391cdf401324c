package scsi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/iserd/iserd/luns"
)

// ErrFenced is returned by Port.Revoke if commands are still using the unit.
var ErrFenced = errors.New("scsi: commands still use the revoked logical unit")

// TMF is a set of task management functions, as REPORT SUPPORTED TASK
// MANAGEMENT FUNCTIONS tells them: the first two bytes of its data, SPC-5 6.37.
type TMF uint16

// Task management functions.
const (
	TMFAbortTask        TMF = 0x8000
	TMFAbortTaskSet     TMF = 0x4000
	TMFClearACA         TMF = 0x2000
	TMFClearTaskSet     TMF = 0x1000
	TMFLogicalUnitReset TMF = 0x0800
	TMFQueryTask        TMF = 0x0400
	TMFQueryAsyncEvent  TMF = 0x0004
	TMFQueryTaskSet     TMF = 0x0002
	TMFNexusReset       TMF = 0x0001

	// TMF7144 are those that iSCSI has with iSCSIProtocolLevel 2, RFC 7144.
	TMF7144 = TMFQueryTask | TMFQueryAsyncEvent | TMFQueryTaskSet | TMFNexusReset
)

// Config is what a logical unit says about itself and how it behaves.
type Config struct {
	Vendor   string // T10 vendor identification, up to 8 printable ASCII characters
	Product  string // product identification, up to 16
	Revision string // product revision level, up to 4
	Serial   string // unit serial number, up to 64; required
	NAA      uint64 // NAA identifier (types 2, 3, 5), VPD page 83h; 0 leaves it out

	// BlockSize is the logical block length in bytes: 512 (the default) or
	// 4096.
	BlockSize int
	// PhysicalBlockExponent is the log2 of logical blocks per physical
	// block; 0 derives it from the backend.
	PhysicalBlockExponent uint8

	ReadOnly bool // WRITE PROTECT for every initiator
	Thin     bool // announce logical block provisioning; needs a luns.Unmapper
	// ThinThreshold is the part of the backend's capacity, in percent, whose
	// use makes THIN PROVISIONING SOFT THRESHOLD REACHED known to initiators.
	// It needs Thin and a luns.ResourceCounter; 0 is none.
	ThinThreshold int

	Removable bool // RMB: the medium can be ejected with START STOP UNIT
	// WriteCache is the initial WCE bit. It has effect only if the backend
	// has a volatile cache; initiators can change it then. With WCE zero
	// every write is durable before its status.
	WriteCache bool

	// MaxTransferLength is the most blocks that one READ, WRITE or VERIFY may
	// move. 0 means 16 MiB worth of blocks.
	MaxTransferLength uint32

	// TMF is what the transport engine implements. 0 means ABORT TASK, ABORT
	// TASK SET, CLEAR TASK SET and LOGICAL UNIT RESET.
	TMF TMF

	// Store keeps persistent reservations over a restart (APTPL, SPC-5
	// 5.14.5). nil refuses APTPL.
	Store Store

	// Workers bounds the goroutines that wait for the backend; 0 means 32.
	Workers int
	// Spawn starts a goroutine for f; nil uses a go statement.
	Spawn func(f func())
	// Report is told every command that failed in the backend, on the
	// goroutine of the command; it must not block. nil drops it.
	Report func(*Error)
	// Threshold is told the bytes in use, and all of them, when ThinThreshold
	// is reached. nil drops it.
	Threshold func(used, total int64)
}

// Limits of the commands that are not bound by MaxTransferLength.
const (
	defaultMaxTransfer = 16 << 20  // bytes
	maxCompareBlocks   = 255       // COMPARE AND WRITE: the width of its field
	maxUnmapBlocks     = 1 << 20   // one UNMAP command
	maxUnmapDescs      = 256       // block descriptors of one UNMAP command
	maxWriteSameBlocks = 32 << 10  // one WRITE SAME command
	chunkBytes         = 1 << 20   // locked at once by WRITE SAME, and read at once by VERIFY
	unmapChunkBytes    = 1 << 30   // locked at once by UNMAP
	inlineBytes        = 128 << 10 // the most that commands other than READ and WRITE do inline
)

// caps are properties of a unit that dispatch table entries may need.
type caps uint8

const (
	capUnmap caps = 1 << iota
	capExtents
	capAtomic
	capResources
	capThreshold
)

// Unit is one incarnation of a logical unit over an open backend. All methods
// are safe for concurrent use.
type Unit struct {
	cfg     Config
	table   *[256]*group
	caps    caps
	backend luns.Backend
	mapper  luns.Mapper
	trier   luns.Trier
	unmap   luns.Unmapper
	zero    luns.Zeroer
	extents luns.Extenter

	info       luns.Info
	blockSize  int64
	blockShift uint
	physExp    uint8
	readOnly   bool
	volatile   bool // the backend has a volatile cache
	maxBlocks  uint64

	atomicBlocks uint64               // MAXIMUM ATOMIC TRANSFER LENGTH
	resources    luns.ResourceCounter // nil if not known
	watch        *thinWatch           // nil without a threshold

	capacity        atomic.Uint64 // logical blocks
	descriptorSense atomic.Bool   // D_SENSE
	writeCache      atomic.Bool   // WCE
	softProtect     atomic.Bool   // SWP
	taskAborted     atomic.Bool   // TAS
	ejected         atomic.Bool

	ctx     context.Context // for backend calls; ends with Close
	cancel  context.CancelFunc
	locks   rangeLock
	workers *workers
	chunks  sync.Pool // of *[]byte, chunkBytes long

	// refs is 2 × the commands using the unit, + 1 once it is closing.
	refs    atomic.Int64
	drained chan struct{} // closed when closing and unused
	once    sync.Once
}

// NewUnit returns a logical unit over b. It borrows b: the caller closes it
// after Port.Revoke has returned nil and Close has been called. It fails if
// configuration and backend do not fit together.
func NewUnit(cfg Config, b luns.Backend) (*Unit, error) {
	info := b.Info()
	if err := cfg.complete(info); err != nil {
		return nil, err
	}
	u := &Unit{
		cfg: cfg, table: dispatch(), backend: b, info: info,
		blockSize:  int64(cfg.BlockSize),
		blockShift: shiftOf(int64(cfg.BlockSize)),
		physExp:    cfg.PhysicalBlockExponent,
		readOnly:   cfg.ReadOnly || info.ReadOnly,
		volatile:   info.VolatileCache,
		maxBlocks:  uint64(cfg.MaxTransferLength),
		drained:    make(chan struct{}),
	}
	u.mapper, _ = luns.As[luns.Mapper](b)
	u.trier, _ = luns.As[luns.Trier](b)
	u.zero, _ = luns.As[luns.Zeroer](b)
	if x, ok := luns.As[luns.Extenter](b); ok {
		u.extents, u.caps = x, u.caps|capExtents
	}
	if cfg.Thin {
		x, ok := luns.As[luns.Unmapper](b)
		if !ok {
			return nil, errors.New("scsi: thin provisioning needs a backend that can unmap")
		}
		u.unmap, u.caps = x, u.caps|capUnmap
	}
	if u.atomicBlocks = u.atomicLimit(); u.atomicBlocks > 0 {
		u.caps |= capAtomic
	}
	if err := u.watchThin(); err != nil {
		return nil, err
	}
	u.chunks.New = func() any { p := make([]byte, chunkBytes); return &p }
	u.capacity.Store(uint64(info.Size) >> u.blockShift)
	u.resetModes()
	u.ctx, u.cancel = context.WithCancel(context.Background())
	u.workers = newWorkers(cfg.Workers, cfg.Spawn)
	return u, nil
}

// complete checks c against the backend and fills in defaults.
func (c *Config) complete(info luns.Info) error {
	if c.BlockSize == 0 {
		c.BlockSize = 512
	}
	bs := int64(c.BlockSize)
	switch {
	case bs != 512 && bs != 4096:
		return fmt.Errorf("scsi: block size %d is neither 512 nor 4096", bs)
	case info.BlockSize > 1 && bs%int64(info.BlockSize) != 0:
		return fmt.Errorf("scsi: block size %d is not a multiple of the backend's %d", bs, info.BlockSize)
	case info.Size < bs:
		return fmt.Errorf("scsi: backend of %d bytes is smaller than a block", info.Size)
	case info.Size%bs != 0:
		return fmt.Errorf("scsi: size %d of the backend is not a multiple of the block size %d", info.Size, bs)
	case c.PhysicalBlockExponent > 15:
		return fmt.Errorf("scsi: physical block exponent %d exceeds 15", c.PhysicalBlockExponent)
	}
	for _, f := range []struct {
		name, value string
		max         int
	}{{"vendor", c.Vendor, 8}, {"product", c.Product, 16}, {"revision", c.Revision, 4}, {"serial", c.Serial, 64}} {
		if err := checkASCII(f.name, f.value, f.max); err != nil {
			return err
		}
	}
	if c.Serial == "" {
		return errors.New("scsi: a logical unit needs a serial number")
	}
	switch c.NAA >> 60 {
	case 2, 3, 5:
	case 0:
		if c.NAA == 0 {
			break
		}
		fallthrough
	default:
		return fmt.Errorf("scsi: NAA identifier %#x is not of type 2, 3 or 5", c.NAA)
	}
	c.defaults(info)
	if int64(c.MaxTransferLength) > math.MaxInt32/bs {
		return fmt.Errorf("scsi: maximum transfer length of %d blocks exceeds 2 GiB", c.MaxTransferLength)
	}
	return nil
}

func (c *Config) defaults(info luns.Info) {
	if c.MaxTransferLength == 0 {
		c.MaxTransferLength = uint32(defaultMaxTransfer / c.BlockSize)
	}
	if c.PhysicalBlockExponent == 0 {
		for n := c.BlockSize * 2; n <= info.PhysicalBlockSize && c.PhysicalBlockExponent < 15; n *= 2 {
			c.PhysicalBlockExponent++
		}
	}
	if c.TMF == 0 {
		c.TMF = TMFAbortTask | TMFAbortTaskSet | TMFClearTaskSet | TMFLogicalUnitReset
	}
	if c.Workers <= 0 {
		c.Workers = 32
	}
	if c.Spawn == nil {
		c.Spawn = func(f func()) { go f() }
	}
}

// checkASCII enforces ASCII printable characters, SPC-5 4.3.1.
func checkASCII(name, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("scsi: %s %q is longer than %d characters", name, s, most)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7E }); i >= 0 {
		return fmt.Errorf("scsi: %s %q has a character that is not printable ASCII", name, s)
	}
	return nil
}

func shiftOf(n int64) (s uint) {
	for n > 1 {
		n >>= 1
		s++
	}
	return s
}

// Config returns the configuration with its defaults filled in.
func (u *Unit) Config() Config { return u.cfg }

// BlockSize returns the logical block length in bytes.
func (u *Unit) BlockSize() int { return u.cfg.BlockSize }

// Capacity returns the number of logical blocks.
func (u *Unit) Capacity() uint64 { return u.capacity.Load() }

// ReadOnly reports whether writes are refused for every initiator.
func (u *Unit) ReadOnly() bool { return u.readOnly }

// Inflight returns the number of commands that use the unit at this moment.
func (u *Unit) Inflight() int { return int(u.refs.Load() >> 1) }

// Resized takes over the size the backend has now. It returns true if the
// capacity has changed; the caller then establishes AttentionCapacityChanged on
// the port. It is for growing: before shrinking, the owner revokes the unit.
func (u *Unit) Resized() (changed bool, err error) {
	size := u.backend.Info().Size
	if size < u.blockSize || size%u.blockSize != 0 {
		return false, fmt.Errorf("scsi: size %d of the backend is not a multiple of the block size %d", size, u.blockSize)
	}
	blocks := uint64(size) >> u.blockShift
	return u.capacity.Swap(blocks) != blocks, nil
}

// Close ends the workers of a revoked unit and cancels the context of backend
// calls. It does not wait for calls that hang, and does not close the backend.
func (u *Unit) Close() {
	u.startClosing()
	u.cancel()
	u.workers.flush()
	u.workers.close()
}

// enter counts a command in, unless the unit is closing.
func (u *Unit) enter() bool {
	if u.refs.Add(2)&1 == 0 {
		return true
	}
	u.leave()
	return false
}

func (u *Unit) leave() {
	if u.refs.Add(-2) == 1 {
		u.once.Do(func() { close(u.drained) })
	}
}

func (u *Unit) closing() bool { return u.refs.Load()&1 != 0 }

func (u *Unit) startClosing() {
	if u.refs.Or(1) == 0 {
		u.once.Do(func() { close(u.drained) })
	}
	u.locks.cancelAll()
}

// drain refuses new commands, ends those that wait, and waits for the rest.
func (u *Unit) drain(ctx context.Context) error {
	u.startClosing()
	u.workers.flush()
	select {
	case <-u.drained:
		return nil
	default:
	}
	select {
	case <-u.drained:
		return nil
	case <-ctx.Done():
		return ErrFenced
	}
}

// writeFlags returns how a write has to be done: with FUA if the CDB says so
// or there is no (enabled) write cache, SBC-4 6.5.6. A backend without
// volatile cache needs no flag.
func (u *Unit) writeFlags(f cdbFlags) luns.Flags {
	if u.volatile && (f&flagFUA != 0 || !u.writeCache.Load()) {
		return luns.FUA
	}
	return 0
}

package scsi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a backend in memory whose capabilities and failures a test chooses.
type fake struct {
	mu    sync.Mutex
	mem   []byte
	info  luns.Info
	alloc map[int64]bool // 512-byte sectors written since they were unmapped
	log   []string

	mapper, trier bool
	// hook, if set, is called before each operation without the lock; its
	// error fails the operation.
	hook func(op string, off, n int64) error
}

func newFake(size int64) *fake {
	return &fake{
		mem:   make([]byte, size),
		info:  luns.Info{Size: size, BlockSize: 1, VolatileCache: true, Thin: true, UnmapZeroes: true, UnmapGranularity: 4096},
		alloc: map[int64]bool{},
	}
}

func (f *fake) As(target any) bool {
	switch t := target.(type) {
	case *luns.Mapper:
		if !f.mapper {
			return false
		}
		*t = f
	case *luns.Trier:
		if !f.trier {
			return false
		}
		*t = f
	case *luns.Unmapper:
		*t = f
	case *luns.Zeroer:
		*t = f
	case *luns.Extenter:
		*t = f
	default:
		return false
	}
	return true
}

func (f *fake) Info() luns.Info { return f.info }
func (f *fake) Close() error    { return nil }
func (f *fake) Memory() []byte  { return f.mem }

func (f *fake) begin(op string, off, n int64) error {
	if f.hook != nil {
		if err := f.hook(op, off, n); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.log = append(f.log, op)
	return nil
}

func (f *fake) touch(off, n int64, written bool) {
	for s := off / 512; s < (off+n+511)/512; s++ {
		if written {
			f.alloc[s] = true
		} else {
			delete(f.alloc, s)
		}
	}
}

func (f *fake) ReadAt(_ context.Context, p []byte, off int64) error {
	if err := f.begin("read", off, int64(len(p))); err != nil {
		return err
	}
	defer f.mu.Unlock()
	copy(p, f.mem[off:off+int64(len(p))])
	return nil
}

func (f *fake) WriteAt(_ context.Context, p []byte, off int64, flags luns.Flags) error {
	op := "write"
	if flags&luns.FUA != 0 {
		op = "write fua"
	}
	if err := f.begin(op, off, int64(len(p))); err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.touch(off, int64(len(p)), true)
	copy(f.mem[off:off+int64(len(p))], p)
	return nil
}

func (f *fake) TryReadAt(p []byte, off int64) (bool, error) {
	return true, f.ReadAt(context.Background(), p, off)
}

func (f *fake) TryWriteAt(p []byte, off int64, flags luns.Flags) (bool, error) {
	if flags != 0 {
		// As a real one might: a part is stored, the rest has to wait.
		copy(f.mem[off:off+int64(len(p)/2)], p)
		return false, nil
	}
	return true, f.WriteAt(context.Background(), p, off, flags)
}

func (f *fake) Flush(context.Context) error {
	if err := f.begin("flush", 0, 0); err != nil {
		return err
	}
	defer f.mu.Unlock()
	return nil
}

func (f *fake) Unmap(_ context.Context, off, n int64) error {
	if err := f.begin("unmap", off, n); err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.touch(off, n, false)
	clear(f.mem[off : off+n])
	return nil
}

func (f *fake) WriteZeroes(_ context.Context, off, n int64, mayUnmap bool, _ luns.Flags) error {
	if err := f.begin("zero", off, n); err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.touch(off, n, !mayUnmap)
	clear(f.mem[off : off+n])
	return nil
}

func (f *fake) Extents(_ context.Context, off, n int64) iter.Seq2[luns.Extent, error] {
	return func(yield func(luns.Extent, error) bool) {
		if err := f.begin("extents", off, n); err != nil {
			yield(luns.Extent{}, err)
			return
		}
		defer f.mu.Unlock()
		for ; n > 0; off, n = off+512, n-512 {
			x := luns.Extent{Off: off, Len: 512, State: luns.Deallocated}
			if f.alloc[off/512] {
				x.State = luns.Mapped
			}
			if !yield(x, nil) {
				return
			}
		}
	}
}

var baseConfig = scsi.Config{
	Vendor: "ISERD", Product: "DISK", Revision: "1.0", Serial: "0123456789abcdef",
	NAA: 0x3123456789ABCDEF, Thin: true, WriteCache: true,
}

var testITN = &scsi.ITNexus{
	InitiatorName: "iqn.2024-01.org.example:host", ISID: [6]byte{0x40, 1, 2, 3, 4, 5},
	TargetName: "iqn.2024-01.org.example:disk", RelativePort: 2, PortalGroupTag: 1,
}

// rig is a logical unit with one nexus whose first unit attention is gone.
type rig struct {
	tb    testing.TB
	b     luns.Backend
	port  *scsi.Port
	unit  *scsi.Unit
	nexus *scsi.Nexus
}

func newRig(tb testing.TB, cfg scsi.Config, b luns.Backend) *rig {
	tb.Helper()
	u, err := scsi.NewUnit(cfg, b)
	if err != nil {
		tb.Fatal(err)
	}
	r := &rig{tb: tb, b: b, port: scsi.NewPort(), unit: u}
	r.port.Publish(u)
	r.nexus = r.attach()
	tb.Cleanup(func() {
		r.nexus.Detach()
		if err := r.port.Revoke(context.Background()); err != nil {
			tb.Error(err)
		}
		u.Close()
	})
	return r
}

func (r *rig) attach() *scsi.Nexus {
	n := r.port.Attach(testITN)
	drainAttentions(r.tb, n)
	return n
}

func drainAttentions(tb testing.TB, n *scsi.Nexus) {
	for n.Pending() {
		if got := run(tb, n, []byte{3, 0, 0, 0, 18, 0}, nil); got.status != scsi.Good {
			tb.Fatalf("REQUEST SENSE: %v", got)
		}
	}
}

// result is what an initiator would see.
type result struct {
	status scsi.Status
	sense  []byte
	in     []byte
	outLen int
}

func (r result) String() string {
	return fmt.Sprintf("%v sense %x in %d bytes", r.status, r.sense, len(r.in))
}

// key returns sense key and ASC of either format.
func (r result) key() (scsi.SenseKey, scsi.ASC) {
	if len(r.sense) < 4 {
		return 0, 0
	}
	if r.sense[0]&0x7F == 0x72 {
		return scsi.SenseKey(r.sense[1] & 0xF), scsi.ASC(binary.BigEndian.Uint16(r.sense[2:]))
	}
	return scsi.SenseKey(r.sense[2] & 0xF), scsi.ASC(binary.BigEndian.Uint16(r.sense[12:]))
}

// unknown reports whether the unit does not have the command: its operation code
// or, told by a field pointer, its service action.
func (r result) unknown() bool {
	_, asc := r.key()
	return asc == scsi.InvalidOperationCode ||
		asc == scsi.InvalidFieldInCDB && bytes.Equal(r.sense[15:18], []byte{0xCC, 0, 1})
}

// run performs a command as an engine would, and checks what must always hold.
func run(tb testing.TB, n *scsi.Nexus, cdb, out []byte) result {
	tb.Helper()
	done := make(chan struct{}, 1)
	c := &scsi.Command{Nexus: n, Done: func(*scsi.Command) { done <- struct{}{} }}
	return runWith(tb, c, done, cdb, out)
}

func runWith(tb testing.TB, c *scsi.Command, done chan struct{}, cdb, out []byte) result {
	tb.Helper()
	c.Reset()
	c.CDB = cdb16(cdb)
	if c.Decode() {
		c.Out = out[:min(len(out), c.OutLen)]
		if c.NeedBuf > 0 {
			c.Buf = bytes.Repeat([]byte{0xA5}, c.NeedBuf)
		}
		if !c.TryExec() {
			c.Submit()
			<-done
		}
	}
	r := result{status: c.Status, sense: bytes.Clone(c.Sense), in: bytes.Clone(c.In), outLen: c.OutLen}
	if len(c.In) > c.InLen {
		tb.Errorf("% x: %d bytes of data-in, InLen %d", cdb, len(c.In), c.InLen)
	}
	if err := checkSense(r); err != nil {
		tb.Errorf("% x: %v", cdb, err)
	}
	c.Release()
	c.Release() // idempotent
	return r
}

// checkSense checks that status, sense and data-in agree and the sense is well
// formed.
func checkSense(r result) error {
	if r.status != scsi.CheckCondition {
		if r.sense != nil {
			return fmt.Errorf("status %v with sense %x", r.status, r.sense)
		}
		return nil
	}
	if len(r.in) != 0 {
		return fmt.Errorf("CHECK CONDITION with %d bytes of data-in", len(r.in))
	}
	switch {
	case len(r.sense) < 8:
		return fmt.Errorf("short sense %x", r.sense)
	case len(r.sense) != 8+int(r.sense[7]):
		return fmt.Errorf("sense length %d, ADDITIONAL SENSE LENGTH %d", len(r.sense), r.sense[7])
	case r.sense[0]&0x7F != 0x70 && r.sense[0] != 0x72:
		return fmt.Errorf("response code %#x", r.sense[0])
	}
	if k, a := r.key(); k == 0 || a == 0 {
		return fmt.Errorf("no sense key in %x", r.sense)
	}
	return nil
}

// cdb16 pads as iSCSI does.
func cdb16(cdb []byte) []byte {
	if len(cdb) >= 16 {
		return cdb
	}
	p := make([]byte, 16)
	copy(p, cdb)
	return p
}

func (r *rig) do(cdb, out []byte) result { r.tb.Helper(); return run(r.tb, r.nexus, cdb, out) }

// good performs a command that must succeed and returns its data-in.
func (r *rig) good(cdb, out []byte) []byte {
	r.tb.Helper()
	got := r.do(cdb, out)
	if got.status != scsi.Good {
		r.tb.Fatalf("% x: %v", cdb, got)
	}
	return got.in
}

// bad performs a command that must fail with the given sense.
func (r *rig) bad(cdb, out []byte, key scsi.SenseKey, asc scsi.ASC) result {
	r.tb.Helper()
	got := r.do(cdb, out)
	if k, a := got.key(); got.status != scsi.CheckCondition || k != key || a != asc {
		r.tb.Errorf("% x: got %v, want %v %v", cdb, got, key, asc)
	}
	return got
}

// CDBs.

func rw10(op byte, lba uint32, n uint16) []byte {
	b := make([]byte, 10)
	b[0] = op
	binary.BigEndian.PutUint32(b[2:], lba)
	binary.BigEndian.PutUint16(b[7:], n)
	return b
}

func rw16(op byte, lba uint64, n uint32) []byte {
	b := make([]byte, 16)
	b[0] = op
	binary.BigEndian.PutUint64(b[2:], lba)
	binary.BigEndian.PutUint32(b[10:], n)
	return b
}

func caw(lba uint64, n byte) []byte {
	b := rw16(0x89, lba, 0)
	b[13] = n
	return b
}

func with(cdb []byte, i int, bits byte) []byte {
	b := bytes.Clone(cdb)
	b[i] |= bits
	return b
}

func unmapCmd(lens ...uint64) (cdb, list []byte) {
	list = make([]byte, 8)
	for i := 0; i < len(lens); i += 2 {
		list = binary.BigEndian.AppendUint64(list, lens[i])
		list = binary.BigEndian.AppendUint32(list, uint32(lens[i+1]))
		list = append(list, 0, 0, 0, 0)
	}
	binary.BigEndian.PutUint16(list, uint16(len(list)-2))
	binary.BigEndian.PutUint16(list[2:], uint16(len(list)-8))
	cdb = make([]byte, 10)
	cdb[0] = 0x42
	binary.BigEndian.PutUint16(cdb[7:], uint16(len(list)))
	return cdb, list
}

func fill(n int, x byte) []byte { return bytes.Repeat([]byte{x}, n) }

// backends are the ways a backend can serve: mapped memory, page cache, and
// calls that block.
var backends = map[string]func(*fake){
	"mapped": func(f *fake) { f.mapper = true },
	"trier":  func(f *fake) { f.trier = true },
	"plain":  func(*fake) {},
}

func onEach(t *testing.T, size int64, cfg scsi.Config, f func(t *testing.T, r *rig, b *fake)) {
	for name, set := range backends {
		t.Run(name, func(t *testing.T) {
			b := newFake(size)
			set(b)
			f(t, newRig(t, cfg, b), b)
		})
	}
}

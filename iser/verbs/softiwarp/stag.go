package softiwarp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/iserd/iserd/iser/verbs"
)

// region is what a steering tag stands for. Immutable.
type region struct {
	stag uint32
	acc  verbs.Access
	base uint64
	mem  []byte
	qp   *QP // of a window: the only stream that may use it
	mr   *MR // of a window: the region that it is bound to
}

// at returns n bytes from address addr, or nil when they are not all in the
// region. n > 0.
func (r *region) at(addr uint64, n int) []byte {
	off := addr - r.base
	if off >= uint64(len(r.mem)) || uint64(n) > uint64(len(r.mem))-off {
		return nil
	}
	return r.mem[off : off+uint64(n) : off+uint64(n)]
}

// The table of steering tags: 24 bits of index, 12 for each of two levels, and
// 8 bits of key.
const (
	stagKeyBits   = 8
	stagLeafBits  = 12
	stagLeafSize  = 1 << stagLeafBits
	stagRootSize  = 1 << (24 - stagLeafBits)
	stagIndexSize = stagRootSize * stagLeafSize
)

type stagLeaf struct {
	region [stagLeafSize]atomic.Pointer[region]
	key    [stagLeafSize]uint8 // last used; guarded by stagTable.mu
}

// stagTable finds regions by steering tag. Lookups take no lock; a region that
// was removed may be in use until device.eachCQ has passed.
type stagTable struct {
	root [stagRootSize]atomic.Pointer[stagLeaf]

	mu   sync.Mutex
	next uint32
	free []uint32 // indices, used in the order in which they were freed
	used int
}

// init starts at a random index, so that tags of one run are not those of the
// next one. Index 0 is never used.
func (t *stagTable) init() { t.next = randomUint32() % stagIndexSize }

// lookup returns the region of stag, or nil.
func (t *stagTable) lookup(stag uint32) *region {
	index := stag >> stagKeyBits
	leaf := t.root[index>>stagLeafBits].Load()
	if leaf == nil {
		return nil
	}
	r := leaf.region[index%stagLeafSize].Load()
	if r == nil || r.stag != stag || (r.mr != nil && r.mr.closed.Load()) {
		return nil
	}
	return r
}

var errNoSTag = errors.New("softiwarp: no steering tag is free")

// keepFree is how many freed indices wait before one is used again, so that a
// tag comes back as late as possible.
const keepFree = 1024

// alloc takes an index.
func (t *stagTable) alloc() (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used >= stagIndexSize-1 {
		return 0, errNoSTag
	}
	t.used++
	if len(t.free) > keepFree || t.used+len(t.free) >= stagIndexSize {
		index := t.free[0]
		t.free = t.free[1:]
		return index, nil
	}
	t.next++
	if t.next%stagIndexSize == 0 {
		t.next++
	}
	index := t.next % stagIndexSize
	root := &t.root[index>>stagLeafBits]
	if root.Load() == nil {
		leaf := &stagLeaf{}
		_, _ = rand.Read(leaf.key[:]) // never fails
		root.Store(leaf)
	}
	return index, nil
}

// newTag makes the next tag of an index.
func (t *stagTable) newTag(index uint32) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := &t.root[index>>stagLeafBits].Load().key[index%stagLeafSize]
	*key++
	return index<<stagKeyBits | uint32(*key)
}

func (t *stagTable) set(index uint32, r *region) {
	t.root[index>>stagLeafBits].Load().region[index%stagLeafSize].Store(r)
}

func (t *stagTable) release(index uint32) {
	t.set(index, nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used--
	t.free = append(t.free, index)
}

// local returns the memory of an SGE from offset off, n bytes, for access acc,
// or nil when the region does not have or allow it.
func (t *stagTable) local(s *verbs.SGE, off uint32, n int, acc verbs.Access) []byte {
	r := t.lookup(s.LKey)
	if r == nil || r.mr != nil || r.acc&acc != acc {
		return nil
	}
	return r.at(s.Addr+uint64(off), n)
}

// remote checks an access by the peer of q to n bytes, n > 0, and returns the
// memory. The checks are those of RFC 5040 section 5.? in its order; the fault
// is one of layer RDMAP.
func (t *stagTable) remote(q *QP, stag uint32, to uint64, n int, acc verbs.Access) ([]byte, fault) {
	r := t.lookup(stag)
	if r == nil {
		return nil, faultSTag
	}
	if r.qp != nil && r.qp != q {
		return nil, faultSTagStream
	}
	if r.acc&acc != acc {
		return nil, faultAccess
	}
	if to+uint64(n) < to {
		return nil, faultTOWrap
	}
	mem := r.at(to, n)
	if mem == nil {
		return nil, faultBounds
	}
	return mem, noFault
}

// MR is a memory region.
type MR struct {
	dev    *Device
	index  uint32
	region *region
	closed atomic.Bool
}

var _ verbs.MR = (*MR)(nil)

const allAccess = verbs.AccessLocalWrite | verbs.AccessRemoteWrite | verbs.AccessRemoteRead |
	verbs.AccessBind | verbs.AccessOnDemand

// Register implements verbs.Device. No page is pinned or touched.
func (d *Device) Register(mem []byte, acc verbs.Access) (verbs.MR, error) {
	if len(mem) == 0 {
		return nil, errors.New("softiwarp: register no memory")
	}
	if acc&^allAccess != 0 {
		return nil, fmt.Errorf("softiwarp: register with access %#x: %w", uint32(acc), errors.ErrUnsupported)
	}
	if acc&verbs.AccessRemoteWrite != 0 && acc&verbs.AccessLocalWrite == 0 {
		return nil, errors.New("softiwarp: remote write access needs local write access")
	}
	index, err := d.stags.alloc()
	if err != nil {
		return nil, err
	}
	m := &MR{dev: d, index: index}
	m.region = &region{stag: d.stags.newTag(index), acc: acc, base: verbs.Addr(mem), mem: mem}
	d.stags.set(index, m.region)
	return m, nil
}

// LKey implements verbs.MR.
func (m *MR) LKey() uint32 { return m.region.stag }

// RKey implements verbs.MR.
func (m *MR) RKey() uint32 { return m.region.stag }

// Mem implements verbs.MR.
func (m *MR) Mem() []byte { return m.region.mem }

// Close implements verbs.MR. It waits for every Poll that may be using the
// memory at this moment. Read Responses that were formed from it and are still
// to be sent keep a copy.
func (m *MR) Close() error {
	if m.closed.Swap(true) {
		return nil
	}
	m.dev.stags.release(m.index)
	m.dev.eachCQ(func(c *CQ) { c.detach(m.region.mem) })
	return nil
}

// Window is a memory window.
type Window struct {
	dev    *Device
	index  uint32
	mu     sync.Mutex // guards the rest
	bound  *region
	closed bool
}

var _ verbs.Window = (*Window)(nil)

// NewWindow implements verbs.Device.
func (d *Device) NewWindow() (verbs.Window, error) {
	index, err := d.stags.alloc()
	if err != nil {
		return nil, err
	}
	return &Window{dev: d, index: index}, nil
}

// Close implements verbs.Window.
func (w *Window) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	bound := w.bound
	w.bound = nil
	w.dev.stags.release(w.index)
	w.mu.Unlock()
	if bound != nil {
		w.dev.eachCQ(func(c *CQ) { c.detach(bound.mem) })
	}
	return nil
}

// prepare makes the region of the window's next binding, which does not work
// yet.
func (w *Window) prepare(q *QP, m *MR, mem []byte, acc verbs.Access) *region {
	return &region{stag: w.dev.stags.newTag(w.index), acc: acc, base: verbs.Addr(mem), mem: mem, qp: q, mr: m}
}

// bind puts a prepared region in force; false when the window is closed.
func (w *Window) bind(r *region) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.bound = r
	w.dev.stags.set(w.index, r)
	return true
}

// invalidate ends the access by stag, which must be a window of q's. The
// caller holds the lock of q's CQ.
func (t *stagTable) invalidate(q *QP, stag uint32) bool {
	r := t.lookup(stag)
	if r == nil || r.mr == nil || r.qp != q {
		return false
	}
	index := stag >> stagKeyBits
	t.root[index>>stagLeafBits].Load().region[index%stagLeafSize].CompareAndSwap(r, nil)
	q.tx.detach(r.mem)
	return true
}

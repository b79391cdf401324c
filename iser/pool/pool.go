package pool

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/iser/verbs"
)

// maxCached is how many free buffers of each size are kept ready.
const maxCached = 64

// Pool is the registered memory of one device. It is safe for concurrent use.
type Pool struct {
	dev    verbs.Device
	access verbs.Access
	limit  int64

	slabs atomic.Pointer[[]*slab] // sorted by address; replaced with mu held

	mu       sync.Mutex // guards what follows and the slabs' insides
	cache    [orders][]*bufpool.Buf
	inUse    int64
	accounts int
	closed   bool
}

// New returns a pool of at most limit bytes (whole slabs of 16 MiB, one at
// least) on dev, registered with access when they are first needed.
func New(dev verbs.Device, access verbs.Access, limit int64) *Pool {
	p := &Pool{dev: dev, access: access, limit: max(limit, slabSize)}
	p.slabs.Store(&[]*slab{})
	return p
}

// ErrInUse means: the pool can't be closed yet.
var ErrInUse = errors.New("pool: buffers are in use")

// Close deregisters and frees everything. It fails while buffers are in use.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inUse > 0 {
		return ErrInUse
	}
	p.closed = true
	p.cache = [orders][]*bufpool.Buf{}
	var errs []error
	for _, s := range *p.slabs.Load() {
		errs = append(errs, s.close())
	}
	p.slabs.Store(&[]*slab{})
	return errors.Join(errs...)
}

// InUse is the number of bytes handed out, in whole blocks.
func (p *Pool) InUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse
}

// Registered is the number of bytes registered.
func (p *Pool) Registered() int64 { return int64(len(*p.slabs.Load())) << slabShift }

// Regions is the number of memory regions that they are registered as.
func (p *Pool) Regions() int { return len(*p.slabs.Load()) }

// LKey returns the key of the region that mem is in, if it is of this pool.
func (p *Pool) LKey(mem []byte) (uint32, bool) {
	if s := p.slabOf(verbs.Addr(mem)); s != nil {
		return s.mr.LKey(), true
	}
	return 0, false
}

// MR returns the region that mem is in, borrowed, or nil if it is not of this
// pool.
func (p *Pool) MR(mem []byte) verbs.MR {
	if s := p.slabOf(verbs.Addr(mem)); s != nil {
		return s.mr
	}
	return nil
}

func (p *Pool) slabOf(addr uint64) *slab {
	base := addr &^ (slabSize - 1)
	slabs := *p.slabs.Load()
	i, ok := slices.BinarySearchFunc(slabs, base, func(s *slab, b uint64) int {
		switch {
		case s.base < b:
			return -1
		case s.base > b:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return slabs[i]
}

// get takes a block. p.mu is held.
func (p *Pool) get(order int) *bufpool.Buf {
	if n := len(p.cache[order]); n > 0 {
		b := p.cache[order][n-1]
		p.cache[order] = p.cache[order][:n-1]
		return b
	}
	if b := p.cut(order); b != nil {
		return b
	}
	if p.shed() {
		if b := p.cut(order); b != nil {
			return b
		}
	}
	if !p.grow() {
		return nil
	}
	return p.cut(order)
}

// cut takes a block from a slab.
func (p *Pool) cut(order int) *bufpool.Buf {
	for _, s := range *p.slabs.Load() {
		if mem := s.alloc(order); mem != nil {
			return bufpool.NewBuf(mem, p)
		}
	}
	return nil
}

// shed gives all cached buffers back to their slabs, where they join.
func (p *Pool) shed() (any bool) {
	for i := range p.cache {
		for j, b := range p.cache[i] {
			p.slabOf(verbs.Addr(b.Whole())).give(b.Whole())
			p.cache[i][j] = nil
			any = true
		}
		p.cache[i] = p.cache[i][:0]
	}
	return any
}

// grow registers another slab.
func (p *Pool) grow() bool {
	old := *p.slabs.Load()
	if p.closed || int64(len(old)+1)<<slabShift > p.limit {
		return false
	}
	s, err := newSlab(p.dev, p.access)
	if err != nil {
		return false
	}
	next := append(slices.Clone(old), s)
	slices.SortFunc(next, func(a, b *slab) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	p.slabs.Store(&next)
	return true
}

// Put implements bufpool.Home.
func (p *Pool) Put(b *bufpool.Buf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mem := b.Whole()
	p.inUse -= int64(len(mem))
	if a, ok := b.Owner.(*Account); ok {
		a.used -= int64(len(mem))
		b.Owner = nil
	}
	order := orderOf(len(mem))
	if len(p.cache[order]) < maxCached {
		p.cache[order] = append(p.cache[order], b)
		return
	}
	p.slabOf(verbs.Addr(mem)).give(mem)
}

// Account is a connection's part in a pool.
type Account struct {
	p    *Pool
	used int64 // guarded by p.mu
	open bool
}

// Open returns a new account. Closing it does not take its buffers.
func (p *Pool) Open() *Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accounts++
	return &Account{p: p, open: true}
}

// Close ends the account's share.
func (a *Account) Close() {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	if a.open {
		a.open = false
		a.p.accounts--
	}
}

// Get returns an owned buffer of n bytes (1 to bufpool.MaxSize) with undefined
// content, or nil: there is no memory, or more than half of it is in use and
// this account has its share.
func (a *Account) Get(n int) *bufpool.Buf {
	if n <= 0 || n > slabSize {
		return nil
	}
	order := orderOf(n)
	size := int64(1) << (order + minShift)
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	share := max(p.limit/int64(max(p.accounts, 1)), slabSize)
	if p.inUse+size > p.limit/2 && a.used > 0 && a.used+size > share {
		return nil
	}
	b := p.get(order)
	if b == nil {
		return nil
	}
	p.inUse += size
	a.used += size
	b.Owner = a
	return b.Take(n)
}

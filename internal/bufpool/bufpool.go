// Package bufpool hands out page-aligned buffers in size classes under one
// cap of bytes for the whole daemon. It is the memory bound behind the
// protocol credits: when Get says no, the caller answers BUSY or stops
// reading; nothing in the daemon grows with what a peer claims to send.
//
// It is not for small or long-lived memory.
package bufpool

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	minShift = 12 // 4 KiB
	maxShift = 24 // 16 MiB, the largest transfer of one command
	// Align is the alignment of every buffer: what O_DIRECT asks for.
	Align = 4096
	// MaxSize is the largest buffer that Get gives.
	MaxSize = 1 << maxShift
)

// Pool is a set of free buffers with a cap on what is handed out.
// It is safe for concurrent use. The zero value gives nothing; use New.
type Pool struct {
	limit   int64
	inUse   atomic.Int64
	classes [maxShift - minShift + 1]sync.Pool
}

// Buf is one buffer. It has exactly one owner; handing it over hands over the
// duty to Release it.
type Buf struct {
	// B is the usable memory: len as asked for, capacity of the size class.
	B []byte
	// Owner is for the Home of the buffer.
	Owner any

	whole []byte
	pool  *Pool
	home  Home
	class uint8
	free  atomic.Bool
}

// New returns a pool that has at most limit bytes handed out at a time.
func New(limit int64) *Pool { return &Pool{limit: limit} }

// Get returns an owned buffer of n bytes (1 to MaxSize) with undefined
// content, or nil when the cap would be passed or n is out of range.
func (p *Pool) Get(n int) *Buf {
	if n <= 0 || n > MaxSize {
		return nil
	}
	class := classOf(n)
	size := int64(1) << (class + minShift)
	if p.inUse.Add(size) > p.limit {
		p.inUse.Add(-size)
		return nil
	}
	b, _ := p.classes[class].Get().(*Buf)
	if b == nil {
		b = newBuf(p, class)
	}
	b.free.Store(false)
	b.B = b.whole[:n]
	return b
}

// Release gives the buffer back. Releasing twice is a bug of the caller and
// panics rather than letting two owners share memory.
func (b *Buf) Release() {
	if b.free.Swap(true) {
		panic("bufpool: buffer released twice")
	}
	b.B = nil
	if b.home != nil {
		b.home.Put(b)
		return
	}
	b.pool.inUse.Add(-(int64(1) << (b.class + minShift)))
	b.pool.classes[b.class].Put(b)
}

// Home takes back buffers that are not of a Pool.
type Home interface {
	// Put takes b, which nobody uses any more.
	Put(b *Buf)
}

// NewBuf makes a buffer of other memory for a Home. It is free: Take hands it out.
func NewBuf(mem []byte, home Home) *Buf {
	b := &Buf{whole: mem, home: home}
	b.free.Store(true)
	return b
}

// Take hands out n bytes of a free buffer of a Home.
func (b *Buf) Take(n int) *Buf {
	b.free.Store(false)
	b.B = b.whole[:n]
	return b
}

// Whole is all memory of the buffer.
func (b *Buf) Whole() []byte { return b.whole }

// InUse is the number of bytes handed out, in whole size classes.
func (p *Pool) InUse() int64 { return p.inUse.Load() }

// Limit is the cap given to New.
func (p *Pool) Limit() int64 { return p.limit }

func classOf(n int) uint8 {
	if n <= 1<<minShift {
		return 0
	}
	return uint8(bits.Len(uint(n-1)) - minShift)
}

func newBuf(p *Pool, class uint8) *Buf {
	size := 1 << (class + minShift)
	raw := make([]byte, size+Align-1)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (Align - 1)
	return &Buf{whole: raw[skip : int(skip)+size : int(skip)+size], pool: p, class: class}
}

package pool

import (
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

const (
	minShift  = 12 // 4 KiB
	slabShift = 24 // 16 MiB, the largest buffer
	orders    = slabShift - minShift + 1
	slabSize  = 1 << slabShift
	slabPages = 1 << (slabShift - minShift)
)

// slab is 16 MiB of registered memory under a buddy allocator. Its methods need
// the pool's lock.
type slab struct {
	mapped []byte // what Unmap takes: mem and what aligns it
	mem    []byte // aligned to its size
	mr     verbs.MR
	base   uint64

	head [orders]int16 // first free block of each order, -1: none
	// Of free blocks, by the number of their first page.
	next, prev [slabPages]int16
	order      [slabPages]int8 // of a free block, else -1
}

func newSlab(dev verbs.Device, acc verbs.Access) (*slab, error) {
	mapped, err := verbs.Map(2 * slabSize)
	if err != nil {
		return nil, err
	}
	skip := int(-verbs.Addr(mapped) & (slabSize - 1))
	s := &slab{mapped: mapped, mem: mapped[skip : skip+slabSize : skip+slabSize]}
	_ = unix.Madvise(s.mem, unix.MADV_HUGEPAGE) // a favour, no more
	if s.mr, err = dev.Register(s.mem, acc); err != nil {
		_ = verbs.Unmap(mapped)
		return nil, fmt.Errorf("pool: register %d bytes: %w", slabSize, err)
	}
	s.base = verbs.Addr(s.mem)
	for i := range s.head {
		s.head[i] = -1
	}
	for i := range s.order {
		s.order[i] = -1
	}
	s.push(0, orders-1)
	return s, nil
}

func (s *slab) close() error {
	if err := s.mr.Close(); err != nil {
		return err // the device may still own the memory
	}
	return verbs.Unmap(s.mapped)
}

func (s *slab) push(page int, order int) {
	s.order[page] = int8(order)
	s.prev[page], s.next[page] = -1, s.head[order]
	if n := s.head[order]; n >= 0 {
		s.prev[n] = int16(page)
	}
	s.head[order] = int16(page)
}

func (s *slab) remove(page int) {
	order := s.order[page]
	if p := s.prev[page]; p >= 0 {
		s.next[p] = s.next[page]
	} else {
		s.head[order] = s.next[page]
	}
	if n := s.next[page]; n >= 0 {
		s.prev[n] = s.prev[page]
	}
	s.order[page] = -1
}

// alloc takes a block of 4 KiB << order, nil when there is none.
func (s *slab) alloc(order int) []byte {
	have := order
	for have < orders && s.head[have] < 0 {
		have++
	}
	if have == orders {
		return nil
	}
	page := int(s.head[have])
	s.remove(page)
	for have > order {
		have--
		s.push(page+1<<have, have)
	}
	off, size := page<<minShift, 1<<(order+minShift)
	return s.mem[off : off+size : off+size]
}

// give takes a block back and joins it with its buddies.
func (s *slab) give(mem []byte) {
	page := int(verbs.Addr(mem)-s.base) >> minShift
	order := orderOf(len(mem))
	for order < orders-1 {
		buddy := page ^ 1<<order
		if int(s.order[buddy]) != order {
			break
		}
		s.remove(buddy)
		page &^= 1 << order
		order++
	}
	s.push(page, order)
}

// orderOf is the order of the block that holds n bytes.
func orderOf(n int) int {
	if n <= 1<<minShift {
		return 0
	}
	return bits.Len(uint(n-1)) - minShift
}

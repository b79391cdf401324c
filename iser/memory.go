package iser

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/iserd/iserd/iser/verbs"
)

// Memory is the memory of a logical unit, as its owner describes it.
type Memory struct {
	// Bytes is the memory, which stays mapped until Memories.Remove.
	Bytes []byte
	// Resident reports whether all pages of n bytes at off are there, so that pinning
	// them takes none. nil: they always are. It may take a while.
	Resident func(off, n int64) bool
	// OnRelease is that of luns.Releaser. Without it the pages must never be given
	// back, or nothing must be pinned, which Unsteady says.
	OnRelease func(f func(off, n int64) (done func())) (cancel func())
	Unsteady  bool
	// Whole has devices know all of the memory from its first use on.
	Whole bool
}

// Memories are the memory-mapped logical units between which and the initiators data
// may go without a copy. One set is shared by all engines of a program. It is safe for
// concurrent use; nil is a set without memory.
//
// A device with on-demand paging is told of a memory when it is first touched, as a
// whole and without pinning a page. Others pin what they are told of: a chunk that was
// touched and all of whose pages are there, so that what is sparse stays sparse, until
// pages of it are given back.
type Memories struct {
	mu   sync.Mutex // guards mems
	mems []*memory
}

// memory is one of the set.
type memory struct {
	Memory
	cancel func() // of OnRelease

	// mu is held shared while pages are given back, and exclusively while chunks
	// are registered; it guards regs.
	mu   sync.RWMutex
	regs []*registration
}

// Add announces a memory.
func (m *Memories) Add(mem Memory) {
	if m == nil || len(mem.Bytes) == 0 {
		return
	}
	x := &memory{Memory: mem}
	if mem.OnRelease != nil {
		x.cancel = mem.OnRelease(x.releasing)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mems = append(m.mems, x)
}

// Remove ends the use of a memory, by its bytes as given to Add. They may be unmapped
// when no task has data in them any more.
func (m *Memories) Remove(mem []byte) {
	if m == nil || len(mem) == 0 {
		return
	}
	m.mu.Lock()
	i := slices.IndexFunc(m.mems, func(x *memory) bool {
		return verbs.Addr(x.Bytes) == verbs.Addr(mem) && len(x.Bytes) == len(mem)
	})
	if i < 0 {
		m.mu.Unlock()
		return
	}
	x := m.mems[i]
	m.mems = slices.Delete(m.mems, i, i+1)
	m.mu.Unlock()
	if x.cancel != nil {
		x.cancel()
	}
	x.detach(func(*registration) bool { return true })
}

// attach makes d's part for the memory that data is in, nil when there is none.
func (m *Memories) attach(d *Device, data []byte) *registration {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.mems, func(x *memory) bool { return inside(data, x.Bytes) })
	if i < 0 {
		return nil
	}
	x := m.mems[i]
	if x.Unsteady && !d.caps.OnDemandPaging {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.regs {
		if r.d == d {
			return r // another goroutine was faster
		}
	}
	r := newRegistration(d, x)
	x.regs = append(x.regs, r)
	d.direct.add(r)
	if x.Whole {
		d.ask(r, allChunks)
	}
	return r
}

// forget closes what d has registered.
func (m *Memories) forget(d *Device) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.mems {
		x.detach(func(r *registration) bool { return r.d == d })
	}
}

// detach ends the registrations that match.
func (x *memory) detach(match func(*registration) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.regs = slices.DeleteFunc(x.regs, func(r *registration) bool {
		if !match(r) {
			return false
		}
		r.dead = true
		r.d.direct.remove(r)
		r.retire(0, len(r.chunks)-1)
		return true
	})
}

// releasing has nobody begin to use what is registered of n bytes at off, before
// their pages are given back. Those who use other parts of the same chunks go on: the
// pages of these stay what they are. Nobody uses the bytes themselves now: whoever has
// their pages given back holds their range lock.
func (x *memory) releasing(off, n int64) (done func()) {
	x.mu.RLock()
	for _, r := range x.regs {
		if !r.d.caps.OnDemandPaging {
			r.retire(int(off>>r.shift), int((off+n-1)>>r.shift))
		}
	}
	return x.mu.RUnlock
}

func inside(data, mem []byte) bool {
	off := verbs.Addr(data) - verbs.Addr(mem)
	return off < uint64(len(mem)) && uint64(len(data)) <= uint64(len(mem))-off
}

// directory finds registrations by address. There are few.
type directory struct {
	mu      sync.Mutex // held to replace
	entries atomic.Pointer[[]*registration]
}

func (d *directory) add(r *registration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var next []*registration
	if old := d.entries.Load(); old != nil {
		next = slices.Clone(*old)
	}
	next = append(next, r)
	d.entries.Store(&next)
}

func (d *directory) remove(r *registration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.entries.Load()
	if old == nil {
		return
	}
	next := slices.DeleteFunc(slices.Clone(*old), func(x *registration) bool { return x == r })
	d.entries.Store(&next)
}

func (d *directory) find(data []byte) *registration {
	entries := d.entries.Load()
	if entries == nil {
		return nil
	}
	for _, r := range *entries {
		if inside(data, r.mem) {
			return r
		}
	}
	return nil
}

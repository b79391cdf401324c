package iser

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/iserd/iserd/iser/verbs"
)

// Memories are the memory-mapped logical units that data may be sent from without
// a copy. One set is shared by all engines of a program. It is safe for concurrent
// use; nil is a set without memory.
//
// A device gets a memory registered when it is first touched, as a whole and
// without pinning a page, so that what is sparse stays sparse and what is
// unmapped comes out as it is then. Devices without on-demand paging copy.
type Memories struct {
	mu   sync.Mutex // guards all
	mems []memory
}

type memory struct {
	mem  []byte
	regs []registration
}

type registration struct {
	d  *Device
	mr verbs.MR
}

// Add announces mem, which stays mapped until Remove.
func (m *Memories) Add(mem []byte) {
	if m == nil || len(mem) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mems = append(m.mems, memory{mem: mem})
}

// Remove ends the use of mem, as given to Add. No task may have data in it any
// more.
func (m *Memories) Remove(mem []byte) {
	if m == nil || len(mem) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.mems {
		x := &m.mems[i]
		if verbs.Addr(x.mem) != verbs.Addr(mem) || len(x.mem) != len(mem) {
			continue
		}
		for _, r := range x.regs {
			r.d.direct.remove(r.mr)
			if err := r.mr.Close(); err != nil {
				r.d.report("memory of a logical unit stays registered", "device", r.d.dev.Name(), "reason", err)
			}
		}
		m.mems = slices.Delete(m.mems, i, i+1)
		return
	}
}

// register gives d access to the memory that data is in.
func (m *Memories) register(d *Device, data []byte) bool {
	if m == nil || !d.caps.OnDemandPaging {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.mems {
		x := &m.mems[i]
		if !inside(data, x.mem) {
			continue
		}
		for _, r := range x.regs {
			if r.d == d {
				return true // another goroutine was faster
			}
		}
		mr, err := d.dev.Register(x.mem, verbs.AccessOnDemand)
		if err != nil {
			return false
		}
		x.regs = append(x.regs, registration{d, mr})
		d.direct.add(mr)
		return true
	}
	return false
}

// forget closes what d has registered.
func (m *Memories) forget(d *Device) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.mems {
		x := &m.mems[i]
		x.regs = slices.DeleteFunc(x.regs, func(r registration) bool {
			if r.d != d {
				return false
			}
			d.direct.remove(r.mr)
			_ = r.mr.Close()
			return true
		})
	}
}

func inside(data, mem []byte) bool {
	off := verbs.Addr(data) - verbs.Addr(mem)
	return off < uint64(len(mem)) && uint64(len(data)) <= uint64(len(mem))-off
}

// directory finds registered memory by address. There are few entries.
type directory struct {
	mu      sync.Mutex // held to replace
	entries atomic.Pointer[[]verbs.MR]
}

func (d *directory) len() int {
	if e := d.entries.Load(); e != nil {
		return len(*e)
	}
	return 0
}

func (d *directory) add(mr verbs.MR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var next []verbs.MR
	if old := d.entries.Load(); old != nil {
		next = slices.Clone(*old)
	}
	next = append(next, mr)
	d.entries.Store(&next)
}

func (d *directory) remove(mr verbs.MR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.entries.Load()
	if old == nil {
		return
	}
	next := slices.DeleteFunc(slices.Clone(*old), func(x verbs.MR) bool { return x == mr })
	d.entries.Store(&next)
}

func (d *directory) lkey(data []byte) (uint32, bool) {
	entries := d.entries.Load()
	if entries == nil {
		return 0, false
	}
	for _, mr := range *entries {
		if inside(data, mr.Mem()) {
			return mr.LKey(), true
		}
	}
	return 0, false
}

// Bounds of what a connection may send straight from logical units at a time: that
// holds their range locks until the initiator has taken it.
const (
	maxDirect      = 1 << 20 // of one task
	maxDirectTotal = 4 << 20
)

// locate returns the key of the memory that data is in: of the pool, or of a
// logical unit.
func (c *Conn) locate(data []byte) (lkey uint32, direct, ok bool) {
	d := c.pump.dev
	if lkey, ok = d.pool.LKey(data); ok {
		return lkey, false, true
	}
	if len(data) > maxDirect || c.send.direct+len(data) > maxDirectTotal {
		return 0, false, false
	}
	if lkey, ok = d.direct.lkey(data); ok {
		return lkey, true, true
	}
	if !d.cfg.Memories.register(d, data) {
		return 0, false, false
	}
	lkey, ok = d.direct.lkey(data)
	return lkey, ok, ok
}

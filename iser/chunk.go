package iser

import (
	"sync/atomic"

	"github.com/iserd/iserd/iser/verbs"
)

const (
	// chunkShift: 2 MiB are pinned at a time.
	chunkShift = 21
	// Bounds of what a connection may have on its way straight from or to logical
	// units, each way: that holds their range locks until the initiator has taken or
	// sent it.
	maxDirect      = 1 << 20 // of one task
	maxDirectTotal = 4 << 20
	// From these sizes on it saves more than it costs where pages are pinned. A READ's
	// message has a completion of its own then, which wakes a pump that sleeps: over
	// soft-RoCE that is more than to copy 128 KiB. Others wait for a WRITE's range
	// while its data is on its way.
	minDirectRead  = 32 << 10
	minWakingRead  = 256 << 10
	minDirectWrite = 64 << 10
)

// minRead is from which size on READs are sent from the memory of logical units.
func (d *Device) minRead() int {
	switch {
	case d.caps.OnDemandPaging:
		return 0
	case d.cfg.Spin > 0:
		return minDirectRead
	}
	return minWakingRead
}

// registration is the memory of a logical unit as one device knows it.
type registration struct {
	d       *Device
	of      *memory
	mem     []byte
	shift   uint // log2 of the bytes of a chunk
	chunks  []atomic.Pointer[chunk]
	touched []atomic.Uint32 // how often a chunk was wanted in vain
	dead    bool            // guarded by of.mu
}

// chunk is a part of it that the device has access to. It is closed when the
// registration and those that use it are through.
type chunk struct {
	d         *Device
	mr        verbs.MR
	lkey      uint32
	base, end uint64 // addresses
	refs      atomic.Int32
}

func newRegistration(d *Device, x *memory) *registration {
	r := &registration{d: d, of: x, mem: x.Bytes, shift: chunkShift}
	if d.caps.OnDemandPaging {
		r.shift = 62 // one for all
	}
	n := (len(r.mem)-1)>>r.shift + 1
	r.chunks, r.touched = make([]atomic.Pointer[chunk], n), make([]atomic.Uint32, n)
	return r
}

// hold returns chunk i, to be dropped, or nil. Where pages are pinned that is left to
// the device's registrar: whoever wants the chunk makes a copy meanwhile.
func (r *registration) hold(i int) *chunk {
	if c := r.chunks[i].Load(); c != nil && c.hold() {
		return c
	}
	if r.d.caps.OnDemandPaging {
		r.register(i)
		if c := r.chunks[i].Load(); c != nil && c.hold() {
			return c
		}
		return nil
	}
	// Again and again, but ever more seldom: what is not all there may never be.
	if n := r.touched[i].Add(1); n&(n-1) == 0 || n%4096 == 0 {
		r.d.ask(r, i)
	}
	return nil
}

// register gives the device access to chunk i, unless that would take memory.
func (r *registration) register(i int) {
	x := r.of
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.dead || r.d.refused.Load() || r.chunks[i].Load() != nil {
		return
	}
	off := i << r.shift
	part := r.mem[off:min(off+1<<r.shift, len(r.mem))]
	access := r.d.access | verbs.AccessOnDemand
	if !r.d.caps.OnDemandPaging {
		access = r.d.access
		if x.Resident != nil && !x.Resident(int64(off), int64(len(part))) {
			return
		}
	}
	mr, err := r.d.dev.Register(part, access)
	if err != nil {
		r.d.refused.Store(true)
		r.d.report("memory of logical units is copied: it can't be registered", "device", r.d.dev.Name(), "reason", err)
		return
	}
	c := &chunk{d: r.d, mr: mr, lkey: mr.LKey(), base: verbs.Addr(part), end: verbs.Addr(part) + uint64(len(part))}
	c.refs.Store(1)
	r.d.chunks.Add(1)
	r.chunks[i].Store(c)
}

// retire has nobody use the chunks from first to last who does not yet.
func (r *registration) retire(first, last int) {
	for i := first; i <= last && i < len(r.chunks); i++ {
		if c := r.chunks[i].Swap(nil); c != nil {
			c.drop()
		}
		r.touched[i].Store(0)
	}
}

func (c *chunk) hold() bool {
	for {
		n := c.refs.Load()
		if n == 0 {
			return false
		}
		if c.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (c *chunk) drop() {
	if c.refs.Add(-1) > 0 {
		return
	}
	c.d.chunks.Add(-1)
	if err := c.mr.Close(); err != nil {
		c.d.report("memory of a logical unit stays registered", "device", c.d.dev.Name(), "reason", err)
	}
}

// held are the chunks that a transfer is within; the zero value is none.
type held [2]*chunk

// key is that of the chunk with the address, and how many bytes of it are left.
func (h *held) key(addr uint64) (lkey uint32, left int) {
	c := h[0]
	if addr >= c.end {
		c = h[1]
	}
	return c.lkey, int(c.end - addr)
}

// drop ends the transfer's use of them.
func (h *held) drop() {
	for i, c := range h {
		if c != nil {
			c.drop()
			h[i] = nil
		}
	}
}

// reach gives a transfer direct access to data, which is memory of a logical unit;
// false when it has to be copied.
func (d *Device) reach(data []byte) (h held, ok bool) {
	if d.refused.Load() {
		return h, false
	}
	r := d.direct.find(data)
	if r == nil {
		if r = d.cfg.Memories.attach(d, data); r == nil {
			return h, false
		}
	}
	off := int(verbs.Addr(data) - verbs.Addr(r.mem))
	first, last := off>>r.shift, (off+len(data)-1)>>r.shift
	if last-first >= len(h) {
		return h, false
	}
	for i := first; i <= last; i++ {
		c := r.hold(i)
		if c == nil {
			h.drop()
			return h, false
		}
		h[i-first] = c
	}
	return h, true
}

// wanted is a chunk that a device may be told of.
type wanted struct {
	r *registration
	i int // or allChunks
}

const allChunks = -1

// ask has the registrar see to a chunk, when it finds the time.
func (d *Device) ask(r *registration, i int) {
	select {
	case d.wanted <- wanted{r, i}:
	default: // whoever wants it asks again
	}
}

// registrar is the goroutine that pins memory for a device, page by page: a pump has
// others to serve meanwhile.
func (d *Device) registrar() {
	defer close(d.registrarEnded)
	for {
		select {
		case <-d.quit:
			return
		case w := <-d.wanted:
			if w.i != allChunks {
				w.r.register(w.i)
				continue
			}
			for i := range w.r.chunks {
				w.r.register(i)
			}
		}
	}
}

package iser

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/iserd/iserd/iser/verbs"
)

// DeviceUsage is what an engine holds of a device, and what it has seen of it.
type DeviceUsage struct {
	Device           string
	QueuePairs       int
	CompletionQueues int
	MemoryRegions    int   // of the pool and of logical units
	Registered       int64 // bytes of the pool
	InUse            int64 // of them, handed out
	Completions      uint64
	// Failed counts completions with an error, by its name. "Flushed" is not
	// among them: that is how every connection ends.
	Failed map[string]uint64
}

// completions counts what the pumps of a device poll.
type completions struct {
	all atomic.Uint64

	mu     sync.Mutex
	failed map[verbs.Status]uint64 // guarded by mu; few fail
}

func (x *completions) count(wc []verbs.WC) {
	if len(wc) == 0 {
		return
	}
	x.all.Add(uint64(len(wc)))
	for i := range wc {
		if s := wc[i].Status; s != verbs.WCSuccess && s != verbs.WCFlushed {
			x.fail(s)
		}
	}
}

func (x *completions) fail(s verbs.Status) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed == nil {
		x.failed = make(map[verbs.Status]uint64)
	}
	x.failed[s]++
}

// Add adds the usage of another device of the same name: one that was removed and
// came back is two for a while.
func (u *DeviceUsage) Add(o *DeviceUsage) {
	u.QueuePairs += o.QueuePairs
	u.CompletionQueues += o.CompletionQueues
	u.MemoryRegions += o.MemoryRegions
	u.Registered += o.Registered
	u.InUse += o.InUse
	u.Completions += o.Completions
	for s, n := range o.Failed {
		u.Failed[s] += n
	}
}

// Devices returns the usage of each device, in no order.
func (e *Engine) Devices() []DeviceUsage {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make(map[*Device]*DeviceUsage)
	for _, d := range e.devices {
		u := &DeviceUsage{
			Device: d.dev.Name(), MemoryRegions: d.pool.Regions() + int(d.chunks.Load()), Registered: d.pool.Registered(), InUse: d.pool.InUse(),
			Completions: d.seen.all.Load(), Failed: make(map[string]uint64),
		}
		d.mu.Lock()
		u.CompletionQueues = len(d.pumps)
		d.mu.Unlock()
		d.seen.mu.Lock()
		for s, n := range d.seen.failed {
			u.Failed[s.String()] = n
		}
		d.seen.mu.Unlock()
		all[d] = u
	}
	for _, c := range e.conns {
		if u := all[c.pump.dev]; u != nil {
			u.QueuePairs++
		}
	}
	var out []DeviceUsage
	for u := range maps.Values(all) {
		out = append(out, *u)
	}
	return out
}

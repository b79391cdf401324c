package iscsi

import (
	"slices"
	"sync"

	"github.com/iserd/iserd/luns/scsi"
)

// Orphans are the commands of connections that are gone which the workers of
// logical units still run: a write among them may still land. They hold their
// range lock, so no later command meets them; but a task management function
// that ends the commands of a unit must not be answered "complete" before they
// are through. The zero value is ready; it is safe for concurrent use.
type Orphans struct {
	mu    sync.Mutex
	left  map[*scsi.Port]int
	waits []orphanWait
}

type orphanWait struct {
	ports []*scsi.Port
	done  func()
}

// Wait calls done when no orphan is left on ports: at once, or later on the
// goroutine of a worker, where it must not block.
func (o *Orphans) Wait(ports []*scsi.Port, done func()) {
	o.mu.Lock()
	if o.any(ports) {
		o.waits = append(o.waits, orphanWait{ports, done})
		done = nil
	}
	o.mu.Unlock()
	if done != nil {
		done()
	}
}

func (o *Orphans) any(ports []*scsi.Port) bool {
	return slices.ContainsFunc(ports, func(p *scsi.Port) bool { return o.left[p] > 0 })
}

func (o *Orphans) add(p *scsi.Port) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left == nil {
		o.left = make(map[*scsi.Port]int)
	}
	o.left[p]++
}

func (o *Orphans) remove(p *scsi.Port) {
	var ready []func()
	o.mu.Lock()
	if o.left[p]--; o.left[p] == 0 {
		delete(o.left, p)
		o.waits = slices.DeleteFunc(o.waits, func(w orphanWait) bool {
			if o.any(w.ports) {
				return false
			}
			ready = append(ready, w.done)
			return true
		})
	}
	o.mu.Unlock()
	for _, done := range ready {
		done()
	}
}

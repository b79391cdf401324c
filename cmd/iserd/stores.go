package main

import (
	"context"
	"sync"

	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/luns"
)

// stores has the openers of the backends in use. A LUN that is taken away and
// put back, because a change failed or because something about the LUN itself
// is different, finds the same memory again.
type stores struct {
	mu  sync.Mutex
	all map[string]*store // by Fingerprint
}

// store is one opener. It is replaced when the size changes.
type store struct {
	ref config.BackendRef

	mu   sync.Mutex
	open luns.Opener // guarded by mu
}

func newStores() *stores { return &stores{all: make(map[string]*store)} }

// opener returns the opener of a backend block.
func (s *stores) opener(b *config.Backend) (luns.Opener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := b.Fingerprint()
	x := s.all[key]
	if x == nil {
		open, err := backendOpener(b)
		if err != nil {
			return nil, err
		}
		x = &store{ref: b.Ref(), open: open}
		s.all[key] = x
	}
	return func(ctx context.Context) (luns.Backend, error) {
		x.mu.Lock()
		open := x.open
		x.mu.Unlock()
		return open(ctx)
	}, nil
}

// renamed notes that an open backend has got the size in b.
func (s *stores) renamed(b *config.Backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, x := range s.all {
		if x.ref != b.Ref() {
			continue
		}
		delete(s.all, key)
		s.all[b.Fingerprint()] = x
		if b.Kind == config.BackendMemory {
			return // what is reserved knows its size
		}
		if open, err := backendOpener(b); err == nil {
			x.mu.Lock()
			x.open = open
			x.mu.Unlock()
		}
		return
	}
}

// keep forgets all backends that c does not have.
func (s *stores) keep(c *config.Config) {
	used := make(map[string]bool, len(c.Backends))
	for i := range c.Backends {
		used[c.Backends[i].Fingerprint()] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.all {
		if !used[key] {
			delete(s.all, key)
		}
	}
}

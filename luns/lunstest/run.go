package lunstest

import (
	"testing"

	"github.com/iserd/iserd/luns"
)

// OpenFunc opens a new backend whose content is all zeros, at least 256 KiB
// of it. The kit closes it. What it needs it takes from t.
type OpenFunc func(t *testing.T) luns.Backend

// Option changes what Run expects.
type Option func(*kit)

// Persistent says that content outlives Close: reopen opens again what the
// most recent call of OpenFunc opened, which has been closed.
func Persistent(reopen OpenFunc) Option { return func(k *kit) { k.reopen = reopen } }

// Discards says that nothing written is kept, and everything reads as zeros.
func Discards() Option { return func(k *kit) { k.discards = true } }

// Dirty says that a new backend may hold any content: a real device.
func Dirty() Option { return func(k *kit) { k.dirty = true } }

type kit struct {
	open     OpenFunc
	reopen   OpenFunc
	discards bool
	dirty    bool
}

// Run runs the kit as subtests of t.
func Run(t *testing.T, open OpenFunc, opts ...Option) {
	t.Helper()
	k := &kit{open: open}
	for _, o := range opts {
		o(k)
	}
	for _, c := range []struct {
		name  string
		test  func(*kit, *testing.T, luns.Backend)
		store bool // needs a backend that keeps what is written
	}{
		{"Info", (*kit).info, false},
		{"Unwritten", (*kit).unwritten, false},
		{"Ranges", (*kit).ranges, true},
		{"Neighbours", (*kit).neighbours, true},
		{"Durable", (*kit).durable, true},
		{"Context", (*kit).context, true},
		{"Unmap", (*kit).unmap, true},
		{"WriteZeroes", (*kit).writeZeroes, true},
		{"Extents", (*kit).extents, false},
		{"Resize", (*kit).resize, true},
		{"Refresh", (*kit).refresh, false},
		{"Mapper", (*kit).mapper, true},
		{"Trier", (*kit).trier, true},
		{"Model", (*kit).model, true},
		{"Concurrent", (*kit).concurrent, true},
		{"CloseUnderLoad", (*kit).closeUnderLoad, false},
		{"Reopen", (*kit).reopens, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.store && k.discards {
				t.Skip("the backend keeps nothing")
			}
			b := k.open(t)
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.test(k, t, b)
		})
	}
}

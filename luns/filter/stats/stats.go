// Package stats is a filter that counts requests, bytes, errors and latency.
package stats

import (
	"context"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
)

// Buckets is the number of latency classes: bucket i counts requests of less
// than 2^i nanoseconds that are in no lower one; the last takes the rest.
const Buckets = 40

// Counters are the numbers of one kind of request.
type Counters struct {
	// Ops counts finished requests, failed ones included.
	Ops uint64
	// Bytes counts what successful requests transferred, unmapped or zeroed.
	Bytes uint64
	// Errors counts failed requests.
	Errors uint64
	// Nanoseconds is the sum of latencies, Latency their histogram.
	Nanoseconds uint64
	Latency     [Buckets]uint64
}

// Snapshot holds the counters by filter.Op.Index. Requests under way may be
// counted in part.
type Snapshot [filter.NumOps]Counters

// Of returns the counters of a kind.
func (s *Snapshot) Of(op filter.Op) *Counters { return &s[op.Index()] }

// Option changes a filter.
type Option func(*hook)

// WithClock replaces the clock; now returns monotonic nanoseconds, and is
// called concurrently.
func WithClock(now func() int64) Option { return func(h *hook) { h.now = now } }

// Backend is a backend that is counted. It passes luns.Trier on, but not
// luns.Mapper: what is read and written in memory cannot be counted.
type Backend struct {
	*filter.Backend
	hook *hook
}

// New returns next, counted, and takes next.
func New(next luns.Backend, opts ...Option) *Backend {
	start := time.Now()
	h := &hook{now: func() int64 { return int64(time.Since(start)) }}
	for _, o := range opts {
		o(h)
	}
	return &Backend{Backend: filter.Wrap(next, h, true), hook: h}
}

// Snapshot returns the counters since New.
func (b *Backend) Snapshot() Snapshot {
	var s Snapshot
	for i := range s {
		c := &b.hook.counters[i]
		s[i] = Counters{
			Ops:         c.ops.Load(),
			Bytes:       c.bytes.Load(),
			Errors:      c.errors.Load(),
			Nanoseconds: c.nanoseconds.Load(),
		}
		for j := range c.latency {
			s[i].Latency[j] = c.latency[j].Load()
		}
	}
	return s
}

type counters struct {
	ops, bytes, errors, nanoseconds atomic.Uint64
	latency                         [Buckets]atomic.Uint64
}

type hook struct {
	now      func() int64
	counters [filter.NumOps]counters
}

// Before implements filter.Hook.
func (h *hook) Before(context.Context, filter.Request) (filter.Token, error) {
	return filter.Token{N: h.now()}, nil
}

// After implements filter.Hook.
func (h *hook) After(r filter.Request, tok filter.Token, err error) error {
	c := &h.counters[r.Op.Index()]
	d := uint64(max(h.now()-tok.N, 0))
	c.ops.Add(1)
	c.nanoseconds.Add(d)
	c.latency[min(bits.Len64(d), Buckets-1)].Add(1)
	switch {
	case err != nil:
		c.errors.Add(1)
	case r.Op&(filter.Read|filter.Write|filter.Unmap|filter.WriteZeroes) != 0:
		c.bytes.Add(uint64(r.Len))
	}
	return err
}

var _ luns.Backend = (*Backend)(nil)

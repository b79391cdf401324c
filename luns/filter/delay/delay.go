// Package delay is a filter that makes requests slower, to test what is above
// it with slow media.
package delay

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
)

// Latency is how long the requests of some kinds wait before they are served.
type Latency struct {
	// Ops are the kinds; filter.All for all.
	Ops filter.Op
	// Fixed is waited by each, and a random time in [0, Random) on top.
	Fixed, Random time.Duration
}

// Option changes how a filter waits.
type Option func(*hook)

// WithSleep replaces the clock. sleep returns nil after d, or ctx.Err() when
// ctx ends before.
func WithSleep(sleep func(ctx context.Context, d time.Duration) error) Option {
	return func(h *hook) { h.sleep = sleep }
}

// WithRand replaces the source of random times. random returns a number in
// [0, n), and is called concurrently.
func WithRand(random func(n int64) int64) Option {
	return func(h *hook) { h.random = random }
}

// Backend is a backend with latency. It has no luns.Trier, as every request
// may have to wait.
type Backend struct {
	*filter.Backend
	hook *hook
}

// New returns next with the given latencies, and takes next. Of several that
// name the same kind the last one counts. Close does not cut waits short: they
// look like requests that the device has accepted. A context does.
func New(next luns.Backend, latencies []Latency, opts ...Option) *Backend {
	h := &hook{sleep: sleep, random: rand.Int64N}
	for _, o := range opts {
		o(h)
	}
	b := &Backend{Backend: filter.Wrap(next, h, false), hook: h}
	b.Set(latencies)
	return b
}

// Set replaces the latencies, for requests that come after it.
func (b *Backend) Set(latencies []Latency) {
	var table [filter.NumOps]Latency
	for _, l := range latencies {
		for i := range table {
			if l.Ops&(1<<i) != 0 {
				table[i] = l
			}
		}
	}
	b.hook.table.Store(&table)
}

type hook struct {
	sleep  func(ctx context.Context, d time.Duration) error
	random func(n int64) int64
	table  atomic.Pointer[[filter.NumOps]Latency]
}

// Before implements filter.Hook.
func (h *hook) Before(ctx context.Context, r filter.Request) (filter.Token, error) {
	l := h.table.Load()[r.Op.Index()]
	d := l.Fixed
	if l.Random > 0 {
		d += time.Duration(h.random(int64(l.Random)))
	}
	if d <= 0 {
		return filter.Token{}, nil
	}
	return filter.Token{}, h.sleep(ctx, d)
}

// After implements filter.Hook.
func (h *hook) After(_ filter.Request, _ filter.Token, err error) error { return err }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

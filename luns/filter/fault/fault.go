// Package fault is a filter that makes requests fail, hang or panic, switched
// on and off while the backend is in use.
package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
)

// Action is what a rule does to a request.
type Action uint8

// The actions.
const (
	// Fail fails the request; the backend does not see it.
	Fail Action = iota
	// FailAfter lets the backend serve the request, and fails it then.
	FailAfter
	// Torn stores the first Rule.Bytes bytes of a write, rounded down to
	// whole blocks, and fails it. It fails other requests as Fail does.
	Torn
	// Hang keeps the request, whatever happens to its context, as a dead
	// disk does, until the injection is removed; then the backend serves it.
	// Close waits for it too.
	Hang
	// Panic panics on the goroutine of the caller.
	Panic
)

// String returns the name of the action, or its number.
func (a Action) String() string {
	names := [...]string{"fail", "fail_after", "torn", "hang", "panic"}
	if int(a) < len(names) {
		return names[a]
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// Rule says which requests are hit, and how.
type Rule struct {
	// Ops are the kinds of requests; 0 stands for all.
	Ops filter.Op
	// Off and Len, in bytes, restrict the rule to requests that touch this
	// range. Len 0 stands for everything, requests without a range included.
	Off, Len int64
	// Rate is the probability of a hit, 0 < Rate <= 1; 0 stands for 1.
	Rate float64
	// Skip lets that many matching requests pass first.
	Skip int64
	// Count ends the rule after that many hits; 0 stands for no end. 1 is
	// one-shot.
	Count int64
	// Action is what happens.
	Action Action
	// Err is the error; nil stands for luns.ErrMedium.
	Err error
	// Bytes is how much of a write is stored by Torn.
	Bytes int64
}

// Option changes a filter.
type Option func(*Backend)

// WithRand replaces the source of the numbers in [0, 1) that Rule.Rate is
// compared with; it is called concurrently.
func WithRand(random func() float64) Option { return func(b *Backend) { b.random = random } }

// Backend is a backend with faults. It has no luns.Trier and no luns.Mapper,
// which would go past the rules.
type Backend struct {
	*filter.Backend
	random func() float64

	mu sync.Mutex // serialises changes of rules
	// rules is replaced, never changed.
	rules atomic.Pointer[[]*Injection]

	// inside is held shared by requests on their way through, so that Close
	// waits for those that hang.
	inside sync.WaitGroup
	gate   sync.RWMutex
	closed bool
}

// New returns next behind a filter without rules, and takes next.
func New(next luns.Backend, opts ...Option) *Backend {
	b := &Backend{random: rand.Float64}
	for _, o := range opts {
		o(b)
	}
	b.rules.Store(new([]*Injection))
	b.Backend = filter.Wrap(next, b, false)
	return b
}

// Injection is a rule in force.
type Injection struct {
	rule     Rule
	b        *Backend
	seen     atomic.Int64
	hits     atomic.Int64
	hanging  atomic.Int64
	released chan struct{}
	once     sync.Once
}

// Inject puts a rule in force. The first rule that hits a request decides.
func (b *Backend) Inject(r Rule) *Injection {
	if r.Ops == 0 {
		r.Ops = filter.All
	}
	if r.Err == nil {
		r.Err = fmt.Errorf("injected: %w", luns.ErrMedium)
	}
	i := &Injection{rule: r, b: b, released: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	rules := append(slices.Clone(*b.rules.Load()), i)
	b.rules.Store(&rules)
	return i
}

// Clear removes all rules, and lets what hangs go on.
func (b *Backend) Clear() {
	for _, i := range *b.rules.Load() {
		i.Remove()
	}
}

// Remove takes the rule out of force and lets the requests that hang go on.
// Removing twice is harmless.
func (i *Injection) Remove() {
	i.b.mu.Lock()
	rules := slices.DeleteFunc(slices.Clone(*i.b.rules.Load()), func(o *Injection) bool { return o == i })
	i.b.rules.Store(&rules)
	i.b.mu.Unlock()
	i.once.Do(func() { close(i.released) })
}

// Hits returns how many requests the rule has hit.
func (i *Injection) Hits() int64 { return i.hits.Load() }

// Hanging returns how many requests hang now.
func (i *Injection) Hanging() int64 { return i.hanging.Load() }

// hit decides whether the rule acts on r, and counts.
func (i *Injection) hit(r filter.Request) bool {
	u := &i.rule
	if u.Ops&r.Op == 0 {
		return false
	}
	if u.Len > 0 && (r.Off >= u.Off+u.Len || r.Off+r.Len <= u.Off) {
		return false
	}
	if u.Rate > 0 && u.Rate < 1 && i.b.random() >= u.Rate {
		return false
	}
	if i.seen.Add(1) <= u.Skip {
		return false
	}
	n := i.hits.Add(1)
	if u.Count > 0 && n > u.Count {
		i.hits.Add(-1)
		return false
	}
	return true
}

// Before implements filter.Hook.
func (b *Backend) Before(ctx context.Context, r filter.Request) (filter.Token, error) {
	for _, i := range *b.rules.Load() {
		if !i.hit(r) {
			continue
		}
		return b.act(ctx, i, r)
	}
	return filter.Token{}, nil
}

func (b *Backend) act(ctx context.Context, i *Injection, r filter.Request) (filter.Token, error) {
	switch i.rule.Action {
	case FailAfter:
		return filter.Token{V: i.rule.Err}, nil
	case Torn:
		n := min(i.rule.Bytes, r.Len)
		n -= n % int64(b.Info().BlockSize)
		if r.Op == filter.Write && n > 0 {
			if err := b.Next().WriteAt(ctx, r.Data[:n], r.Off, 0); err != nil {
				return filter.Token{}, err
			}
		}
		return filter.Token{}, i.rule.Err
	case Hang:
		if !b.stay() {
			return filter.Token{}, luns.ErrClosed
		}
		defer b.inside.Done()
		i.hanging.Add(1)
		<-i.released
		i.hanging.Add(-1)
		return filter.Token{}, nil
	case Panic:
		panic(fmt.Sprintf("fault: injected panic in %v at %d", r.Op, r.Off))
	default:
		return filter.Token{}, i.rule.Err
	}
}

// After implements filter.Hook.
func (b *Backend) After(_ filter.Request, tok filter.Token, err error) error {
	if late, ok := tok.V.(error); ok && err == nil {
		return late
	}
	return err
}

// stay counts a request that is going to hang, unless Close has begun.
func (b *Backend) stay() bool {
	b.gate.RLock()
	defer b.gate.RUnlock()
	if b.closed {
		return false
	}
	b.inside.Add(1)
	return true
}

// Close implements luns.Backend. It waits for what hangs.
func (b *Backend) Close() error {
	b.gate.Lock()
	b.closed = true
	b.gate.Unlock()
	b.inside.Wait()
	return b.Backend.Close()
}

package runtime

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/internal/hclogslog"
)

// System is a tree of actors with one root. All methods are safe for concurrent
// use.
type System struct {
	as     *actor.ActorSystem
	log    hclog.Logger
	clock  Clock
	jitter func(time.Duration) time.Duration
	seq    atomic.Uint64 // makes the library's process ids unique
	rec    recorder
	work   tracker
	done   chan struct{}

	spawned, stopped, failures, restarts, gaveUp, dropped atomic.Uint64

	mu       sync.Mutex
	cells    map[string]*cell // guarded by mu; the living actors by path
	root     *cell            // guarded by mu
	shutting bool             // guarded by mu
}

// NewSystem returns a system without actors. It starts no goroutine.
func NewSystem(o Options) *System {
	s := &System{
		log: o.Logger, clock: o.Clock, jitter: o.Jitter,
		cells: make(map[string]*cell), done: make(chan struct{}),
	}
	if s.log == nil {
		s.log = hclog.NewNullLogger()
	}
	if s.clock == nil {
		s.clock = systemClock{}
	}
	if s.jitter == nil {
		s.jitter = func(d time.Duration) time.Duration { return rand.N(d/5 + 1) }
	}
	if o.Events <= 0 {
		o.Events = defaultEvents
	}
	s.rec.ring = make([]Event, o.Events)
	s.rec.subs = make(map[int]func(Event))
	s.rec.tokens, s.rec.refilled = logBurst, s.clock.Now()
	s.work.names = make(map[string]int)
	s.as = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
			// Its Info is about its own inner life: our Debug.
			return slog.New(hclogslog.New(s.log.Named("protoactor"), hclogslog.InfoAs(hclog.Debug)))
		}),
		// The throttle of the dead letters sleeps in a goroutine for so long.
		actor.WithDeadLetterThrottleInterval(time.Millisecond),
	)
	return s
}

// SpawnRoot starts the root actor, once in the life of a system. Its Policy is
// not used: when it panics it is stopped, Done closed and Err set.
func (s *System) SpawnRoot(spec Spec) (Ref, error) {
	c, err := s.newCell(nil, spec)
	if err != nil {
		return Ref{}, err
	}
	if _, err := s.as.Root.SpawnNamed(c.props(), c.id); err != nil {
		s.remove(c)
		return Ref{}, err
	}
	return Ref{c}, nil
}

// newCell checks spec and enters the actor into the table.
func (s *System) newCell(parent *cell, spec Spec) (*cell, error) {
	if spec.Name == "" || strings.Contains(spec.Name, "/") {
		return nil, ErrName
	}
	if spec.New == nil {
		return nil, ErrNoProducer
	}
	c := &cell{
		sys: s, parent: parent, spec: spec, policy: spec.Policy.withDefaults(),
		path: spec.Name, born: s.clock.Now(), done: make(chan struct{}),
	}
	// A number that is never used again keeps the library, which knows actors
	// by name, from taking one for an earlier one.
	c.id = spec.Name + "#" + strconv.FormatUint(s.seq.Add(1), 36)
	if parent != nil {
		c.path = parent.path + "/" + spec.Name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case parent == nil && s.shutting:
		return nil, ErrStopped
	case parent == nil && s.root != nil:
		return nil, ErrRootExists
	case s.cells[c.path] != nil:
		return nil, ErrNameExists
	}
	c.mb = newMailbox()
	if spec.Pump != nil {
		c.mb = &spec.Pump.mb
	}
	if !c.mb.attach(c) {
		return nil, ErrPumpInUse
	}
	s.cells[c.path] = c
	s.spawned.Add(1)
	if parent == nil {
		s.root = c
	}
	return c, nil
}

// remove takes a stopped actor out of the table.
func (s *System) remove(c *cell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cells, c.path)
}

// Send is Context.Send for code outside of actors.
func (s *System) Send(ref Ref, msg any) bool {
	if ref.c == nil || msg == nil {
		return false
	}
	return ref.c.mb.post(msg)
}

// Stop is Context.Stop for code outside of actors.
func (s *System) Stop(ref Ref) {
	if ref.c != nil {
		ref.c.mb.postSystem(stopMessage)
	}
}

// Done is closed when the root actor has stopped, for whatever reason.
func (s *System) Done() <-chan struct{} { return s.done }

// Err returns the failure of the root actor, nil if it did not fail. The error
// is a *Failure by errors.As.
func (s *System) Err() error {
	s.mu.Lock()
	root := s.root
	s.mu.Unlock()
	if root == nil {
		return nil
	}
	return rootError(root.death.Load())
}

// Shutdown stops the root actor and with it all others, then waits for every
// actor and every goroutine of Go to end. If ctx ends first, the error names
// one that would not. It may be called again.
func (s *System) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	root, again := s.root, s.shutting
	s.shutting = true
	s.mu.Unlock()
	if root != nil {
		root.mb.postSystem(stopMessage)
	} else if !again {
		close(s.done)
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return s.stuck(ctx)
	}
	select {
	case <-s.work.idle():
	case <-ctx.Done():
		return s.stuck(ctx)
	}
	if !again {
		s.as.Shutdown()
	}
	return nil
}

// stuck says what keeps Shutdown waiting.
func (s *System) stuck(ctx context.Context) error {
	for _, a := range slices.Backward(s.Actors()) { // children after parents
		return fmt.Errorf("shutdown: actor %s is %s, last message %s: %w", a.Path, a.State, a.LastMessage, context.Cause(ctx))
	}
	for name := range s.Goroutines() {
		return fmt.Errorf("shutdown: goroutine %s still runs: %w", name, context.Cause(ctx))
	}
	return fmt.Errorf("shutdown: %w", context.Cause(ctx))
}

// Actors returns the living actors, sorted by path.
func (s *System) Actors() []Info {
	s.mu.Lock()
	cells := make([]*cell, 0, len(s.cells))
	for _, c := range s.cells {
		cells = append(cells, c)
	}
	s.mu.Unlock()
	now := s.clock.Now()
	infos := make([]Info, 0, len(cells))
	for _, c := range cells {
		if i, ok := c.info(now); ok {
			infos = append(infos, i)
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Path, b.Path) })
	return infos
}

// info returns the console's view of c; false while Spawn is still at it.
func (c *cell) info(now time.Time) (Info, bool) {
	i := Info{
		Ref: Ref{c}, Path: c.path, Kind: c.kind(), State: State(c.state.Load()),
		Pump: c.spec.Pump != nil, Restarts: c.restarts.Load(), Failures: c.failures.Load(),
		Age: now.Sub(c.born),
	}
	if b := c.behaviour.Load(); b != nil {
		i.Behaviour = *b
	}
	m := c.mb
	m.mu.Lock()
	defer m.mu.Unlock()
	i.Busy, i.Depth, i.MaxDepth, i.Processed = m.running, m.user.len(), m.maxDepth, m.processed
	if m.last != nil {
		i.LastMessage = m.last.String()
	}
	return i, m.inv != nil
}

// Counters returns the totals.
func (s *System) Counters() Counters {
	return Counters{
		Spawned: s.spawned.Load(), Stopped: s.stopped.Load(), Failures: s.failures.Load(),
		Restarts: s.restarts.Load(), GaveUp: s.gaveUp.Load(), Dropped: s.dropped.Load(),
	}
}

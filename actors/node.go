package actors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu/chap"
)

// Limits bound what the node does for its peers. Zero fields have defaults.
type Limits struct {
	Sessions       int           // sessions at once
	LoginTimeout   time.Duration // from accept to the full feature phase
	NopInterval    time.Duration // silence before the target pings
	NopTimeout     time.Duration // silence after the ping that ends the connection
	LogoutTimeout  time.Duration // what an initiator has that is asked to log out; whole seconds
	ManageTimeout  time.Duration // what a task management function may take
	BufferMemory   int64         // bytes of data buffers in all
	CommandWindow  int           // commands in flight per session
	LoginsAtOnce   int           // connections that have not logged in, in all
	LoginsPerAddr  int           // the same from one address
	RestartsPerLUN int           // restarts of a LUN within 30 s before it goes offline
}

func (l Limits) withDefaults() Limits {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.Sessions, 1024)
	def(&l.CommandWindow, 128)
	def(&l.LoginsAtOnce, 512)
	def(&l.LoginsPerAddr, 64)
	def(&l.RestartsPerLUN, 5)
	dur(&l.LoginTimeout, 15*time.Second)
	dur(&l.NopInterval, 5*time.Second)
	dur(&l.NopTimeout, 5*time.Second)
	dur(&l.LogoutTimeout, 10*time.Second)
	dur(&l.ManageTimeout, 10*time.Second)
	if l.BufferMemory == 0 {
		l.BufferMemory = 1 << 30
	}
	return l
}

// Options make a node.
type Options struct {
	Logger         hclog.Logger
	Limits         Limits
	FaultInjection bool // allows Inject
}

// Node is the running tree and the door to it for the rest of the program. Its
// methods are safe for concurrent use and are not for actors.
type Node struct {
	log    hclog.Logger
	limits Limits // as they were at first; see Limits and SetLimits
	inject bool

	changed atomic.Pointer[Limits]

	sys      *runtime.System
	root     runtime.Ref
	sessions runtime.Ref

	pool       *bufpool.Pool // data of tasks
	rxPool     *bufpool.Pool // receive buffers
	challenges chap.Outstanding
	orphans    iscsi.Orphans
	logins     loginLog
	traffic    [trafficShards]iscsi.Traffic

	tsih atomic.Uint32
	conn atomic.Uint64

	shards atomic.Uint32

	memories  iser.Memories                  // what RDMA may send from without a copy
	rdmaMu    sync.Mutex                     // guards providers
	providers map[verbs.Provider]runtime.Ref // the actors of RDMA providers

	mu        sync.Mutex // serialises changes of the registry and of observers
	registry  atomic.Pointer[registry]
	observers atomic.Pointer[[]observer]
}

// NewNode starts an empty tree.
func NewNode(o Options) (*Node, error) {
	log := o.Logger
	if log == nil {
		log = hclog.NewNullLogger()
	}
	n := &Node{log: log, limits: o.Limits.withDefaults(), inject: o.FaultInjection}
	n.pool = bufpool.New(n.limits.BufferMemory)
	n.rxPool = bufpool.New(n.limits.BufferMemory)
	n.registry.Store(&registry{})
	n.sys = runtime.NewSystem(runtime.Options{Logger: log})
	root, err := n.sys.SpawnRoot(runtime.Spec{Name: "node", Kind: "node", New: n.actor(func() runtime.Actor { return &rootActor{n: n} })})
	if err != nil {
		return nil, fmt.Errorf("actors: %w", err)
	}
	n.root = root
	n.sessions, err = n.spawn(context.Background(), runtime.Spec{
		Name: "sessions", Kind: "sessions", New: n.actor(func() runtime.Actor { return newSupervisor(n) }),
	}, nil)
	return n, err
}

// spawn starts a child of the root. gaveUp is called, in the root's context,
// when the child has failed too often and is stopped for good.
func (n *Node) spawn(ctx context.Context, spec runtime.Spec, gaveUp func(*runtime.Failure)) (runtime.Ref, error) {
	type answer struct {
		ref runtime.Ref
		err error
	}
	a, err := runtime.Call(ctx, n.sys, n.root, func(reply func(answer)) any {
		return spawnChild{spec: spec, gaveUp: gaveUp, reply: func(r runtime.Ref, err error) { reply(answer{r, err}) }}
	})
	if err != nil {
		return runtime.Ref{}, err
	}
	return a.ref, a.err
}

// gone waits until an actor that was told to stop has stopped: its name can be
// used again then.
func (n *Node) gone(ctx context.Context, ref runtime.Ref) error {
	_, err := runtime.Call(ctx, n.sys, ref, func(func(struct{})) any { return awaitEnd{} })
	if errors.Is(err, runtime.ErrStopped) {
		return nil
	}
	return err
}

// awaitEnd has no answer but the end of the actor.
type awaitEnd struct{}

// rootActor spawns the long-lived children and knows what to do when one of
// them fails for good.
type rootActor struct {
	n      *Node
	gaveUp map[runtime.Ref]func(*runtime.Failure)
}

type spawnChild struct {
	spec   runtime.Spec
	gaveUp func(*runtime.Failure)
	reply  func(runtime.Ref, error)
}

// Receive implements runtime.Actor.
func (a *rootActor) Receive(ctx runtime.Context, msg any) {
	switch m := msg.(type) {
	case runtime.Started:
		a.gaveUp = make(map[runtime.Ref]func(*runtime.Failure))
	case spawnChild:
		ref, err := ctx.Spawn(m.spec)
		if err == nil && m.gaveUp != nil {
			a.gaveUp[ref] = m.gaveUp
		}
		m.reply(ref, err)
	case runtime.GaveUp:
		ctx.Log().Error("stopped for good after too many faults", "actor", m.Ref.Path(), "reason", m.Reason)
		if f := a.gaveUp[m.Ref]; f != nil {
			f(m.Reason)
		}
	case runtime.Terminated:
		delete(a.gaveUp, m.Ref)
	case ping:
		m.reply(struct{}{})
	}
}

// Shutdown ends the node in order: no new connections, a request to log out to
// every initiator, time for them to do it, then everything stops and backends
// are flushed. An error means that ctx ended before all was down.
func (n *Node) Shutdown(ctx context.Context) error {
	for _, p := range n.registry.Load().portals {
		p.close()
	}
	if drainErr := n.drain(ctx, false); drainErr != nil {
		n.log.Warn("initiators did not log out in time", "reason", drainErr)
		told, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
		_ = n.drain(told, true) // as far as they close their side
		cancel()
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return n.sys.Shutdown(final)
}

// dropTime is what initiators that have not logged out get to close a connection
// that is dropped.
const dropTime = 500 * time.Millisecond

// drain asks all sessions to end, or with drop ends them, and waits until they
// have.
func (n *Node) drain(ctx context.Context, drop bool) error {
	seconds := uint16(5)
	if d, ok := ctx.Deadline(); ok {
		seconds = uint16(max(1, min(3600, int(time.Until(d)/time.Second))))
	}
	_, err := runtime.Call(ctx, n.sys, n.sessions, func(reply func(struct{})) any {
		return drainSessions{seconds: seconds, drop: drop, reply: func() { reply(struct{}{}) }}
	})
	return err
}

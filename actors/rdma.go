package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
)

// ServeISER makes addr an iSER portal of group, over the devices of prov that
// have the address. The node borrows prov until Shutdown. It returns at once, with
// the address in use; stop ends listening and leaves connections alone.
func (n *Node) ServeISER(ctx context.Context, prov verbs.Provider, addr netip.AddrPort, group *PortalGroup, opts ...PortalOption) (at netip.AddrPort, stop func(), err error) {
	p := newPortal(group, opts)
	p.provider, p.inlet = prov.Name(), nil
	l, err := n.listenISER(ctx, prov, listenRDMA{addr: addr, portal: p})
	if err != nil {
		return at, nil, fmt.Errorf("portal %v: %w", addr, err)
	}
	p.listener = rdmaListener{l}
	portalRef, err := n.spawn(ctx, runtime.Spec{
		Name: "portal-iser-" + l.Addr().String(), Kind: "portal",
		New: n.actor(func() runtime.Actor { return &portalActor{n: n, p: p} }),
	}, func(*runtime.Failure) { l.Close() })
	if err != nil {
		return at, nil, errors.Join(fmt.Errorf("portal %v: %w", addr, err), l.Close())
	}
	err = n.update(func(r *registry) error {
		r.portals = append(r.portals, p)
		return nil
	})
	if err != nil {
		return at, nil, err
	}
	n.log.Info("portal is listening", "address", l.Addr().String(), "group", group.Name, "tag", group.Tag,
		"transport", "iser", "provider", prov.Name())
	return l.Addr(), func() { n.endPortal(p, portalRef) }, nil
}

// listenISER has the actor of prov do m, and returns the listener.
func (n *Node) listenISER(ctx context.Context, prov verbs.Provider, m listenRDMA) (*iser.Listener, error) {
	ref, err := n.rdma(ctx, prov)
	if err != nil {
		return nil, err
	}
	type answer struct {
		l   *iser.Listener
		err error
	}
	a, err := runtime.Call(ctx, n.sys, ref, func(reply func(answer)) any {
		m.reply = func(l *iser.Listener, err error) { reply(answer{l, err}) }
		return m
	})
	return a.l, errors.Join(err, a.err)
}

// rdmaListener is an iSER listener in the place of a socket's; connections come
// from its engine, not from Accept.
type rdmaListener struct{ l *iser.Listener }

// Accept implements net.Listener.
func (rdmaListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// Close implements net.Listener.
func (r rdmaListener) Close() error { return r.l.Close() }

// Addr implements net.Listener.
func (r rdmaListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(r.l.Addr()) }

// rdma returns the actor of a provider, and starts it when it is the first time.
func (n *Node) rdma(ctx context.Context, prov verbs.Provider) (runtime.Ref, error) {
	n.rdmaMu.Lock()
	defer n.rdmaMu.Unlock()
	if ref, ok := n.providers[prov]; ok {
		return ref, nil
	}
	held := new(iserEngine)
	ref, err := n.spawn(ctx, runtime.Spec{
		Name: "rdma-" + prov.Name(), Kind: "rdma",
		New: n.actor(func() runtime.Actor { return &rdmaActor{n: n, prov: prov, iserEngine: held} }),
		// Its engine outlives a restart: there is nothing to give up for.
		Policy: runtime.Policy{MaxRestarts: math.MaxInt, MaxBackoff: 200 * time.Millisecond},
	}, nil)
	if err != nil {
		return ref, fmt.Errorf("RDMA provider %s: %w", prov.Name(), err)
	}
	if n.providers == nil {
		n.providers = make(map[verbs.Provider]runtime.Ref)
	}
	n.providers[prov] = ref
	return ref, nil
}

// Messages of a provider's actor.
type (
	listenRDMA struct {
		addr   netip.AddrPort
		portal *portal
		inlet  bool // for connections to the TCP portal at addr
		reply  func(*iser.Listener, error)
	}
	rdmaUsage   struct{ reply func(iser.Usage) }
	rdmaDevices struct{ reply func([]iser.DeviceUsage) }
)

// iserEngine is what a restart of the actor leaves alone.
type iserEngine struct {
	engine *iser.Engine // nil before the first start and when err is not nil
	err    error
}

// rdmaActor owns the engine of one RDMA provider: listeners, devices and the
// pumps of their completion queues. They run on goroutines of their own and end
// what a fault of theirs concerns: connections, or a completion queue with its
// connections. The fault comes here, so that supervision counts and shows it; the
// engine goes on over restarts of this actor and ends with it.
type rdmaActor struct {
	n    *Node
	prov verbs.Provider
	*iserEngine
}

// Receive implements runtime.Actor.
func (a *rdmaActor) Receive(ctx runtime.Context, msg any) {
	switch m := msg.(type) {
	case runtime.Started:
		a.start(ctx)
	case listenRDMA:
		if a.err != nil {
			m.reply(nil, a.err)
			return
		}
		m.reply(a.listen(m))
	case rdmaUsage:
		var u iser.Usage
		if a.engine != nil {
			u = a.engine.Usage()
		}
		m.reply(u)
	case rdmaDevices:
		var u []iser.DeviceUsage
		if a.engine != nil {
			u = a.engine.Devices()
		}
		m.reply(u)
	case fault:
		panic(&backendFault{value: m.value, stack: m.stack})
	case runtime.Stopping:
		if a.engine != nil {
			a.engine.Close()
		}
	}
}

func (a *rdmaActor) start(ctx runtime.Context) {
	if a.engine == nil {
		a.engine, a.err = iser.NewEngine(a.prov, a.config(ctx))
	}
	ctx.SetBehaviour("running")
	if a.err != nil {
		ctx.SetBehaviour("unavailable")
	}
}

func (a *rdmaActor) config(ctx runtime.Context) iser.Config {
	log, self := ctx.Log(), ctx.Self()
	return iser.Config{
		Start:  a.n.sys.Go,
		Report: func(msg string, kv ...any) { log.Warn(msg, kv...) },
		Fault: func(value any, stack []byte) {
			a.n.sys.Send(self, fault{value: value, stack: string(stack)})
		},
		Memories:      &a.n.memories,
		PoolMemory:    a.n.limits.BufferMemory,
		CommandWindow: a.n.limits.CommandWindow,
	}
}

// listen has connections handed to the supervisor of sessions.
func (a *rdmaActor) listen(m listenRDMA) (*iser.Listener, error) {
	n := a.n
	listen := a.engine.Listen
	if m.inlet {
		listen = a.engine.Inlet
	}
	return listen(m.addr, func(r *iser.Request) {
		if !n.sys.Send(n.sessions, newConn{link: iserLink{r}, portal: m.portal}) {
			r.Refuse()
		}
	})
}

// RDMAUsage is what the providers in use hold.
func (n *Node) RDMAUsage(ctx context.Context) (iser.Usage, error) {
	var sum iser.Usage
	for _, ref := range n.rdmaActors() {
		u, err := runtime.Call(ctx, n.sys, ref, func(reply func(iser.Usage)) any { return rdmaUsage{reply} })
		if err != nil {
			return sum, err
		}
		sum.Connections += u.Connections
		sum.Registered += u.Registered
		sum.InUse += u.InUse
	}
	return sum, nil
}

// RDMADevices is what each device of the providers in use holds and has done.
func (n *Node) RDMADevices(ctx context.Context) ([]iser.DeviceUsage, error) {
	byName := make(map[string]*iser.DeviceUsage)
	for _, ref := range n.rdmaActors() {
		u, err := runtime.Call(ctx, n.sys, ref, func(reply func([]iser.DeviceUsage)) any { return rdmaDevices{reply} })
		if err != nil {
			return nil, err
		}
		for i := range u {
			if known := byName[u[i].Device]; known != nil {
				known.Add(&u[i])
			} else {
				byName[u[i].Device] = &u[i]
			}
		}
	}
	var out []iser.DeviceUsage
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, *byName[name])
	}
	return out, nil
}

func (n *Node) rdmaActors() []runtime.Ref {
	n.rdmaMu.Lock()
	defer n.rdmaMu.Unlock()
	return slices.Collect(maps.Values(n.providers))
}

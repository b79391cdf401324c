package actors

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/tcp"
)

// Serve makes l a portal of group. The node takes l. It returns at once; l is
// accepting until Shutdown or until the returned function is called, which
// leaves existing connections alone.
func (n *Node) Serve(ctx context.Context, l net.Listener, group *PortalGroup, opts ...PortalOption) (stop func(), err error) {
	p := newPortal(group, opts)
	p.listener = l
	if at := addrPort(l.Addr()); p.inlet != nil && at.IsValid() {
		p.inlet.n, p.inlet.addr = n, at
	} else {
		p.inlet = nil
	}
	ref, err := n.spawn(ctx, runtime.Spec{
		Name: "portal-" + l.Addr().String(), Kind: "portal",
		New: n.actor(func() runtime.Actor { return &portalActor{n: n, p: p} }),
	}, func(*runtime.Failure) { n.sys.Go("close", p.close) })
	if err != nil {
		return nil, fmt.Errorf("portal %v: %w", l.Addr(), err)
	}
	err = n.update(func(r *registry) error {
		r.portals = append(r.portals, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	n.sys.Go("accept", func() { n.accept(p, ref) })
	carries := "tcp"
	if p.inlet != nil {
		carries = "tcp, iser in software"
	}
	n.log.Info("portal is listening", "address", l.Addr().String(), "group", group.Name, "tag", group.Tag, "transport", carries)
	return func() { n.endPortal(p, ref) }, nil
}

// endPortal closes a portal. On return its address can be another one's.
func (n *Node) endPortal(p *portal, ref runtime.Ref) {
	p.close()
	n.sys.Stop(ref)
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if err := n.gone(ctx, ref); err != nil {
		n.log.Warn("a portal does not end", "address", p.listener.Addr().String(), "reason", err)
	}
	_ = n.update(func(r *registry) error {
		for i, q := range r.portals {
			if q == p {
				r.portals = append(r.portals[:i], r.portals[i+1:]...)
				break
			}
		}
		return nil
	})
}

// accept takes connections until the listener is closed. It is not part of the
// actor: a fault of the portal must not lose what is in the backlog.
func (n *Node) accept(p *portal, ref runtime.Ref) {
	const first, most = 5 * time.Millisecond, time.Second
	wait := first
	for {
		sock, err := p.listener.Accept()
		switch {
		case err == nil:
			wait = first
			if !n.sys.Send(ref, accepted{sock: sock, portal: p}) {
				sock.Close()
				return
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// Out of file descriptors, most often: existing sessions go on.
			n.log.Warn("cannot accept a connection", "address", p.listener.Addr().String(), "reason", err, "retry", wait)
			time.Sleep(wait)
			wait = min(2*wait, most)
		}
	}
}

// Dial returns a connection to the node that leaves the process on no network.
func (n *Node) Dial(group *PortalGroup) (net.Conn, error) {
	ours, theirs, err := tcp.Pair()
	if err != nil {
		return nil, err
	}
	if !n.sys.Send(n.sessions, newConn{link: tcpLink{theirs}, portal: &portal{group: group}}) {
		ours.Close()
		theirs.Close()
		return nil, net.ErrClosed
	}
	return ours, nil
}

type accepted struct {
	sock   net.Conn
	portal *portal
}

// portalActor hands connections to the supervisor of sessions.
type portalActor struct {
	n *Node
	p *portal
}

// Receive implements runtime.Actor.
func (a *portalActor) Receive(ctx runtime.Context, msg any) {
	switch m := msg.(type) {
	case runtime.Started:
		ctx.SetBehaviour("listening")
	case accepted:
		sock, err := tcp.AsSocket(m.sock, a.n.sys.Go)
		if err != nil {
			ctx.Log().Warn("cannot use a connection", "peer", m.sock.RemoteAddr(), "reason", err)
			m.sock.Close()
			return
		}
		if !ctx.Send(a.n.sessions, newConn{link: tcpLink{sock}, portal: m.portal}) {
			sock.Close()
		}
	}
}

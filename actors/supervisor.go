package actors

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu/login"
)

// supervisor is the parent of all connections and sessions. They are not
// children of portals, targets or LUNs, because a restart of a parent stops
// its children.
type supervisor struct {
	n        *Node
	conns    map[runtime.Ref]*connEntry
	sessions map[runtime.Ref]*sessionEntry
	perAddr  map[netip.Addr]int // connections that have not logged in
	strange  int                // the sum of them
	refused  int                // since the last line about it in the log
	draining []func()
}

type connEntry struct {
	peer     netip.Addr
	loggedIn bool
}

// sessionEntry is what is known of a session: enough for a target that has
// lost its memory.
type sessionEntry struct {
	info   SessionInfo
	target *Target
	conn   runtime.Ref
	key    nexusKey
}

// Messages of the supervisor.
type (
	newConn struct {
		link   link
		portal *portal
	}
	newSession struct {
		target *Target // nil for discovery
		conn   runtime.Ref
		result login.Result
		tsih   uint16
		peer   SessionInfo
		reply  func(session runtime.Ref, err error)
	}
	connLoggedIn  struct{ conn runtime.Ref }
	listSessions  struct{ reply func([]SessionInfo) }
	drainSessions struct {
		seconds uint16
		drop    bool // do not ask
		reply   func()
	}
	sessionsOf struct {
		target *Target
		reply  func(map[runtime.Ref]sessionEntry)
	}
	reportRefused struct{}
)

func newSupervisor(n *Node) *supervisor {
	return &supervisor{
		n: n, conns: make(map[runtime.Ref]*connEntry), sessions: make(map[runtime.Ref]*sessionEntry),
		perAddr: make(map[netip.Addr]int),
	}
}

// Receive implements runtime.Actor.
func (a *supervisor) Receive(ctx runtime.Context, msg any) {
	switch m := msg.(type) {
	case newConn:
		a.newConn(ctx, m)
	case newSession:
		a.newSession(ctx, m)
	case connLoggedIn:
		a.acquainted(m.conn)
	case runtime.Terminated:
		a.gone(m.Ref)
	case listSessions:
		out := make([]SessionInfo, 0, len(a.sessions))
		for _, s := range a.sessions {
			out = append(out, s.info)
		}
		m.reply(out)
	case logoutSession:
		m.reply(a.logout(ctx, m))
	case sessionsOf:
		known := make(map[runtime.Ref]sessionEntry)
		for ref, s := range a.sessions {
			if s.target == m.target {
				known[ref] = *s
			}
		}
		m.reply(known)
	case drainSessions:
		a.draining = append(a.draining, m.reply)
		for ref := range a.conns {
			if m.drop {
				ctx.Send(ref, dropSession{})
			} else {
				ctx.Send(ref, requestLogout{seconds: m.seconds})
			}
		}
		a.drained()
	case reportRefused:
		ctx.Log().Warn("connections refused: too many that have not logged in", "count", a.refused)
		a.refused = 0
	}
}

func (a *supervisor) newConn(ctx runtime.Context, m newConn) {
	peer := addrPort(m.link.RemoteAddr()).Addr()
	if len(a.draining) > 0 {
		m.link.refuse()
		return
	}
	if a.strange >= a.n.limits.LoginsAtOnce || peer.IsValid() && a.perAddr[peer] >= a.n.limits.LoginsPerAddr {
		m.link.refuse()
		if a.refused++; a.refused == 1 {
			ctx.After(time.Second, reportRefused{})
		}
		return
	}
	c, err := newConnActor(a.n, m.link, m.portal, peer)
	if err != nil {
		ctx.Log().Warn("cannot use a connection", "peer", m.link.RemoteAddr().String(), "reason", err)
		return
	}
	pump := runtime.NewPump()
	ref, err := ctx.Spawn(runtime.Spec{
		Name: fmt.Sprintf("conn-%d", a.n.conn.Add(1)), Kind: "conn", Pump: pump,
		New:    a.n.actor(func() runtime.Actor { return c }),
		Policy: runtime.Policy{Directive: runtime.Stop},
	})
	if err != nil {
		ctx.Log().Error("cannot start a connection", "reason", err)
		c.mover.abandon()
		return
	}
	a.conns[ref] = &connEntry{peer: peer}
	a.perAddr[peer]++
	a.strange++
	a.n.sys.Go("serve", func() { c.serve(pump) })
}

// acquainted takes a connection out of the count of strangers.
func (a *supervisor) acquainted(ref runtime.Ref) {
	e := a.conns[ref]
	if e == nil || e.loggedIn {
		return
	}
	e.loggedIn = true
	a.strange--
	if a.perAddr[e.peer]--; a.perAddr[e.peer] == 0 {
		delete(a.perAddr, e.peer)
	}
}

func (a *supervisor) newSession(ctx runtime.Context, m newSession) {
	if len(a.sessions) >= a.n.Limits().Sessions {
		m.reply(runtime.Ref{}, fmt.Errorf("there are %d sessions, as many as limits.sessions allows", len(a.sessions)))
		return
	}
	s := &sessionActor{n: a.n, target: m.target, conn: m.conn, result: m.result, tsih: m.tsih, shown: new(atomic.Pointer[iscsi.Session])}
	ref, err := ctx.Spawn(runtime.Spec{
		Name: fmt.Sprintf("session-%04x", m.tsih), Kind: "session",
		New:    a.n.actor(func() runtime.Actor { return s }),
		Policy: runtime.Policy{Directive: runtime.Stop},
	})
	if err == nil {
		info := m.peer
		info.TSIH, info.ActorPath, info.Since = m.tsih, ref.Path(), time.Now()
		info.describe(&m.result)
		info.session = s.shown
		a.sessions[ref] = &sessionEntry{info: info, target: m.target, conn: m.conn, key: keyOf(&m.result)}
	}
	m.reply(ref, err)
}

func (a *supervisor) gone(ref runtime.Ref) {
	delete(a.sessions, ref)
	if a.conns[ref] != nil {
		a.acquainted(ref)
		delete(a.conns, ref)
	}
	a.drained()
}

func (a *supervisor) drained() {
	if len(a.conns) > 0 || len(a.sessions) > 0 {
		return
	}
	for _, reply := range a.draining {
		reply()
	}
}

// sessionActor is one I_T nexus: it attaches to the LUNs that its initiator may
// see and ends with its connection.
type sessionActor struct {
	n       *Node
	target  *Target
	conn    runtime.Ref
	result  login.Result
	tsih    uint16
	session *iscsi.Session
	shown   *atomic.Pointer[iscsi.Session] // session, for whoever looks
}

// Messages of a session.
type (
	endSession struct {
		why    string
		atOnce bool // the initiator is not told, nor waited for
	}
	lunsChanged struct{}
)

// Receive implements runtime.Actor.
func (a *sessionActor) Receive(ctx runtime.Context, msg any) {
	switch m := msg.(type) {
	case runtime.Started:
		a.start(ctx)
	case lunsChanged:
		if a.target.remap(a.session) {
			ctx.Send(a.conn, scsiEvent{what: scsi.AttentionReportedLUNsChanged})
		}
	case endSession:
		ctx.Log().Info("session ends", "reason", m.why)
		ctx.SetBehaviour("ending")
		if m.atOnce || !ctx.Send(a.conn, dropSession{}) {
			ctx.Stop(a.conn)
		}
	case runtime.Terminated:
		if m.Ref == a.conn {
			ctx.StopSelf()
		}
	case runtime.Stopping:
		ctx.Stop(a.conn)
	case runtime.Stopped:
		if a.session != nil {
			a.session.DetachAll()
		}
	}
}

func (a *sessionActor) start(ctx runtime.Context) {
	ctx.Watch(a.conn)
	ctx.SetBehaviour("logged in")
	s := iscsi.NewSession(a.n.limits.CommandWindow)
	s.Identity, s.TSIH, s.Discovery = a.result.Identity, a.tsih, a.result.Identity.Discovery
	s.ProtocolLevel = a.result.Params.ISCSIProtocolLevel
	if a.target != nil {
		a.target.attach(s, &a.result)
	}
	a.session = s
	a.shown.Store(s)
	if !ctx.Send(a.conn, admitted{session: s, ref: ctx.Self()}) {
		ctx.StopSelf()
	}
}

package actors

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/tcp"
)

// lingerTime is how long a connection that is over waits for its peer to
// close, so that the last response arrives.
const lingerTime = 2 * time.Second

// maxLoginData is the longest data segment of a Login Request. The standard's
// default is 8192 (RFC 7143 §13.12); some initiators send more.
const maxLoginData = 64 << 10

// connActor is one connection: the iSCSI layer and its datamover, joined to
// the tree. Its mailbox is a pump: turns are run inline by the goroutine that
// owns the socket or the completion queue.
type connActor struct {
	n       *Node
	portal  *portal
	peer    netip.Addr
	mover   transport
	engine  *iscsi.Conn
	machine *login.Machine

	ctx         runtime.Context
	log         hclog.Logger
	session     runtime.Ref
	user        string // CHAP user that was proved
	observed    observed
	target      *Target
	stopLogin   func()
	heard       bool // something came since the last tick
	silent      int  // ticks without anything
	pings       int
	lingering   bool
	wantsLogout bool
}

// Messages of a connection.
type (
	wake          struct{}
	loginTimeout  struct{}
	nopTick       struct{}
	nopTimeout    struct{ ping int }
	lingerOver    struct{}
	requestLogout struct{ seconds uint16 }
	dropSession   struct{} // it must end, whatever the initiator does
	scsiEvent     struct { // tell the initiator, where the target's configuration says so
		port *scsi.Port // nil: none in particular
		what scsi.Attention
	}
	admitted struct {
		session *iscsi.Session
		ref     runtime.Ref
	}
	refused struct{ why *login.Refusal }
	managed struct {
		m        *iscsi.Management
		response pdu.TMResponse
		last     bool // the connection ends with the answer
	}
	manageTimeout struct{ m *iscsi.Management }
	abortTasks    struct {
		port *scsi.Port    // nil: of all logical units
		only []*scsi.Nexus // on port; nil: whichever
		by   iscsi.Aborter
		done func(lost *scsi.Nexus) // the nexus, if tasks of it were ended
	}
)

func newConnActor(n *Node, l link, p *portal, peer netip.Addr) (*connActor, error) {
	t, err := l.open(n, p)
	if err != nil {
		return nil, err
	}
	a := &connActor{n: n, portal: p, peer: peer, mover: t}
	policy := &loginPolicy{n: n, portal: p, peer: peer}
	a.machine = login.NewMachine(policy, login.Env{Outstanding: &n.challenges, Transport: t.kind()})
	a.engine = iscsi.NewConn(iscsi.Options{Datamover: dataPath(t), Env: a, Pool: t.pool(), Login: a.machine, Orphans: &n.orphans, Traffic: n.shard()})
	t.bind(a.engine)
	return a, nil
}

// serve has turns of the transport run by the actor's pump.
func (a *connActor) serve(pump *runtime.Pump) {
	err := a.mover.serve(pump.Run)
	if err != nil && !ordinary(err) {
		a.n.log.Debug("connection ended", "peer", a.peer, "reason", err)
	}
}

// errReset ends a connection after a TARGET COLD RESET.
var errReset = errors.New("target cold reset")

// ordinary tells how peers end connections from what an operator should know.
func ordinary(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Receive implements runtime.Actor.
func (a *connActor) Receive(ctx runtime.Context, msg any) {
	if mine, err := a.turn(msg); mine {
		a.afterTurn(err)
		return
	}
	switch m := msg.(type) {
	case wake:
		a.engine.Tick()
		a.engine.Completed()
	case runtime.Started:
		a.start(ctx)
	case runtime.Stopping:
		// In this order: the hardware may still have tasks of the engine, which
		// come back when the engine knows of its end.
		defer a.mover.Close()
		a.engine.Close()
		a.machine.Close()
		a.endFlows()
		a.engine.Publish()
		return
	case runtime.Terminated:
		if m.Ref == a.session {
			ctx.StopSelf()
		}
	default:
		a.control(msg)
	}
	a.mover.Flush()
	a.engine.Publish()
}

// turn runs a turn of the transport, if msg is one.
func (a *connActor) turn(msg any) (bool, error) {
	switch msg.(type) {
	case *tcp.Turn, *iser.Turn:
		a.heard = true
		a.engine.Tick()
		defer a.engine.Publish()
		return a.mover.turn(msg)
	}
	return false, nil
}

func (a *connActor) start(ctx runtime.Context) {
	a.ctx = ctx
	a.log = ctx.Log().With("peer", a.mover.RemoteAddr().String())
	ctx.SetBehaviour("login")
	a.observeAll()
	a.stopLogin = ctx.After(a.n.Limits().LoginTimeout, loginTimeout{})
}

func (a *connActor) control(msg any) {
	switch m := msg.(type) {
	case admitted:
		a.admitted(m)
	case refused:
		a.over(a.engine.Refused(m.why))
	case managed:
		a.engine.Managed(m.m, m.response)
		if m.last {
			a.over(errReset)
		}
	case manageTimeout:
		a.engine.Managed(m.m, pdu.FunctionRejected)
	case abortTasks:
		a.abortTasks(m)
	case loginTimeout:
		a.logRefusal(refuse(pdu.LoginInitiatorError, "not through within %v", a.n.Limits().LoginTimeout))
		a.ctx.StopSelf()
	case nopTick:
		a.keepAlive()
	case nopTimeout:
		if m.ping == a.pings && a.engine.PingOpen() {
			a.log.Warn("initiator does not answer: connection closed", "silent", a.n.Limits().NopInterval+a.n.Limits().NopTimeout)
			// It may have been asleep, and finds out now why it was left.
			_ = a.engine.Drop(pdu.AsyncDropConnection)
			a.mover.Flush()
			a.ctx.StopSelf()
		}
	case requestLogout:
		a.requestLogout(m)
	case dropSession:
		a.drop()
	case scsiEvent:
		a.scsiEvent(m)
	case observe:
		a.observe(m.o, false)
		m.seen <- struct{}{}
	case unobserve:
		a.unobserve(m.o)
	case lingerOver:
		a.ctx.StopSelf()
	}
}

// afterTurn looks at what a turn of the socket has brought.
func (a *connActor) afterTurn(err error) {
	switch {
	case errors.Is(err, tcp.ErrForeign):
		a.leave()
	case err != nil:
		a.broken(err)
		a.ctx.StopSelf()
	case a.mover.Lingering() && !a.lingering:
		a.over(nil)
	}
}

// leave gives a connection that began with an MPA request to the portal's inlet.
// It comes back as another one, over iSER.
func (a *connActor) leave() {
	t, ok := a.mover.(tcpTransport)
	if ok {
		sock, first := t.Leave()
		a.n.sys.Go("inlet", func() { a.portal.inlet.take(sock, first) })
	}
	a.ctx.SetBehaviour("goes on over iSER")
	a.ctx.StopSelf()
}

// over ends the connection in order: the last response goes out first.
func (a *connActor) over(err error) {
	if err == nil && !a.mover.Lingering() {
		return
	}
	a.mover.Shutdown()
	if !a.lingering {
		a.lingering = true
		a.ctx.SetBehaviour("closing")
		a.ctx.After(lingerTime, lingerOver{})
	}
}

// Admit implements iscsi.Env.
func (a *connActor) Admit(res login.Result) {
	m := admit{conn: a.ctx.Self(), result: res, peer: SessionInfo{Peer: a.mover.RemoteAddr()}}
	a.user = res.User
	if res.Identity.Discovery {
		a.n.admitDiscovery(m)
		return
	}
	t := a.n.registry.Load().targets[res.Identity.TargetName]
	if t != nil {
		if why := a.redirected(t); why != nil {
			a.ctx.Send(a.ctx.Self(), refused{why})
			return
		}
	}
	if t == nil || !a.ctx.Send(t.ref, m) {
		// Through our own mailbox: the answer must not come within Step.
		a.ctx.Send(a.ctx.Self(), refused{refuse(pdu.LoginTargetRemoved, "the target was removed during the login")})
		return
	}
	a.target = t
}

func (a *connActor) admitted(m admitted) {
	a.session = m.ref
	a.ctx.Watch(m.ref)
	a.describe(m.session)
	if err := a.engine.Admitted(m.session); err != nil {
		a.over(err)
		return
	}
	a.stopLogin()
	a.n.logins.admitted()
	a.ctx.SetBehaviour("full feature")
	a.ctx.Send(a.n.sessions, connLoggedIn{a.ctx.Self()})
	a.ctx.After(a.n.Limits().NopInterval/nopTicks, nopTick{})
	id := &m.session.Identity
	a.log = a.log.With("initiator", id.InitiatorName, "tsih", m.session.TSIH)
	if m.session.Discovery {
		a.log.Debug("discovery session")
		return
	}
	p := a.engine.Params()
	a.log.Info("logged in", "target", id.TargetName, "header_digest", p.HeaderDigest, "data_digest", p.DataDigest)
}

// SendTargets implements iscsi.Env.
func (a *connActor) SendTargets(s *iscsi.Session, which string) []iscsi.TargetRecord {
	return a.n.sendTargets(s, which, a.peer, a.mover.LocalAddr())
}

// Manage implements iscsi.Env.
func (a *connActor) Manage(m *iscsi.Management) {
	a.Limit(m)
	if a.target == nil || !a.ctx.Send(a.target.ref, manage{m: m, conn: a.ctx.Self()}) {
		a.engine.Managed(m, pdu.FunctionRejected)
	}
}

// Limit implements iscsi.Env.
func (a *connActor) Limit(m *iscsi.Management) {
	a.ctx.After(a.n.limits.ManageTimeout, manageTimeout{m})
}

// Wake implements iscsi.Env.
func (a *connActor) Wake() { a.ctx.Send(a.ctx.Self(), wake{}) }

// LoggedOut implements iscsi.Env.
func (a *connActor) LoggedOut(r pdu.LogoutReason) { a.log.Info("logged out", "reason", r.String()) }

func (a *connActor) abortTasks(m abortTasks) {
	s := a.engine.Session()
	if s == nil {
		m.done(nil)
		return
	}
	if m.port == nil {
		a.engine.Abort(nil, m.by, func(int) { m.done(nil) })
		return
	}
	nexus := s.NexusOf(m.port)
	if nexus == nil || m.only != nil && !slices.Contains(m.only, nexus) {
		m.done(nil)
		return
	}
	a.engine.Abort(nexus, m.by, func(ended int) {
		if ended == 0 {
			nexus = nil
		}
		m.done(nexus)
	})
}

// nopTicks is how often silence is looked for within NopInterval: it is noticed
// that much of an interval late at most.
const nopTicks = 4

// keepAlive pings an initiator that has been silent for NopInterval.
func (a *connActor) keepAlive() {
	a.silent++
	if a.heard {
		a.silent = 0
	}
	a.heard = false
	if a.silent >= nopTicks && a.engine.LoggedIn() && a.engine.Ping() {
		a.pings++
		a.ctx.After(a.n.Limits().NopTimeout, nopTimeout{a.pings})
	}
	a.ctx.After(a.n.Limits().NopInterval/nopTicks, nopTick{})
}

func (a *connActor) requestLogout(m requestLogout) {
	if !a.engine.RequestLogout(m.seconds) {
		a.ctx.StopSelf()
		return
	}
	if !a.wantsLogout {
		a.wantsLogout = true
		a.ctx.After(time.Duration(m.seconds)*time.Second, dropSession{})
	}
}

// drop ends the session, and tells the initiator before the connection goes.
func (a *connActor) drop() {
	if err := a.engine.Drop(pdu.AsyncDropAllConnections); err != nil {
		a.over(err)
		return
	}
	if !a.lingering {
		a.ctx.StopSelf()
	}
}

func (a *connActor) scsiEvent(m scsiEvent) {
	s := a.engine.Session()
	if s == nil || a.target == nil || !a.target.cfg.Load().AsyncEvents {
		return
	}
	luns := s.LUNs()
	if seen := luns.Inventory(); m.port == nil && len(seen) > 0 {
		a.engine.SCSIEvent(pdu.LUNOf(seen[0]), m.what.Sense())
	}
	for _, lun := range luns.Inventory() {
		if luns.Lookup(pdu.LUNOf(lun)).Port() == m.port {
			a.engine.SCSIEvent(pdu.LUNOf(lun), m.what.Sense())
		}
	}
}

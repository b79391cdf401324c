package actors

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// TargetConfig describes a target.
type TargetConfig struct {
	Name   string // iSCSI name, RFC 7143 §4.2.7
	Alias  string
	Access Access
	// Session bounds what is negotiated. The zero value means
	// login.DefaultLimits.
	Session login.Limits
	// Groups are the names of the portal groups that offer the target; empty
	// means all.
	Groups []string
	// Initiators, when not empty, are the only ones that may log in, each with
	// its own view of the LUNs.
	Initiators map[string]View
	// AsyncEvents has initiators told of changed LUNs and capacities by Asynchronous
	// Messages too (RFC 7143 §11.9.1, event 0), besides the unit attentions.
	AsyncEvents bool
	// Redirect, when set, sends every login elsewhere once it is authenticated.
	// Sessions that are there go on.
	Redirect *Redirect
}

// View is what one initiator sees of a target.
type View struct {
	LUNs     map[uint16]uint16 // LUN as seen by the initiator to LUN of the target; nil: all as they are
	ReadOnly []uint16          // LUNs of the target that the initiator may not write to
}

// Target is a running target.
type Target struct {
	n       *Node
	name    string
	cfg     atomic.Pointer[TargetConfig] // replaced, never changed
	ref     runtime.Ref
	luns    atomic.Pointer[map[uint16]*LUN] // replaced, never changed
	offline atomic.Bool                     // admits nobody
}

// AddTarget starts a target without LUNs.
func (n *Node) AddTarget(ctx context.Context, cfg TargetConfig) (*Target, error) {
	if cfg.Session.MaxBurstLength == 0 {
		cfg.Session = login.DefaultLimits()
	}
	if err := cfg.Session.Validate(); err != nil {
		return nil, fmt.Errorf("target %s: %w", cfg.Name, err)
	}
	t := &Target{n: n, name: cfg.Name}
	t.cfg.Store(&cfg)
	t.luns.Store(&map[uint16]*LUN{})
	if n.registry.Load().targets[cfg.Name] != nil {
		return nil, fmt.Errorf("target %s exists already", cfg.Name)
	}
	ref, err := n.spawn(ctx, runtime.Spec{
		Name: "target-" + cfg.Name, Kind: "target",
		New: n.actor(func() runtime.Actor { return newTargetActor(n, t) }),
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", cfg.Name, err)
	}
	t.ref = ref
	err = n.update(func(r *registry) error {
		if r.targets[cfg.Name] != nil {
			return fmt.Errorf("target %s exists already", cfg.Name)
		}
		r.targets[cfg.Name] = t
		return nil
	})
	if err != nil {
		n.sys.Stop(ref)
		return nil, err
	}
	return t, nil
}

// Name is the iSCSI name.
func (t *Target) Name() string { return t.name }

func (c *TargetConfig) offeredBy(g *PortalGroup) bool {
	return len(c.Groups) == 0 || slices.Contains(c.Groups, g.Name)
}

func (c *TargetConfig) admits(initiator string, peer netip.Addr) *login.Refusal {
	if len(c.Initiators) > 0 {
		if _, ok := c.Initiators[initiator]; !ok {
			return refuse(pdu.LoginAuthorizationFailure, "target %s has no initiator block for %s", c.Name, initiator)
		}
	}
	return c.Access.check(initiator, peer)
}

// attach gives a new session its nexuses.
func (t *Target) attach(s *iscsi.Session, res *login.Result) {
	s.Nexus = &scsi.ITNexus{
		InitiatorName: res.Identity.InitiatorName, ISID: res.Identity.ISID,
		TargetName: t.name, PortalGroupTag: res.PortalGroupTag, RelativePort: res.PortalGroupTag,
	}
	t.remap(s)
}

// remap brings the LUN map of a session up to date; nexuses that stay are kept. It
// reports whether the map has changed.
func (t *Target) remap(s *iscsi.Session) bool {
	view, limited := t.cfg.Load().Initiators[s.Identity.InitiatorName]
	all := *t.luns.Load()
	seen := make(map[uint16]*LUN, len(all))
	if limited && view.LUNs != nil {
		for as, of := range view.LUNs {
			if l := all[of]; l != nil {
				seen[as] = l
			}
		}
	} else {
		maps.Copy(seen, all)
	}
	return s.Remap(func(n uint16) *scsi.Port {
		if l := seen[n]; l != nil {
			return l.port
		}
		return nil
	}, maxKey(seen), func(x *scsi.Nexus, l uint16) {
		if limited && slices.Contains(view.ReadOnly, seen[l].number) {
			x.ReadOnly = true
		}
	})
}

func maxKey(m map[uint16]*LUN) int {
	top := -1
	for k := range m {
		top = max(top, int(k))
	}
	return top
}

// targetActor admits sessions, one at a time for each initiator port, and
// coordinates task management over all sessions of the target.
type targetActor struct {
	n       *Node
	t       *Target
	nexuses map[nexusKey]*nexusEntry
	bySess  map[runtime.Ref]*nexusEntry
	byConn  map[runtime.Ref]*nexusEntry
	running map[*function]struct{}
	waiting []any // what waits for a restarted target to learn of its sessions
	blind   bool
	ending  []func()
}

// nexusKey names an I_T nexus: with the target, the initiator port (name and
// ISID) and the target portal group, RFC 7143 §4.4.1.
type nexusKey struct {
	name string
	isid pdu.ISID
	tag  uint16
}

func keyOf(res *login.Result) nexusKey {
	return nexusKey{res.Identity.InitiatorName, res.Identity.ISID, res.PortalGroupTag}
}

// nexusEntry is a session and what waits for its end.
type nexusEntry struct {
	key     nexusKey
	peer    netip.Addr
	tsih    uint16
	session runtime.Ref
	conn    runtime.Ref
	down    int    // of the two actors, how many are gone
	next    *admit // the login that takes the nexus over
}

// Messages of a target.
type (
	admit struct {
		conn   runtime.Ref
		result login.Result
		peer   SessionInfo
	}
	sessionMade struct {
		entry   *nexusEntry
		session runtime.Ref
		err     error
	}
	manage struct {
		m    *iscsi.Management
		conn runtime.Ref
	}
	tasksAborted struct {
		f     *function
		conn  runtime.Ref
		nexus *scsi.Nexus // set when tasks were lost on it
	}
	settled       struct{ f *function }
	lunMapChanged struct{}
	endTarget     struct{ reply func() }
	sessionsKnown struct{ known map[runtime.Ref]sessionEntry }
	logoutAll     struct{}
)

func newTargetActor(n *Node, t *Target) *targetActor {
	return &targetActor{
		n: n, t: t, nexuses: make(map[nexusKey]*nexusEntry),
		bySess: make(map[runtime.Ref]*nexusEntry), byConn: make(map[runtime.Ref]*nexusEntry),
		running: make(map[*function]struct{}),
	}
}

// Receive implements runtime.Actor.
func (a *targetActor) Receive(ctx runtime.Context, msg any) {
	if a.blind {
		switch msg.(type) {
		case admit, manage, abortNexuses, lunMapChanged, logoutAll, dismissed, endTarget:
			a.waiting = append(a.waiting, msg) // they are about all sessions
			return
		}
	}
	switch m := msg.(type) {
	case runtime.Started:
		ctx.SetBehaviour("online")
		if ctx.Generation() > 1 {
			a.learn(ctx)
		}
	case sessionsKnown:
		a.learned(ctx, m.known)
	case admit:
		a.admit(ctx, &m)
	case sessionMade:
		a.sessionMade(ctx, m)
	case manage:
		a.manage(ctx, m)
	case abortNexuses:
		a.preempt(ctx, m)
	case runtime.Restarting, runtime.Stopping:
		a.release()
	case tasksAborted:
		a.aborted(ctx, m.conn, m.nexus, m.f)
	case settled:
		a.complete(ctx, m.f)
	case lunMapChanged:
		for ref := range a.bySess {
			ctx.Send(ref, lunsChanged{})
		}
	case logoutAll:
		for conn := range a.byConn {
			ctx.Send(conn, requestLogout{seconds: a.n.logoutSeconds()})
		}
	case scsiEvent:
		for conn := range a.byConn {
			ctx.Send(conn, m)
		}
	case dismissed:
		for ref, e := range a.bySess {
			if !m.stays(e.key.name, e.peer) {
				ctx.Send(ref, endSession{why: "the configuration does not admit it any more"})
			}
		}
	case endTarget:
		a.ending = append(a.ending, m.reply)
		for ref := range a.bySess {
			ctx.Send(ref, endSession{why: "the target is removed"})
		}
		a.ended()
	case runtime.Terminated:
		a.terminated(ctx, m.Ref)
		a.ended()
	}
}

// admit makes the session of a login. A session of the same nexus is ended
// first, and the login waits until all of it is gone (session reinstatement,
// RFC 7143 §6.3.5): the initiator must not meet tasks of its former self.
func (a *targetActor) admit(ctx runtime.Context, m *admit) {
	id := &m.result.Identity
	key := keyOf(&m.result)
	if len(a.ending) > 0 {
		ctx.Send(m.conn, refused{refuse(pdu.LoginTargetRemoved, "the target is being removed")})
		return
	}
	old := a.nexuses[key]
	if id.TSIH != 0 {
		why := refuse(pdu.LoginSessionDoesNotExist, "there is no session with TSIH %#04x for this initiator port", id.TSIH)
		if old != nil && old.tsih == id.TSIH {
			why = refuse(pdu.LoginTooManyConnections, "the session has its one connection")
		}
		ctx.Send(m.conn, refused{why})
		return
	}
	if old == nil {
		a.open(ctx, key, m)
		return
	}
	if old.next != nil {
		ctx.Send(old.next.conn, refused{refuse(pdu.LoginTargetError, "overtaken by a later login of the same initiator port")})
	}
	old.next = m
	if !old.session.IsZero() {
		ctx.Send(old.session, endSession{why: "a new login of the same initiator port reinstates it", atOnce: true})
	}
}

func (a *targetActor) open(ctx runtime.Context, key nexusKey, m *admit) {
	e := &nexusEntry{key: key, peer: addrPort(m.peer.Peer).Addr(), conn: m.conn, tsih: a.n.nextTSIH()}
	a.nexuses[key] = e
	a.byConn[m.conn] = e
	ctx.Watch(m.conn)
	self := ctx.Self()
	ok := ctx.Send(a.n.sessions, newSession{
		target: a.t, conn: m.conn, result: m.result, tsih: e.tsih, peer: m.peer,
		reply: func(ref runtime.Ref, err error) { a.n.sys.Send(self, sessionMade{e, ref, err}) },
	})
	if !ok {
		ctx.Send(m.conn, refused{refuse(pdu.LoginServiceUnavailable, "the daemon is going down")})
		delete(a.nexuses, key)
	}
}

func (a *targetActor) sessionMade(ctx runtime.Context, m sessionMade) {
	e := m.entry
	if m.err != nil {
		ctx.Send(e.conn, refused{refuse(pdu.LoginOutOfResources, "%v", m.err)})
		e.down++ // there is no session actor to wait for
		a.finished(ctx, e)
		return
	}
	e.session = m.session
	a.bySess[m.session] = e
	ctx.Watch(m.session)
	if e.next != nil {
		ctx.Send(m.session, endSession{why: "a new login of the same initiator port reinstates it", atOnce: true})
	}
}

func (a *targetActor) terminated(ctx runtime.Context, ref runtime.Ref) {
	e := a.bySess[ref]
	if e == nil {
		e = a.byConn[ref]
		a.aborted(ctx, ref, nil, nil)
	}
	delete(a.bySess, ref)
	delete(a.byConn, ref)
	if e != nil {
		e.down++
		a.finished(ctx, e)
	}
}

// finished lets the next login in when session and connection are both gone.
func (a *targetActor) finished(ctx runtime.Context, e *nexusEntry) {
	if e.down < 2 {
		return
	}
	delete(a.nexuses, e.key)
	if e.next != nil {
		a.open(ctx, e.key, e.next)
	}
}

// ended answers those who wait for the last session to go.
func (a *targetActor) ended() {
	if len(a.nexuses) > 0 {
		return
	}
	for _, reply := range a.ending {
		reply()
	}
	a.ending = nil
}

// learn asks for the sessions that an earlier incarnation admitted: they go on,
// and a new login of theirs must still find them.
func (a *targetActor) learn(ctx runtime.Context) {
	a.blind = true
	self := ctx.Self()
	ctx.Send(a.n.sessions, sessionsOf{target: a.t, reply: func(known map[runtime.Ref]sessionEntry) {
		a.n.sys.Send(self, sessionsKnown{known})
	}})
}

func (a *targetActor) learned(ctx runtime.Context, known map[runtime.Ref]sessionEntry) {
	for ref, s := range known {
		e := &nexusEntry{key: s.key, peer: addrPort(s.info.Peer).Addr(), tsih: s.info.TSIH, session: ref, conn: s.conn}
		a.nexuses[s.key], a.bySess[ref], a.byConn[s.conn] = e, e, e
		ctx.Watch(ref)
		ctx.Watch(s.conn)
	}
	a.blind = false
	waiting := a.waiting
	a.waiting = nil
	for _, msg := range waiting {
		a.Receive(ctx, msg)
	}
	// A change of the LUNs may have been lost with the earlier incarnation.
	a.Receive(ctx, lunMapChanged{})
}

func (n *Node) nextTSIH() uint16 {
	for {
		if t := uint16(n.tsih.Add(1)); t != 0 {
			return t
		}
	}
}

// admitDiscovery makes a discovery session, which has no target.
func (n *Node) admitDiscovery(m admit) {
	ok := n.sys.Send(n.sessions, newSession{
		conn: m.conn, result: m.result, tsih: n.nextTSIH(), peer: m.peer,
		reply: func(_ runtime.Ref, err error) {
			if err != nil {
				n.sys.Send(m.conn, refused{refuse(pdu.LoginOutOfResources, "%v", err)})
			}
		},
	})
	if !ok {
		n.sys.Send(m.conn, refused{refuse(pdu.LoginServiceUnavailable, "the daemon is going down")})
	}
}

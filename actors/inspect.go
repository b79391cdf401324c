package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// ErrNotFound is wrapped by errors about what does not exist.
var ErrNotFound = errors.New("not found")

// ErrInvalid is wrapped by errors about requests that make no sense.
var ErrInvalid = errors.New("invalid")

// ErrForbidden is wrapped by errors about what has to be enabled first.
var ErrForbidden = errors.New("not enabled")

// SessionInfo is one session for the operator.
type SessionInfo struct {
	TSIH          uint16
	ISID          pdu.ISID
	InitiatorName string
	Target        string // "" in a discovery session
	User          string // CHAP_N that was proved
	GroupTag      uint16
	Params        login.Params
	Peer, Local   net.Addr
	Since         time.Time
	ActorPath     string

	session *atomic.Pointer[iscsi.Session]
}

func (i *SessionInfo) describe(res *login.Result) {
	id := &res.Identity
	i.InitiatorName, i.Target, i.ISID = id.InitiatorName, id.TargetName, id.ISID
	i.User, i.GroupTag, i.Params = res.User, res.PortalGroupTag, res.Params
}

// NexusInfo is an I_T_L nexus: a LUN as the initiator of a session sees it.
type NexusInfo struct {
	LUN      uint16 // number that the initiator sees
	Number   uint16 // of the target's LUN
	ReadOnly bool
	Stats    scsi.Stats
}

// Nexuses lists what the session sees, with its counters. It may be called on
// any goroutine.
func (i *SessionInfo) Nexuses(t *Target) (out []NexusInfo) {
	s := i.session.Load()
	if s == nil || t == nil {
		return nil
	}
	numbers := make(map[*scsi.Port]uint16)
	for n, l := range *t.luns.Load() {
		numbers[l.port] = n
	}
	if m := s.LUNs(); m != nil {
		for lun, x := range *m {
			if x != nil {
				out = append(out, NexusInfo{LUN: uint16(lun), Number: numbers[x.Port()], ReadOnly: x.ReadOnly, Stats: x.Stats()})
			}
		}
	}
	return out
}

// Sessions lists the sessions that are logged in, by TSIH.
func (n *Node) Sessions(ctx context.Context) ([]SessionInfo, error) {
	all, err := runtime.Call(ctx, n.sys, n.sessions, func(reply func([]SessionInfo)) any {
		return listSessions{reply: reply}
	})
	slices.SortFunc(all, func(a, b SessionInfo) int { return cmp.Compare(a.TSIH, b.TSIH) })
	return all, err
}

// logoutSession ends a session: the initiator is asked to log out, or, with
// force, its connection is closed.
type logoutSession struct {
	tsih    uint16
	force   bool
	seconds uint16
	reply   func(error)
}

func (a *supervisor) logout(ctx runtime.Context, m logoutSession) error {
	for ref, s := range a.sessions {
		if s.info.TSIH != m.tsih {
			continue
		}
		if m.force {
			ctx.Send(ref, endSession{why: "the operator ended it"})
		} else {
			ctx.Send(s.conn, requestLogout{seconds: m.seconds})
		}
		return nil
	}
	return fmt.Errorf("session %#04x: %w", m.tsih, ErrNotFound)
}

func (n *Node) logoutSeconds() uint16 { return uint16(n.limits.LogoutTimeout / time.Second) }

// LogoutSession asks the initiator of a session to log out (RFC 7143 §11.9.1), and
// ends the session if it has not within Limits.LogoutTimeout; with force at once.
func (n *Node) LogoutSession(ctx context.Context, tsih uint16, force bool) error {
	err, callErr := runtime.Call(ctx, n.sys, n.sessions, func(reply func(error)) any {
		return logoutSession{tsih: tsih, force: force, seconds: n.logoutSeconds(), reply: reply}
	})
	return errors.Join(err, callErr)
}

// PortalInfo is one listening address.
type PortalInfo struct {
	Address string
	Group   string
	Tag     uint16
	TCP     bool     // iSCSI over TCP is served there
	ISER    []string // the RDMA providers by which iSER is: native, softiwarp
	// Advertised is what initiators are told instead of Address, "" if nothing.
	Advertised string
	Redirect   *Redirect // where logins are sent, nil: nowhere
}

// Portals lists the portals in the order they were opened; what is served at one
// address is one portal.
func (n *Node) Portals() (out []PortalInfo) {
	for _, p := range n.registry.Load().portals {
		x := PortalInfo{Address: p.listener.Addr().String(), Group: p.group.Name, Tag: p.group.Tag, TCP: p.provider == "", Advertised: p.advertised, Redirect: p.redirect}
		switch {
		case p.provider != "":
			x.ISER = []string{p.provider}
		case p.inlet != nil:
			x.ISER = []string{p.inlet.prov.Name()}
		}
		i := slices.IndexFunc(out, func(o PortalInfo) bool { return o.Address == x.Address && o.Group == x.Group })
		if i < 0 {
			out = append(out, x)
			continue
		}
		out[i].TCP = out[i].TCP || x.TCP
		out[i].ISER = append(out[i].ISER, x.ISER...)
	}
	return out
}

// Targets lists the targets by name.
func (n *Node) Targets() []*Target {
	reg := n.registry.Load()
	out := make([]*Target, 0, len(reg.targets))
	for _, name := range slices.Sorted(maps.Keys(reg.targets)) {
		out = append(out, reg.targets[name])
	}
	return out
}

// Target returns a target by name, or nil.
func (n *Node) Target(name string) *Target { return n.registry.Load().targets[name] }

// Config returns the configuration in force. It is not to be changed.
func (t *Target) Config() *TargetConfig { return t.cfg.Load() }

// Offline reports whether the target admits nobody.
func (t *Target) Offline() bool { return t.offline.Load() }

// LUNs lists the LUNs by number.
func (t *Target) LUNs() []*LUN {
	m := *t.luns.Load()
	out := make([]*LUN, 0, len(m))
	for _, n := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[n])
	}
	return out
}

// Number is the number of the LUN in its target.
func (l *LUN) Number() uint16 { return l.number }

// Config returns what the LUN was made of.
func (l *LUN) Config() *LUNConfig { return &l.cfg }

// Port is the data port, for its state and counters.
func (l *LUN) Port() *scsi.Port { return l.port }

// Path is the path of the LUN's actor.
func (l *LUN) Path() string { return l.ref.Path() }

// State tells how the LUN answers: "online", or why it does not serve.
func (l *LUN) State() string {
	switch {
	case l.port.Unit() != nil:
		return "online"
	case l.parked.Load():
		return "offline"
	default:
		return l.port.Closed().String()
	}
}

// Refusals lists logins that were refused, the latest first.
func (n *Node) Refusals() []LoginRefusal { return n.logins.refusals() }

// LoginTotals is the number of logins by their result.
func (n *Node) LoginTotals() map[pdu.LoginStatus]uint64 { return n.logins.totals() }

// OnRefusal has f called for each refused login. It must not block.
func (n *Node) OnRefusal(f func(LoginRefusal)) (cancel func()) { return n.logins.subs.add(f) }

// OnEvent has f called for each supervision event. It must not block.
func (n *Node) OnEvent(f func(runtime.Event)) (cancel func()) { return n.sys.Subscribe(f) }

// Actors lists the living actors.
func (n *Node) Actors() []runtime.Info { return n.sys.Actors() }

// Events are the latest supervision events.
func (n *Node) Events() []runtime.Event { return n.sys.Events() }

// Counters are totals of the actors.
func (n *Node) Counters() runtime.Counters { return n.sys.Counters() }

// BuffersInUse is the number of bytes of data buffers handed out now.
func (n *Node) BuffersInUse() int64 { return n.pool.InUse() }

// Limits are those in force.
func (n *Node) Limits() Limits {
	if l := n.changed.Load(); l != nil {
		return *l
	}
	return n.limits
}

// SetLimits changes what counts from the next time that it is looked at: Sessions,
// LoginTimeout, NopInterval and NopTimeout. The others stay as they were.
func (n *Node) SetLimits(l Limits) {
	now := n.limits
	l = l.withDefaults()
	now.Sessions, now.LoginTimeout, now.NopInterval, now.NopTimeout = l.Sessions, l.LoginTimeout, l.NopInterval, l.NopTimeout
	n.changed.Store(&now)
}

// ping asks the root actor for a sign of life.
type ping struct{ reply func(struct{}) }

// Ping returns once the root and the supervisor of sessions have answered: both
// take messages.
func (n *Node) Ping(ctx context.Context) error {
	_, err := runtime.Call(ctx, n.sys, n.root, func(reply func(struct{})) any { return ping{reply} })
	if err != nil {
		return err
	}
	_, err = n.Sessions(ctx)
	return err
}

func (n *Node) actorAt(path string) (runtime.Info, error) {
	for _, a := range n.sys.Actors() {
		if a.Path == path {
			return a, nil
		}
	}
	return runtime.Info{}, fmt.Errorf("actor %s: %w", path, ErrNotFound)
}

// Describe returns what the actor at path shows of its state, nil if nothing.
func (n *Node) Describe(ctx context.Context, path string) (runtime.Info, any, error) {
	a, err := n.actorAt(path)
	if err != nil {
		return a, nil, err
	}
	v, err := n.sys.Describe(ctx, a.Ref)
	return a, v, err
}

// RestartActor has the actor at path begin anew, by way of its supervisor.
// Connections and sessions cannot be restarted: they end.
func (n *Node) RestartActor(path string) error {
	return n.tell(path, crash{why: "restart asked for by the operator"})
}

// StopActor stops a connection or a session. Other actors end by other means.
func (n *Node) StopActor(path string) error {
	a, err := n.actorAt(path)
	if err != nil {
		return err
	}
	if a.Kind != "conn" && a.Kind != "session" {
		return fmt.Errorf("only connections and sessions can be stopped, not a %s: %w", a.Kind, ErrForbidden)
	}
	n.sys.Stop(a.Ref)
	return nil
}

package iserd

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu/login"
)

// Errors that errors of this package wrap.
var (
	// ErrNotFound: there is no such target, LUN, session or actor.
	ErrNotFound = actors.ErrNotFound
	// ErrInvalid: the request makes no sense.
	ErrInvalid = actors.ErrInvalid
	// ErrForbidden: it has to be enabled first, or is not to be done at all.
	ErrForbidden = actors.ErrForbidden
)

// Session is one logged-in initiator.
type Session struct {
	TSIH          uint16 // target session identifying handle
	ISID          string
	InitiatorName string
	Target        string // empty in a discovery session
	User          string // CHAP user that was proved; empty without CHAP
	GroupTag      uint16 // TargetPortalGroupTag
	Peer          net.Addr
	Since         time.Time
	ActorPath     string
	Params        login.Params // as negotiated
	LUNs          []SessionLUN
}

// SessionLUN is one I_T_L nexus.
type SessionLUN struct {
	LUN      uint16 // number that the initiator sees
	Number   uint16 // of the target's LUN
	ReadOnly bool
	Stats    scsi.Stats
}

// Sessions lists the sessions by TSIH.
func (s *Server) Sessions(ctx context.Context) ([]Session, error) {
	infos, err := s.node.Sessions(ctx)
	if err != nil {
		return nil, wrap(err)
	}
	out := make([]Session, 0, len(infos))
	for k := range infos {
		i := &infos[k]
		x := Session{
			TSIH: i.TSIH, ISID: i.ISID.String(), InitiatorName: i.InitiatorName, Target: i.Target, User: i.User,
			GroupTag: i.GroupTag, Peer: i.Peer, Since: i.Since, ActorPath: i.ActorPath, Params: i.Params,
		}
		for _, n := range i.Nexuses(s.node.Target(i.Target)) {
			x.LUNs = append(x.LUNs, SessionLUN(n))
		}
		out = append(out, x)
	}
	return out, nil
}

// LogoutSession asks the initiator of a session to log out, and drops the session
// after 10 seconds if it has not; with force at once.
func (s *Server) LogoutSession(ctx context.Context, tsih uint16, force bool) error {
	return wrap(s.node.LogoutSession(ctx, tsih, force))
}

// Portal is one listening address.
type Portal struct {
	Address string
	Group   string
	Tag     uint16
	TCP     bool     // iSCSI over TCP is served there
	ISER    []string // the RDMA providers by which iSER is: native (adapters), softiwarp
	// Advertised is what initiators are told instead of Address, "" if nothing.
	Advertised string
	Redirect   *Redirect // where logins are sent, nil: nowhere
}

// Portals lists the portals in the order they were opened.
func (s *Server) Portals() []Portal {
	var out []Portal
	for _, p := range s.node.Portals() {
		out = append(out, Portal(p))
	}
	return out
}

// Targets lists the targets by name.
func (s *Server) Targets() []*Target {
	var out []*Target
	for _, t := range s.node.Targets() {
		out = append(out, &Target{t, s})
	}
	return out
}

// Target returns a target by name, or nil.
func (s *Server) Target(name string) *Target {
	if t := s.node.Target(name); t != nil {
		return &Target{t, s}
	}
	return nil
}

// TargetInfo is a target for inspection.
type TargetInfo struct {
	Name, Alias    string
	Groups         []string // portal groups; empty: all
	Auth           string   // none, chap or mutual-chap
	Offline        bool
	Redirect       *Redirect
	InitiatorNames []string // that are admitted; empty: not limited by name
	LUNs           []LUNInfo
}

// Info describes the target as it is now.
func (t *Target) Info() TargetInfo {
	c := t.t.Config()
	i := TargetInfo{
		Name: c.Name, Alias: c.Alias, Groups: c.Groups, Auth: authName(&c.Access.Auth),
		Offline: t.t.Offline(), Redirect: c.Redirect, InitiatorNames: c.Access.Names,
	}
	if len(c.Initiators) > 0 {
		i.InitiatorNames = slices.Sorted(maps.Keys(c.Initiators))
	}
	for _, l := range t.t.LUNs() {
		i.LUNs = append(i.LUNs, lunInfo(l))
	}
	return i
}

func authName(a *login.Auth) string {
	switch {
	case a.MutualRequired:
		return "mutual-chap"
	case a.Required:
		return "chap"
	default:
		return "none"
	}
}

// LUNInfo is a LUN for inspection.
type LUNInfo struct {
	Number       uint16
	State        string // online, offline, busy, failed or gone
	BlockSize    int    // bytes; 0 while it is not online
	Blocks       uint64
	ReadOnly     bool
	Thin         bool
	Vendor       string
	Product      string
	Serial       string
	NAA          uint64
	InBackend    int // commands in the device server now
	Reservations scsi.Reservations
	Ports        scsi.TargetPortGroups
	Stats        scsi.Stats
	ActorPath    string
}

func lunInfo(l *actors.LUN) LUNInfo {
	u := l.Config().Unit
	i := LUNInfo{
		Number: l.Number(), State: l.State(), ReadOnly: u.ReadOnly, Thin: u.Thin, Vendor: u.Vendor, Product: u.Product,
		Serial: u.Serial, NAA: u.NAA, Reservations: l.Port().Reservations(), Ports: l.Port().TargetPortGroups(),
		Stats: l.Port().Stats(), ActorPath: l.Path(),
	}
	if unit := l.Port().Unit(); unit != nil {
		i.BlockSize, i.Blocks, i.InBackend = unit.BlockSize(), unit.Capacity(), unit.Inflight()
		i.ReadOnly = unit.ReadOnly()
	}
	return i
}

// SetOffline makes the target refuse logins and asks its initiators to log out; it
// drops those that have not after 10 seconds. Or it makes it admit them again.
func (t *Target) SetOffline(offline bool) { t.t.SetOffline(offline) }

// SetLUNOffline takes a LUN offline, which closes its backend, or opens it
// again. Initiators see NOT READY in between.
func (t *Target) SetLUNOffline(ctx context.Context, n uint16, offline bool) error {
	return wrap(t.t.ParkLUN(ctx, n, offline))
}

// ResizeTo changes the size of the backend of a LUN, which must be able to do
// that, and tells initiators. LUNs only grow.
func (t *Target) ResizeTo(ctx context.Context, n uint16, size int64) error {
	return wrap(t.t.ResizeTo(ctx, n, size))
}

// ClearReservations removes the persistent reservation and all registrations of
// a LUN, whoever holds them.
func (t *Target) ClearReservations(n uint16) error {
	for _, l := range t.t.LUNs() {
		if l.Number() == n {
			return wrap(l.Port().ClearReservations())
		}
	}
	return wrap(fmt.Errorf("LUN %d of target %s: %w", n, t.Name(), ErrNotFound))
}

// SetTargetPorts replaces what TargetPorts said of a LUN. Initiators are told
// what changes for them by unit attentions; their sessions go on.
func (t *Target) SetTargetPorts(n uint16, g scsi.TargetPortGroups) error {
	return wrap(t.t.SetTargetPorts(n, &g))
}

// SetAccessState gives a target port group of a LUN another access state, as an
// implicit change. Commands that began before it finish.
func (t *Target) SetAccessState(n, group uint16, s scsi.AccessState) error {
	return wrap(t.t.SetAccessState(n, group, s))
}

// SetPreferred says whether a target port group of a LUN is the one to use.
func (t *Target) SetPreferred(n, group uint16, preferred bool) error {
	return wrap(t.t.SetPreferred(n, group, preferred))
}

// Replacement is a configuration of a target that took the place of another.
// One of Settle and Undo ends it.
type Replacement struct{ r *actors.Replacement }

// Settle ends the sessions that are not admitted any more.
func (r *Replacement) Settle() { r.r.Settle() }

// Undo puts the earlier configuration back.
func (r *Replacement) Undo() { r.r.Undo() }

// Replace puts other options into force for a target that runs, all but its
// LUNs. Sessions go on; what was negotiated stays, and a changed secret counts
// from the next login.
func (t *Target) Replace(opts ...TargetOption) (*Replacement, error) {
	o, err := collect(t.Name(), opts)
	if err != nil {
		return nil, err
	}
	r, err := t.t.Replace(o.cfg)
	if err != nil {
		return nil, wrap(err)
	}
	return &Replacement{r}, nil
}

// AttachLUNFrom is AttachLUN for a backend that is opened anew each time the LUN
// starts.
func (t *Target) AttachLUNFrom(ctx context.Context, n uint16, open luns.Opener, opts ...LUNOption) error {
	_, err := t.t.AttachLUN(ctx, t.s.named(t.Name(), lunConfig(n, open, opts)))
	return wrap(err)
}

// Refusal is why an initiator was not let in. Equal ones are one record.
type Refusal struct {
	Initiator   string // as claimed
	Address     netip.Addr
	Target      string // empty in a discovery
	Discovery   bool
	Portal      string // address that was connected to
	Status      uint16 // Status-Class and Status-Detail, RFC 7143 §11.13.5
	StatusText  string
	Reason      string
	First, Last time.Time
	Count       uint64
}

func refusal(r *actors.LoginRefusal) Refusal {
	return Refusal{
		Initiator: r.Initiator, Address: r.Address, Target: r.Target, Discovery: r.Discovery, Portal: r.Portal,
		Status: uint16(r.Status), StatusText: r.Status.String(), Reason: r.Reason, First: r.First, Last: r.Last, Count: r.Count,
	}
}

// Refusals lists the logins that were refused, the latest first.
func (s *Server) Refusals() []Refusal {
	var out []Refusal
	for _, r := range s.node.Refusals() {
		out = append(out, refusal(&r))
	}
	return out
}

// LoginTotals is the number of logins by their result: Status-Class and
// Status-Detail, 0 for success.
func (s *Server) LoginTotals() map[uint16]uint64 {
	out := make(map[uint16]uint64)
	for status, n := range s.node.LoginTotals() {
		out[uint16(status)] = n
	}
	return out
}

// OnRefusal has f called for each refused login. f must not block.
func (s *Server) OnRefusal(f func(Refusal)) (cancel func()) {
	return s.node.OnRefusal(func(r actors.LoginRefusal) { f(refusal(&r)) })
}

// Actor is one actor of the tree, for inspection.
type Actor struct {
	Path        string
	Kind        string
	Behaviour   string
	State       string // starting, running, failed, restarting, stopping
	Queued      int    // messages in the mailbox
	MaxQueued   int
	Processed   uint64
	Restarts    uint64
	Failures    uint64
	LastMessage string
	Age         time.Duration
}

// Actors lists the actors that live now, by path.
func (s *Server) Actors() []Actor {
	infos := s.node.Actors()
	out := make([]Actor, 0, len(infos))
	for i := range infos {
		out = append(out, actorOf(&infos[i]))
	}
	return out
}

func actorOf(i *runtime.Info) Actor {
	return Actor{
		Path: i.Path, Kind: i.Kind, Behaviour: i.Behaviour, State: i.State.String(), Queued: i.Depth, MaxQueued: i.MaxDepth,
		Processed: i.Processed, Restarts: i.Restarts, Failures: i.Failures, LastMessage: i.LastMessage, Age: i.Age,
	}
}

// DescribeActor returns an actor and what it shows of its state, nil if nothing.
func (s *Server) DescribeActor(ctx context.Context, path string) (Actor, any, error) {
	i, v, err := s.node.Describe(ctx, path)
	return actorOf(&i), v, wrap(err)
}

// RestartActor has the actor at path begin anew by way of its supervisor, as
// after a fault. A connection or session ends by it.
func (s *Server) RestartActor(path string) error { return wrap(s.node.RestartActor(path)) }

// StopActor stops a connection or a session.
func (s *Server) StopActor(path string) error { return wrap(s.node.StopActor(path)) }

// Inject causes a fault in the actor at path, to show what supervision does:
// "panic"; "stop", which nobody makes good before a restart of the server, but
// for connections and sessions; "delay", for which it takes no message, at most
// 30 s. It needs WithFaultInjection.
func (s *Server) Inject(path, fault string, delay time.Duration) error {
	return wrap(s.node.Inject(path, actors.FaultKind(fault), delay))
}

// Fault is a supervision event: an actor panicked, and what was done about it.
type Fault struct {
	Seq        uint64
	Time       time.Time
	Path, Kind string
	Generation uint64
	Message    string // type of the message in hand
	Panic      string
	Stack      string
	Action     string
	Backoff    time.Duration
}

func faultOf(e *runtime.Event) Fault {
	return Fault{
		Seq: e.Seq, Time: e.Time, Path: e.Path, Kind: e.Kind, Generation: e.Generation, Message: e.Message,
		Panic: e.Panic, Stack: e.Stack, Action: e.Action.String(), Backoff: e.Backoff,
	}
}

// Faults are the latest supervision events, oldest first.
func (s *Server) Faults() []Fault {
	events := s.node.Events()
	out := make([]Fault, 0, len(events))
	for i := range events {
		out = append(out, faultOf(&events[i]))
	}
	return out
}

// OnFault has f called for each supervision event. f must not block.
func (s *Server) OnFault(f func(Fault)) (cancel func()) {
	return s.node.OnEvent(func(e runtime.Event) { f(faultOf(&e)) })
}

// ActorTotals are totals since the server began.
type ActorTotals struct{ Spawned, Stopped, Failures, Restarts, GaveUp, Dropped uint64 }

// ActorTotals returns the totals of all actors.
func (s *Server) ActorTotals() ActorTotals { return ActorTotals(s.node.Counters()) }

// BuffersInUse is the number of bytes of data buffers in use now, BufferLimit
// how many there may be.
func (s *Server) BuffersInUse() int64 { return s.node.BuffersInUse() }

// BufferLimit is Limits.BufferMemory as it is in force.
func (s *Server) BufferLimit() int64 { return s.node.Limits().BufferMemory }

// Ping returns when the root of the actors has answered: it is alive.
func (s *Server) Ping(ctx context.Context) error { return wrap(s.node.Ping(ctx)) }

// SetDiscovery replaces who may discover targets through the portals of a group,
// from the next login on. It returns what puts the old rule back.
func (s *Server) SetDiscovery(group string, opts ...AccessOption) (undo func(), err error) {
	s.mu.Lock()
	g := s.groups[group]
	s.mu.Unlock()
	if g == nil {
		return nil, fmt.Errorf("iserd: portal group %s: %w", group, ErrNotFound)
	}
	var a actors.Access
	for _, f := range opts {
		f(&a)
	}
	if err := a.Auth.Validate(); err != nil {
		return nil, fmt.Errorf("iserd: portal group %s: %w", group, err)
	}
	old := g.SetDiscovery(a)
	return func() { g.SetDiscovery(old) }, nil
}

// ForgetGroup removes a portal group that has no portal any more, so that its
// tag can be used again.
func (s *Server) ForgetGroup(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.node.Portals() {
		if p.Group == name {
			return
		}
	}
	delete(s.groups, name)
}

package iserd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/internal/hclogslog"
	"github.com/iserd/iserd/iser/verbs"
)

// Server is a set of targets and the portals they are offered on. Its methods
// are safe for concurrent use. Shutdown ends it.
type Server struct {
	node     *actors.Node
	stateDir string
	log      hclog.Logger

	mu     sync.Mutex
	groups map[string]*actors.PortalGroup // guarded by mu
	done   chan struct{}
	once   sync.Once
	rdma   providers

	adapterOnce sync.Once // the log says once why adapters are not used
}

// Limits bound what a server does for its peers. Zero fields have defaults.
type Limits struct {
	Sessions      int           // sessions at once; 1024
	LoginTimeout  time.Duration // from accept to the end of the login; 15 s
	NopInterval   time.Duration // silence before the target asks for a sign of life; 5 s
	NopTimeout    time.Duration // silence after that which ends the connection; 5 s
	BufferMemory  int64         // bytes of data buffers in all; 1 GiB
	CommandWindow int           // commands in flight per session; 128
}

// Option changes a Server.
type Option func(*options)

type options struct {
	actors.Options
	stateDir string
}

// WithLogger has the server log to l. Without it the server is silent.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.Logger = hclogslog.ToHCLog(l) }
}

// WithLimits sets limits.
func WithLimits(l Limits) Option {
	return func(o *options) {
		o.Limits = actors.Limits{
			Sessions: l.Sessions, LoginTimeout: l.LoginTimeout, NopInterval: l.NopInterval,
			NopTimeout: l.NopTimeout, BufferMemory: l.BufferMemory, CommandWindow: l.CommandWindow,
		}
	}
}

// SetLimits changes limits while the server runs: Sessions, LoginTimeout, NopInterval
// and NopTimeout. Sessions that are there stay, however many; the other fields are
// for NewServer.
func (s *Server) SetLimits(l Limits) {
	s.node.SetLimits(actors.Limits{Sessions: l.Sessions, LoginTimeout: l.LoginTimeout, NopInterval: l.NopInterval, NopTimeout: l.NopTimeout})
}

// WithStateDir keeps what must outlive the server in dir, which has to exist:
// persistent reservations that ask for it (APTPL). Without it initiators are
// told that reservations do not survive a power loss.
func WithStateDir(dir string) Option {
	return func(o *options) { o.stateDir = dir }
}

// WithFaultInjection allows Inject. It is for tests of what initiators see.
func WithFaultInjection() Option {
	return func(o *options) { o.FaultInjection = true }
}

// NewServer returns a server without targets that listens nowhere.
func NewServer(opts ...Option) (*Server, error) {
	o := options{Options: actors.Options{Logger: hclog.NewNullLogger()}}
	for _, f := range opts {
		f(&o)
	}
	n, err := actors.NewNode(o.Options)
	if err != nil {
		return nil, fmt.Errorf("iserd: %w", err)
	}
	return &Server{node: n, stateDir: o.stateDir, log: o.Logger, groups: make(map[string]*actors.PortalGroup), done: make(chan struct{})}, nil
}

// PortalGroup is a target portal group, RFC 7143 §4.4.1: portals that offer
// the same targets under one tag.
type PortalGroup struct {
	Name string
	Tag  uint16 // TargetPortalGroupTag, not 0
	// Discovery says who may discover targets; empty: everybody. What is told
	// are the targets that the initiator may log in to.
	Discovery []AccessOption
}

// defaultGroup is the group of portals that name none.
var defaultGroup = PortalGroup{Name: "default", Tag: 1}

func (s *Server) group(g PortalGroup) (*actors.PortalGroup, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.groups[g.Name]; known != nil {
		if known.Tag != g.Tag {
			return nil, fmt.Errorf("iserd: portal group %s has tag %d already", g.Name, known.Tag)
		}
		return known, nil
	}
	for _, other := range s.groups {
		if other.Tag == g.Tag {
			return nil, fmt.Errorf("iserd: portal groups %s and %s have the same tag %d", other.Name, g.Name, g.Tag)
		}
	}
	a := &actors.PortalGroup{Name: g.Name, Tag: g.Tag}
	for _, f := range g.Discovery {
		f(&a.Discovery)
	}
	if err := a.Discovery.Auth.Validate(); err != nil {
		return nil, fmt.Errorf("iserd: portal group %s: %w", g.Name, err)
	}
	s.groups[g.Name] = a
	return a, nil
}

// PortalOption changes a portal.
type PortalOption func(*portalOptions)

// portalOptions collects what the options of a portal say.
type portalOptions struct {
	group   PortalGroup
	tcpOnly bool
	more    []actors.PortalOption

	portalGroup *actors.PortalGroup // that of group
}

// portalOptions returns what opts say, and the group that they name.
func (s *Server) portalOptions(opts []PortalOption) (o portalOptions, err error) {
	o.group = defaultGroup
	for _, f := range opts {
		f(&o)
	}
	o.portalGroup, err = s.group(o.group)
	return o, err
}

// InGroup makes the portal one of group g. Without it the group is "default"
// with tag 1.
func InGroup(g PortalGroup) PortalOption { return func(o *portalOptions) { o.group = g } }

// Advertise has discovery tell address, "HOST:PORT", in place of the one that is
// listened on: the portal's address as initiators see it, through a NAT or a load
// balancer. An IPv6 address stands in brackets; a DNS name is allowed.
func Advertise(address string) PortalOption {
	return func(o *portalOptions) { o.more = append(o.more, actors.Advertise(address)) }
}

// Redirect sends initiators to another address (RFC 7143 §11.13.5).
type Redirect = actors.Redirect

// RedirectLogins sends every login at the portal that is not for discovery to
// another address, once the initiator has proved who it is.
func RedirectLogins(r Redirect) PortalOption {
	return func(o *portalOptions) { o.more = append(o.more, actors.RedirectLogins(r)) }
}

// TCPOnly has a portal serve iSCSI over TCP and no iSER beside it.
func TCPOnly() PortalOption { return func(o *portalOptions) { o.tcpOnly = true } }

// ISEROptions are choices for the iSER connections of a portal.
type ISEROptions = actors.ISEROptions

// ISER sets choices for the iSER connections of the portal.
func ISER(choices ISEROptions) PortalOption {
	return func(o *portalOptions) { o.more = append(o.more, actors.ISER(choices)) }
}

// ListenAndServe listens on a TCP address ("ADDR:PORT", ":3260") and serves there
// as AddPortal does until ctx ends or Shutdown is called.
func (s *Server) ListenAndServe(ctx context.Context, addr string, opts ...PortalOption) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("iserd: %w", err)
	}
	return s.Serve(ctx, l, opts...)
}

// Serve accepts connections from l, which it takes, until ctx ends (existing
// connections go on) or Shutdown is called. It returns nil then.
func (s *Server) Serve(ctx context.Context, l net.Listener, opts ...PortalOption) error {
	stop, err := s.AddPortal(ctx, l, opts...)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		stop()
	case <-s.done:
	}
	return nil
}

// AddPortal is Serve without waiting: the portal is open on return. stop closes
// it and leaves existing connections alone.
//
// A portal on a TCP address serves iSER too, unless TCPOnly is among opts: at the
// same address and port by the adapter that has the address, else by iWARP in
// software, which tells its connections from TCP's by their first bytes. An adapter
// that cannot be used is reported in the log and is no error.
func (s *Server) AddPortal(ctx context.Context, l net.Listener, opts ...PortalOption) (stop func(), err error) {
	o, err := s.portalOptions(opts)
	if err != nil {
		l.Close()
		return nil, err
	}
	stopAdapter := func() {}
	if at, ok := l.Addr().(*net.TCPAddr); ok && !o.tcpOnly {
		var soft verbs.Provider
		if soft, stopAdapter = s.besides(ctx, at.AddrPort(), &o); soft != nil {
			o.more = append(o.more, actors.SoftISER(soft))
		}
	}
	stopTCP, err := s.node.Serve(ctx, l, o.portalGroup, o.more...)
	if err != nil {
		stopAdapter()
		l.Close()
		return nil, fmt.Errorf("iserd: %w", err)
	}
	return func() { stopTCP(); stopAdapter() }, nil
}

// DialInternal returns a connection to the server that leaves the process on
// no network, for tests and for initiators in the same program.
func (s *Server) DialInternal() (net.Conn, error) {
	g, err := s.group(defaultGroup)
	if err != nil {
		return nil, err
	}
	return s.node.Dial(g)
}

// Shutdown ends the server: no new connections, initiators are asked to log
// out and have until ctx ends to do so, then connections are closed, backends
// flushed and closed.
func (s *Server) Shutdown(ctx context.Context) error {
	err := errors.New("iserd: already shut down")
	s.once.Do(func() {
		err = errors.Join(s.node.Shutdown(ctx), s.rdma.close())
		close(s.done)
	})
	return err
}

// AccessOption restricts who may log in.
type AccessOption func(*actors.Access)

// Allow admits these initiator names only.
func Allow(names ...string) AccessOption {
	return func(a *actors.Access) { a.Names = append(a.Names, names...) }
}

// AllowFrom admits initiators at these addresses only.
func AllowFrom(prefixes ...netip.Prefix) AccessOption {
	return func(a *actors.Access) { a.Addresses = append(a.Addresses, prefixes...) }
}

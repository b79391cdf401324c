package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/internal/hclogslog"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/block"
	"github.com/iserd/iserd/luns/file"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/luns/null"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/login"
)

// revision is the product revision level that logical units report.
const revision = "0001"

// daemon is a running server.
type daemon struct {
	server *iserd.Server
	addrs  []netip.AddrPort // of the portals at first, with the ports that were bound
	stores *stores

	mu    sync.Mutex
	stops map[netip.AddrPort]func() // closes a portal, by its address in the configuration
}

// start binds the portals, opens the backing stores and begins to serve. On an
// error nothing is left open. The portals are bound first, so that initiators
// that come back after a restart wait in the queue instead of being refused, and
// accept only once all targets are there.
func start(ctx context.Context, c *config.Config, log hclog.Logger) (*daemon, error) {
	if c.Node.Name != "" {
		log = log.With("node", c.Node.Name)
	}
	listeners, err := bind(ctx, c)
	if err != nil {
		return nil, err
	}
	opts := []iserd.Option{iserd.WithLogger(slog.New(hclogslog.New(log))), iserd.WithLimits(serverLimits(c.Limits))}
	if dir := c.Node.StateDir; dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("node.state_dir: %w", err)
		}
		opts = append(opts, iserd.WithStateDir(dir))
	}
	if c.Console.FaultInjection {
		opts = append(opts, iserd.WithFaultInjection())
	}
	srv, err := iserd.NewServer(opts...)
	if err != nil {
		closeAll(listeners)
		return nil, err
	}
	d := &daemon{server: srv, stores: newStores(), stops: make(map[netip.AddrPort]func())}
	if err := d.populate(ctx, c, listeners, log); err != nil {
		closeAll(listeners)
		// The listeners are closed and no session has begun: there is nothing
		// to wait for.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, errors.Join(err, srv.Shutdown(stop))
	}
	return d, nil
}

// bind listens on all portals, in the order of the configuration.
func bind(ctx context.Context, c *config.Config) ([]net.Listener, error) {
	var all []net.Listener
	for i := range c.PortalGroups {
		for j := range c.PortalGroups[i].Portals {
			l, err := bindPortal(ctx, &c.PortalGroups[i].Portals[j])
			if err != nil {
				closeAll(all)
				return nil, err
			}
			all = append(all, l)
		}
	}
	return all, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close() // the error that led here is the one to report
	}
}

// populate adds the targets and then opens the portals.
func (d *daemon) populate(ctx context.Context, c *config.Config, listeners []net.Listener, log hclog.Logger) error {
	for i := range c.Targets {
		opts, err := targetOptions(c, &c.Targets[i], d.stores, log)
		if err != nil {
			return err
		}
		if _, err := d.server.AddTarget(ctx, c.Targets[i].Name, opts...); err != nil {
			return storeError(err)
		}
	}
	for i := range c.PortalGroups {
		for j := range c.PortalGroups[i].Portals {
			l := listeners[len(d.addrs)]
			if err := d.offer(ctx, c, &c.PortalGroups[i], &c.PortalGroups[i].Portals[j], l); err != nil {
				return err
			}
			d.addrs = append(d.addrs, addrPort(l))
		}
	}
	return nil
}

// openPortal listens on a portal and serves there.
func (d *daemon) openPortal(ctx context.Context, c *config.Config, g *config.PortalGroup, p *config.Portal) error {
	l, err := bindPortal(ctx, p)
	if err != nil {
		return err
	}
	return d.offer(ctx, c, g, p, l)
}

// offer makes l, which it takes, the portal p.
func (d *daemon) offer(ctx context.Context, c *config.Config, g *config.PortalGroup, p *config.Portal, l net.Listener) error {
	group, err := portalGroup(c, g)
	if err != nil {
		l.Close()
		return err
	}
	stop, err := addPortal(ctx, d.server, l, p, portalOptions(p, group))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stops[p.AddrPort] = stop
	return nil
}

// portalOptions maps a portal block.
func portalOptions(p *config.Portal, group iserd.PortalGroup) []iserd.PortalOption {
	opts := []iserd.PortalOption{iserd.InGroup(group), iserd.ISER(iserd.ISEROptions{
		NoRemoteInvalidation: !p.ISER.RemoteInvalidation, NoInitialR2T: !p.ISER.InitialR2T,
	})}
	if p.Transport == "tcp" {
		opts = append(opts, iserd.TCPOnly())
	}
	if p.Advertise != "" {
		opts = append(opts, iserd.Advertise(p.Advertise))
	}
	if r := p.Redirect; r != nil {
		opts = append(opts, iserd.RedirectLogins(iserd.Redirect{Address: r.To, Permanent: r.Permanent}))
	}
	return opts
}

func addrPort(l net.Listener) netip.AddrPort {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// storeError gives the error of a backing store its exit code.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, luns.ErrTransient), strings.Contains(err.Error(), ": in use by "):
		// A file's lock error is of no class of luns; only its words tell.
		return &exitError{exitBusy, err}
	case errors.Is(err, os.ErrNotExist):
		return &exitError{exitNotFound, err}
	default:
		return err
	}
}

// shutdown ends the server within timeout; a further SIGTERM or SIGINT ends the
// wait for initiators at once.
func (d *daemon) shutdown(timeout time.Duration, log hclog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := d.server.Shutdown(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		log.Warn("some initiators had not logged out")
		err = nil
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

func serverLimits(l config.Limits) iserd.Limits {
	return iserd.Limits{
		Sessions:      l.Sessions,
		LoginTimeout:  l.LoginTimeout,
		NopInterval:   l.NopInterval,
		NopTimeout:    l.NopTimeout,
		BufferMemory:  l.BufferMemory,
		CommandWindow: l.CommandsPerSession,
	}
}

// portalGroup maps a portal_group block.
func portalGroup(c *config.Config, g *config.PortalGroup) (iserd.PortalGroup, error) {
	access, err := accessOptions(c.Auth(g.DiscoveryAuth))
	return iserd.PortalGroup{Name: g.Name, Tag: uint16(g.Tag), Discovery: access}, err
}

// accessOptions maps an auth block; nil admits everybody.
func accessOptions(a *config.Auth) ([]iserd.AccessOption, error) {
	if a == nil {
		return nil, nil
	}
	var opts []iserd.AccessOption
	if len(a.InitiatorName) > 0 {
		opts = append(opts, iserd.Allow(a.InitiatorName...))
	}
	if len(a.InitiatorAddress) > 0 {
		opts = append(opts, iserd.AllowFrom(a.InitiatorAddress...))
	}
	if a.Type == config.AuthNone {
		return opts, nil
	}
	var algorithms []chap.Algorithm
	for _, name := range a.Algorithms {
		alg, err := chap.ParseAlgorithm(name)
		if err != nil {
			return nil, err
		}
		algorithms = append(algorithms, alg)
	}
	secrets := map[string][]byte{}
	for i := range a.Users {
		secrets[a.Users[i].Name] = a.Users[i].Secret.Reveal()
	}
	opts = append(opts, iserd.CHAP(secrets, algorithms...))
	if a.Mutual != nil {
		opts = append(opts, iserd.MutualCHAP(a.Mutual.User, a.Mutual.Secret.Reveal()))
	}
	return opts, nil
}

// targetOptions maps a target block.
func targetOptions(c *config.Config, t *config.Target, st *stores, log hclog.Logger) ([]iserd.TargetOption, error) {
	opts, err := accessOfTarget(c, t)
	if err != nil {
		return nil, err
	}
	for i := range t.LUNs {
		open, lun, err := lunParts(c, t, &t.LUNs[i], st, log)
		if err != nil {
			return nil, err
		}
		opts = append(opts, iserd.LUNFrom(t.LUNs[i].Number, open, lun...))
	}
	return opts, nil
}

// accessOfTarget maps all of a target block but its LUNs.
func accessOfTarget(c *config.Config, t *config.Target) ([]iserd.TargetOption, error) {
	opts := []iserd.TargetOption{
		iserd.Alias(t.Alias),
		iserd.Groups(t.PortalGroups...),
		iserd.SessionLimits(sessionLimits(&t.Session)),
	}
	if r := t.Redirect; r != nil {
		opts = append(opts, iserd.RedirectTo(iserd.Redirect{Address: r.To, Permanent: r.Permanent}))
	}
	if t.AsyncEvents {
		opts = append(opts, iserd.AsyncEvents())
	}
	if t.Insecure {
		opts = append(opts, iserd.AnyInitiator())
	}
	access, err := accessOptions(c.Auth(t.Auth))
	if err != nil {
		return nil, err
	}
	opts = append(opts, iserd.Access(access...))
	for i := range t.Initiators {
		n := &t.Initiators[i]
		opts = append(opts, iserd.Initiator(n.Name, view(n)))
	}
	return opts, nil
}

// lunParts maps a lun block of t.
func lunParts(c *config.Config, t *config.Target, l *config.LUN, st *stores, log hclog.Logger) (luns.Opener, []iserd.LUNOption, error) {
	wrong := func(err error) (luns.Opener, []iserd.LUNOption, error) {
		return nil, nil, fmt.Errorf("target %s, LUN %d: %w", t.Name, l.Number, err)
	}
	open, err := st.opener(c.Backend(l.Backend))
	if err != nil {
		return wrong(err)
	}
	open, err = filtered(open, l.Filters, log.Named("lun").With("target", t.Name, "lun", l.Number))
	if err != nil {
		return wrong(err)
	}
	unit, err := unitConfig(l)
	if err != nil {
		return wrong(err)
	}
	ports, err := targetPorts(c, t, l)
	if err != nil {
		return wrong(err)
	}
	return open, []iserd.LUNOption{iserd.Unit(unit), iserd.TargetPorts(ports)}, nil
}

// view maps an initiator block. The configuration names LUNs as the initiator
// sees them, the view as the target numbers them.
func view(n *config.Initiator) iserd.View {
	v := iserd.View{LUNs: n.LUNs}
	for _, seen := range n.ReadOnly {
		own := seen
		if n.LUNs != nil {
			own = n.LUNs[seen]
		}
		v.ReadOnly = append(v.ReadOnly, own)
	}
	slices.Sort(v.ReadOnly)
	return v
}

func sessionLimits(s *config.Session) login.Limits {
	l := login.DefaultLimits()
	l.MaxConnections = s.MaxConnections
	l.InitialR2T = s.InitialR2T
	l.ImmediateData = s.ImmediateData
	l.MaxRecvDataSegmentLength = int(s.MaxRecvDataSegmentLength)
	l.MaxBurstLength = int(s.MaxBurstLength)
	l.FirstBurstLength = int(s.FirstBurstLength)
	l.DefaultTime2Wait = s.DefaultTime2Wait
	l.DefaultTime2Retain = s.DefaultTime2Retain
	l.MaxOutstandingR2T = s.MaxOutstandingR2T
	l.ErrorRecoveryLevel = s.ErrorRecoveryLevel
	l.HeaderDigest = s.HeaderDigest
	l.DataDigest = s.DataDigest
	return l
}

// unitConfig maps a lun block. What is left out of serial and naa is made by the
// server of the names, and stays the same as long as they do.
func unitConfig(l *config.LUN) (scsi.Config, error) {
	u := scsi.Config{
		Vendor:    l.Vendor,
		Product:   l.Product,
		Revision:  revision,
		Serial:    l.Serial,
		BlockSize: int(l.BlockSize),
		ReadOnly:  l.ReadOnly,
		Removable: l.Removable,

		Thin:          l.Thin,
		ThinThreshold: l.ThinThreshold,
		WriteCache:    l.WriteCache,
	}
	if l.NAA != "" {
		naa, err := strconv.ParseUint(strings.TrimPrefix(l.NAA, "naa."), 16, 64)
		if err != nil {
			return scsi.Config{}, fmt.Errorf("naa: %w", err)
		}
		u.NAA = naa
	}
	return u, nil
}

func backendOpener(b *config.Backend) (luns.Opener, error) {
	switch {
	case b.File != nil:
		return file.NewOpener(file.Options{
			Path: b.File.Path, Size: b.File.Size, Create: b.File.Create, DirectIO: b.File.DirectIO, ReadOnly: b.File.ReadOnly,
		})
	case b.Block != nil:
		return block.NewOpener(block.Options{Path: b.Block.Path, DirectIO: b.Block.DirectIO, ReadOnly: b.Block.ReadOnly})
	case b.Memory != nil:
		// Only addresses are reserved for what it may grow to.
		return memory.NewOpener(memory.Options{Size: b.Memory.Size, MaxSize: 4 * b.Memory.Size, Pin: b.Memory.Pin})
	case b.Null != nil:
		size := b.Null.Size
		return func(context.Context) (luns.Backend, error) { return null.New(null.Options{Size: size}) }, nil
	default:
		return nil, fmt.Errorf("unknown backend kind %q", b.Kind)
	}
}

package actors

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// Access says who may log in, and how they prove who they are. All that is
// set must hold: name and address and CHAP.
type Access struct {
	Auth      login.Auth
	Names     []string       // initiator names; empty: any
	Addresses []netip.Prefix // initiator addresses; empty: any
}

func (a *Access) check(name string, peer netip.Addr) *login.Refusal {
	if len(a.Names) > 0 && !slices.Contains(a.Names, name) {
		return refuse(pdu.LoginAuthorizationFailure, "initiator %s is not on the list of initiator names", name)
	}
	if len(a.Addresses) == 0 {
		return nil
	}
	for _, p := range a.Addresses {
		if p.Contains(peer) {
			return nil
		}
	}
	return refuse(pdu.LoginAuthorizationFailure, "address %v is not on the list of initiator addresses", peer)
}

func refuse(s pdu.LoginStatus, format string, args ...any) *login.Refusal {
	return &login.Refusal{Status: s, Reason: fmt.Sprintf(format, args...)}
}

// PortalGroup is a set of portals that offer the same targets, RFC 7143
// §4.4.1. Portals are added by Serve.
type PortalGroup struct {
	Name      string
	Tag       uint16
	Discovery Access // as it is at first; see SetDiscovery

	changed atomic.Pointer[Access]
}

// SetDiscovery replaces who may discover targets, for logins from now on, and
// returns who might before.
func (g *PortalGroup) SetDiscovery(a Access) (old Access) {
	old = *g.access()
	g.changed.Store(&a)
	return old
}

func (g *PortalGroup) access() *Access {
	if a := g.changed.Load(); a != nil {
		return a
	}
	return &g.Discovery
}

// portal is one listening address.
type portal struct {
	group      *PortalGroup
	listener   net.Listener
	advertised string    // "HOST:PORT" that initiators are told; "": where it listens
	redirect   *Redirect // nil: logins are served
	iser       ISEROptions
	provider   string // of RDMA, for a portal that is iSER's alone
	inlet      *inlet // nil: no iSER beside TCP
}

// close ends listening.
func (p *portal) close() {
	p.listener.Close()
	if p.inlet != nil {
		p.inlet.close()
	}
}

// registry is what logins look things up in. It is replaced, never changed.
type registry struct {
	targets map[string]*Target
	portals []*portal
}

// update replaces the registry by what change makes of a copy.
func (n *Node) update(change func(*registry) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.registry.Load()
	r := &registry{targets: maps.Clone(old.targets), portals: slices.Clone(old.portals)}
	if r.targets == nil {
		r.targets = make(map[string]*Target)
	}
	if err := change(r); err != nil {
		return err
	}
	n.registry.Store(r)
	return nil
}

// loginPolicy decides on the logins of one connection.
type loginPolicy struct {
	n      *Node
	portal *portal
	peer   netip.Addr
}

// Authorize implements login.Policy.
func (p *loginPolicy) Authorize(id login.Identity) (*login.Grant, error) {
	group := p.portal.group
	limits := login.DefaultLimits()
	limits.CommandWindow = p.n.limits.CommandWindow
	if id.Discovery {
		access := group.access()
		if r := access.check(id.InitiatorName, p.peer); r != nil {
			return nil, r
		}
		return &login.Grant{Auth: access.Auth, Limits: limits, PortalGroupTag: group.Tag}, nil
	}
	t := p.n.registry.Load().targets[id.TargetName]
	switch t {
	case nil:
		return nil, refuse(pdu.LoginTargetNotFound, "there is no target %s", id.TargetName)
	}
	cfg := t.cfg.Load()
	if !cfg.offeredBy(group) {
		return nil, refuse(pdu.LoginTargetNotFound, "portal group %s does not offer target %s", group.Name, id.TargetName)
	}
	if r := cfg.admits(id.InitiatorName, p.peer); r != nil {
		return nil, r
	}
	if t.offline.Load() {
		return nil, refuse(pdu.LoginServiceUnavailable, "target %s was taken offline by the operator", id.TargetName)
	}
	g := &login.Grant{Auth: cfg.Access.Auth, Limits: cfg.Session, PortalGroupTag: group.Tag, TargetAlias: cfg.Alias}
	g.Limits.CommandWindow = p.n.limits.CommandWindow
	if p.portal.iser.NoInitialR2T {
		g.Limits.InitialR2TOverISER = false
	}
	return g, nil
}

// sendTargets lists what an initiator may log in to, and where.
func (n *Node) sendTargets(s *iscsi.Session, which string, peer netip.Addr, local net.Addr) []iscsi.TargetRecord {
	reg := n.registry.Load()
	names := slices.Sorted(maps.Keys(reg.targets))
	switch {
	case which == "":
		which = s.Identity.TargetName
		fallthrough
	case which != "All":
		names = []string{which}
	}
	var out []iscsi.TargetRecord
	for _, name := range names {
		t := reg.targets[name]
		if t == nil {
			continue
		}
		cfg := t.cfg.Load()
		if cfg.admits(s.Identity.InitiatorName, peer) != nil {
			continue
		}
		rec := iscsi.TargetRecord{Name: name}
		for _, p := range reg.portals {
			if cfg.offeredBy(p.group) {
				if a := p.advertise(local); !slices.Contains(rec.Addresses, a) {
					rec.Addresses = append(rec.Addresses, a)
				}
			}
		}
		if len(rec.Addresses) > 0 {
			out = append(out, rec)
		}
	}
	return out
}

// advertise is the TargetAddress of a portal, RFC 7143 §13.8. A portal on the
// unspecified address is reached where this initiator reached us.
func (p *portal) advertise(local net.Addr) string {
	a := addrPort(p.listener.Addr())
	if l := addrPort(local); a.Addr().IsUnspecified() && l.IsValid() {
		a = netip.AddrPortFrom(l.Addr(), a.Port())
	}
	host := a.String()
	if !a.IsValid() {
		host = p.listener.Addr().String()
	}
	return p.targetAddress(host)
}

// addrPort is the address of a TCP end, invalid for others. IPv4 in IPv6 is
// taken as the IPv4 that it is.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(strings.TrimSpace(ap.Addr().Zone())), ap.Port())
}

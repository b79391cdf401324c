package iserd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/native"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

// providers are those that a server has chosen itself.
type providers struct {
	mu     sync.Mutex
	native verbs.Provider // guarded by mu
	soft   verbs.Provider // guarded by mu
}

// adapters returns the provider of the system's adapters.
func (p *providers) adapters() verbs.Provider {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.native == nil {
		p.native = native.New()
	}
	return p.native
}

// software returns iWARP in software, which takes nothing before it is used.
func (p *providers) software() verbs.Provider {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.soft == nil {
		p.soft = softiwarp.New(softiwarp.Config{})
	}
	return p.soft
}

// choose returns the provider for an address: adapters when one has it, else
// iWARP in software.
func (p *providers) choose(addr netip.Addr) verbs.Provider {
	if a := p.adapters(); hasAddress(a, addr) {
		return a
	}
	return p.software()
}

// besides opens what serves iSER beside TCP at an address: a listener of the
// adapter that has it, which stop closes, or iWARP in software on the port of TCP.
// At the unspecified address both are, for adapters have some of the addresses at
// most.
func (s *Server) besides(ctx context.Context, at netip.AddrPort, o *portalOptions) (soft verbs.Provider, stop func()) {
	stop = func() {}
	// Without a device in the kernel the libraries are not even loaded.
	if native.Present() {
		if err := s.rdma.unusable(); err != nil {
			s.adapterOnce.Do(func() {
				s.log.Warn("RDMA adapters cannot be used: iSER is served by iWARP in software", "reason", err)
			})
		} else if hasAddress(s.rdma.adapters(), at.Addr()) {
			_, end, err := s.node.ServeISER(ctx, s.rdma.adapters(), at, o.portalGroup, o.more...)
			switch {
			case err != nil:
				s.log.Warn("the RDMA adapter cannot serve the portal: iSER is served by iWARP in software",
					"address", at.String(), "reason", err)
			case at.Addr().IsUnspecified():
				stop = end
			default:
				return nil, end
			}
		}
	}
	return s.rdma.software(), stop
}

// unusable says why the adapters that the kernel has cannot be used; nil when
// they can.
func (p *providers) unusable() error {
	_, err := p.adapters().Devices()
	return err
}

// hasAddress reports whether a device of p has addr; any will do for the
// unspecified address.
func hasAddress(p verbs.Provider, addr netip.Addr) bool {
	devices, err := p.Devices()
	if err != nil {
		return false
	}
	for _, d := range devices {
		if addr.IsUnspecified() {
			return true
		}
		ports, err := d.Ports()
		if err != nil {
			continue
		}
		for _, port := range ports {
			for _, g := range port.GIDs {
				if g.Addr.Unmap() == addr.Unmap() {
					return true
				}
			}
		}
	}
	return false
}

func (p *providers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, x := range []verbs.Provider{p.native, p.soft} {
		if x != nil {
			errs = append(errs, x.Close())
		}
	}
	p.native, p.soft = nil, nil
	return errors.Join(errs...)
}

// ListenAndServeISER serves iSER (RFC 7145) at addr over the RDMA devices of prov
// until ctx ends (existing connections go on) or Shutdown is called. The server
// borrows prov; its owner closes it after Shutdown. If prov is nil the server takes
// the adapters of the system when one has the address, else iWARP in software.
func (s *Server) ListenAndServeISER(ctx context.Context, prov verbs.Provider, addr netip.AddrPort, opts ...PortalOption) error {
	_, stop, err := s.AddISERPortal(ctx, prov, addr, opts...)
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

// AddISERPortal is ListenAndServeISER without waiting: the portal is open on
// return, at the address at. stop closes it and leaves existing connections alone.
func (s *Server) AddISERPortal(ctx context.Context, prov verbs.Provider, addr netip.AddrPort, opts ...PortalOption) (at netip.AddrPort, stop func(), err error) {
	o, err := s.portalOptions(opts)
	if err != nil {
		return at, nil, err
	}
	if prov == nil {
		prov = s.rdma.choose(addr.Addr())
	}
	if at, stop, err = s.node.ServeISER(ctx, prov, addr, o.portalGroup, o.more...); err != nil {
		return at, nil, fmt.Errorf("iserd: %w", err)
	}
	return at, stop, nil
}

// RDMAUsage is what RDMA takes now.
type RDMAUsage struct {
	Connections int
	Registered  int64 // bytes of registered memory
	InUse       int64 // of them, handed out
}

// RDMAUsage returns what RDMA takes.
func (s *Server) RDMAUsage(ctx context.Context) (RDMAUsage, error) {
	u, err := s.node.RDMAUsage(ctx)
	if err != nil {
		return RDMAUsage{}, fmt.Errorf("iserd: %w", err)
	}
	return RDMAUsage(u), nil
}

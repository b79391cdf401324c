package iserd

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/iserd/iserd/iser/verbs"
)

// ListenAndServeISER serves iSER (RFC 7145) at addr over the RDMA devices of prov
// until ctx ends (existing connections go on) or Shutdown is called. The server
// borrows prov; its owner closes it after Shutdown.
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
	pg := defaultGroup
	for _, f := range opts {
		f(&pg)
	}
	g, err := s.group(pg)
	if err != nil {
		return at, nil, err
	}
	if at, stop, err = s.node.ServeISER(ctx, prov, addr, g); err != nil {
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

package main

import (
	"context"
	"net"
	"net/netip"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/config"
)

// bindPortal listens on a portal. That of an iSER portal begins with addPortal:
// RDMA has no socket that could be bound before.
func bindPortal(ctx context.Context, p *config.Portal) (net.Listener, error) {
	if p.Transport == "iser" {
		return iserPortal{p.AddrPort}, nil
	}
	return listen(ctx, p.AddrPort)
}

// iserPortal stands for the listener of an iSER portal.
type iserPortal struct{ at netip.AddrPort }

// Accept implements net.Listener.
func (iserPortal) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// Close implements net.Listener.
func (iserPortal) Close() error { return nil }

// Addr implements net.Listener.
func (p iserPortal) Addr() net.Addr { return net.TCPAddrFromAddrPort(p.at) }

// addPortal makes what bindPortal gave for p a portal of the server.
func addPortal(ctx context.Context, srv *iserd.Server, l net.Listener, p *config.Portal, opts []iserd.PortalOption) (stop func(), err error) {
	if p.Transport == "iser" {
		_, stop, err = srv.AddISERPortal(ctx, nil, p.AddrPort, opts...)
		return stop, err
	}
	return srv.AddPortal(ctx, l, opts...)
}

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/native"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
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

func newRDMA() *cobra.Command {
	return &cobra.Command{
		Use:   "rdma",
		Short: "List RDMA providers, devices and ports, and why one can't be used",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range []verbs.Provider{native.New(), softiwarp.New(softiwarp.Config{})} {
				printProvider(cmd.OutOrStdout(), p)
				if err := p.Close(); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

var providerText = map[string]string{
	"native":    "adapters, by the system's RDMA libraries",
	"softiwarp": "iWARP in software, over TCP, at every address",
}

func printProvider(w io.Writer, p verbs.Provider) {
	fmt.Fprintf(w, "%s: %s\n", p.Name(), providerText[p.Name()])
	devices, err := p.Devices()
	if err != nil {
		fmt.Fprintf(w, "  not usable: %v\n", err)
		return
	}
	for _, d := range devices {
		c := d.Caps()
		fmt.Fprintf(w, "  %s: %v, firmware %s\n", d.Name(), c.Transport, orNone(c.Firmware))
		fmt.Fprintf(w, "    Send with Invalidate %s, memory windows %s, on-demand paging %s\n",
			yesNo(c.SendInv), yesNo(c.Windows), yesNo(c.OnDemandPaging))
		fmt.Fprintf(w, "    RDMA Reads under way %d, answered %d; queue pairs %d of %d requests; longest message %d bytes\n",
			c.MaxInitRDAtom, c.MaxRDAtom, c.MaxQP, c.MaxWR, c.MaxMessage)
		ports, err := d.Ports()
		if err != nil {
			fmt.Fprintf(w, "    ports: %v\n", err)
			continue
		}
		for i := range ports {
			printPort(w, &ports[i])
		}
	}
}

func printPort(w io.Writer, p *verbs.Port) {
	fmt.Fprintf(w, "    port %d: %v, %v, MTU %d", p.Number, p.State, p.LinkLayer, p.ActiveMTU)
	if p.NetDev != "" {
		fmt.Fprintf(w, ", %s", p.NetDev)
	}
	if p.Rate != "" {
		fmt.Fprintf(w, ", %s", p.Rate)
	}
	if p.State != verbs.PortActive {
		fmt.Fprint(w, " (not usable: the link is not up)")
	}
	fmt.Fprintln(w)
	for _, g := range p.GIDs {
		fmt.Fprintf(w, "      %v (%v)\n", g.Addr, g.Type)
	}
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func orNone(s string) string {
	if s == "" {
		return "not told"
	}
	return s
}

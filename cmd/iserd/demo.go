package main

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/iserd/iserd/config"
)

const (
	demoTarget = "iqn.2026-11.io.github.iserd:demo"
	demoListen = "127.0.0.1:3260"
)

// demoHCL is the configuration of "iserd serve --demo".
const demoHCL = `
portal_group "demo" {
  tag = 1
  portal "127.0.0.1:3260" {}
}
backend "memory" "demo" {
  size = "1GiB"
}
target "` + demoTarget + `" {
  alias    = "iserd demo"
  insecure = true
  lun "0" {
    backend = backend.memory.demo
    thin    = true
  }
}
`

// demoConfig returns the demo's configuration for a portal; port 0 takes any
// free one. page is the address of the web page, empty for none.
func demoConfig(at netip.AddrPort, page string, opts ...config.Option) (*config.Config, config.Diagnostics) {
	c, diags := config.Parse("demo", []byte(demoHCL), opts...)
	if c != nil {
		c.PortalGroups[0].Portals[0].AddrPort = at
		if page != "" {
			c.HTTP = &config.HTTP{Listen: page}
		}
	}
	return c, diags
}

// demoHelp tells what to type on an initiator.
func demoHelp(w io.Writer, at netip.AddrPort, page string) {
	dial := at
	switch {
	case at.Addr() == netip.IPv4Unspecified():
		dial = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	case at.Addr() == netip.IPv6Unspecified():
		dial = netip.AddrPortFrom(netip.IPv6Loopback(), at.Port())
	}
	url := fmt.Sprintf("iscsi://%s/%s/0", dial, demoTarget)
	fmt.Fprintf(w, `iserd demo: 1 GiB of memory, gone when the daemon stops; no login is asked for.
Listening on %[1]s. Try, in another terminal:

  iscsi-ls -s iscsi://%[2]s
  qemu-img info %[3]s
  iserd bench %[3]s
  iserd bench iser://%[2]s/%[4]s/0      # the same over iSER, by iWARP in software

or, as root, with the kernel's own initiator:

  iscsiadm -m discovery -t sendtargets -p %[2]s
  iscsiadm -m node -T %[4]s -p %[2]s --login

Stop with Ctrl-C.
`, at, dial, url, demoTarget)
	if page != "" {
		fmt.Fprintf(w, "\nThe web page: http://%s/\n", page)
	}
	if !dial.Addr().IsLoopback() || !at.Addr().IsLoopback() {
		fmt.Fprintf(w, "\nWarning: everybody who can reach %s can read and write this disk.\n", at)
	}
}

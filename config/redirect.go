package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
)

// hostName is a DNS name, RFC 1123 §2.1.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// checkHostPort checks an address that initiators are told, RFC 7143 §13.8.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New(`write an address and a port, such as "192.0.2.1:3260", "[2001:db8::1]:3260" or "san.example.com:3260"`)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("the port is from 1 to 65535; iSCSI's own is 3260")
	}
	a, err := netip.ParseAddr(host)
	switch {
	case err == nil && a.IsUnspecified():
		return fmt.Errorf("%s stands for all addresses of a host: initiators need one of them", host)
	case err == nil && a.Zone() != "":
		return fmt.Errorf("the zone %q means nothing on another host", a.Zone())
	case err != nil && (len(host) > 253 || !hostName.MatchString(host)):
		return fmt.Errorf("%q is neither a numeric address nor a DNS name", host)
	}
	return nil
}

// reachedAt reports whether initiators reach the portal at address.
func (p *Portal) reachedAt(address string) bool {
	if p.Advertise != "" {
		return p.Advertise == address
	}
	ap, err := netip.ParseAddrPort(address)
	return err == nil && netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) == p.AddrPort
}

// portalRedirect refuses a portal that sends initiators to itself.
func (k *checker) portalRedirect(p *Portal) {
	if r := p.Redirect; r != nil && r.good("to") && p.reachedAt(r.To) {
		k.errorf(r.At("to"), "Redirect in a circle", "%s is this portal: initiators would be sent here again and again.", r.To)
	}
}

// targetRedirect refuses a target that would be redirected again where it is
// redirected to.
func (k *checker) targetRedirect(t *Target) {
	r := t.Redirect
	if r == nil || !r.good("to") {
		return
	}
	for i := range k.PortalGroups {
		g := &k.PortalGroups[i]
		for j := range g.Portals {
			if slices.Contains(t.PortalGroups, g.Name) && g.Portals[j].reachedAt(r.To) {
				k.errorf(r.At("to"), "Redirect in a circle",
					"%s is a portal of this target, which would redirect initiators again. To move initiators to another portal of this daemon, write the redirect into the portal that they leave.", r.To)
				return
			}
		}
	}
}

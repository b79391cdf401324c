package verbs

import (
	"fmt"
	"strings"
)

// Usable says why no connection can be made over d, as far as its ports tell;
// nil when one can.
func Usable(d Device) error {
	ports, err := d.Ports()
	if err != nil {
		return err
	}
	if len(ports) == 0 {
		return fmt.Errorf("%s has no port", d.Name())
	}
	var why []string
	for _, p := range ports {
		reason := unusable(p, d.Caps().Transport)
		if reason == "" {
			return nil
		}
		why = append(why, fmt.Sprintf("port %d %s", p.Number, reason))
	}
	return fmt.Errorf("%s: %s", d.Name(), strings.Join(why, "; "))
}

// unusable is what is wrong with a port, "" when nothing is.
func unusable(p Port, t Transport) string {
	switch {
	case p.State == PortDown && p.NetDev != "":
		return fmt.Sprintf("is DOWN: is the interface %s up, and has it a link?", p.NetDev)
	case p.State == PortInit && p.LinkLayer == LinkInfiniBand:
		return "is INIT: does a subnet manager run?"
	case p.State != PortActive:
		return "is " + p.State.String()
	case len(p.GIDs) == 0:
		return "has no GID"
	case t == TransportInfiniBand && p.LinkLayer == LinkEthernet && !hasAddress(p):
		// RoCE makes a GID of each address of the interface; of an interface
		// without any there is the link-local one.
		return fmt.Sprintf("has no IP address: give one to the interface %s", p.NetDev)
	}
	return ""
}

func hasAddress(p Port) bool {
	for _, g := range p.GIDs {
		if !g.Addr.IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

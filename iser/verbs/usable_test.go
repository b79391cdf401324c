package verbs_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/iserd/iserd/iser/verbs"
)

// portsDevice is a device of which only the ports are asked for.
type portsDevice struct {
	verbs.Device
	ports []verbs.Port
	err   error
	t     verbs.Transport
}

func (d portsDevice) Name() string                 { return "x0" }
func (d portsDevice) Caps() verbs.Caps             { return verbs.Caps{Transport: d.t} }
func (d portsDevice) Ports() ([]verbs.Port, error) { return d.ports, d.err }

func TestUsable(t *testing.T) {
	link := verbs.GID{Addr: netip.MustParseAddr("fe80::1"), Type: verbs.GIDRoCEv2, NetDev: "eth0"}
	ip := verbs.GID{Addr: netip.MustParseAddr("::ffff:10.0.0.1"), Type: verbs.GIDRoCEv2, NetDev: "eth0"}
	port := func(state verbs.PortState, layer verbs.LinkLayer, gids ...verbs.GID) verbs.Port {
		return verbs.Port{Number: 1, State: state, LinkLayer: layer, NetDev: "eth0", GIDs: gids}
	}
	lost := errors.New("lost")
	tests := []struct {
		name string
		d    portsDevice
		want string // "" means usable
	}{
		{"RoCE", portsDevice{ports: []verbs.Port{port(verbs.PortActive, verbs.LinkEthernet, link, ip)}, t: verbs.TransportInfiniBand}, ""},
		{"RoCE without an address", portsDevice{ports: []verbs.Port{port(verbs.PortActive, verbs.LinkEthernet, link)}, t: verbs.TransportInfiniBand}, "x0: port 1 has no IP address: give one to the interface eth0"},
		{"InfiniBand", portsDevice{ports: []verbs.Port{port(verbs.PortActive, verbs.LinkInfiniBand, link)}, t: verbs.TransportInfiniBand}, ""},
		{"iWARP", portsDevice{ports: []verbs.Port{port(verbs.PortActive, verbs.LinkEthernet, link)}, t: verbs.TransportIWARP}, ""},
		{"down", portsDevice{ports: []verbs.Port{port(verbs.PortDown, verbs.LinkEthernet, ip)}}, "is the interface eth0 up"},
		{"no subnet manager", portsDevice{ports: []verbs.Port{port(verbs.PortInit, verbs.LinkInfiniBand, link)}}, "subnet manager"},
		{"armed", portsDevice{ports: []verbs.Port{port(verbs.PortArmed, verbs.LinkInfiniBand, link)}}, "is ARMED"},
		{"no GID", portsDevice{ports: []verbs.Port{port(verbs.PortActive, verbs.LinkInfiniBand)}}, "has no GID"},
		{"one of two", portsDevice{ports: []verbs.Port{port(verbs.PortDown, verbs.LinkEthernet), port(verbs.PortActive, verbs.LinkInfiniBand, link)}}, ""},
		{"no port", portsDevice{}, "has no port"},
		{"lost", portsDevice{err: lost}, "lost"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := verbs.Usable(test.d)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want one that says %q", err, test.want)
			}
		})
	}
}

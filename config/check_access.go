package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

func (k *checker) auths() {
	names := seen{}
	for i := range k.Auths {
		a := &k.Auths[i]
		k.identifier("an auth block", a.Name, a.At("name"))
		k.once(names, "auth", a.Name, a.At("name"))
		k.authType(a)
		users := seen{}
		for j := range a.Users {
			u := &a.Users[j]
			k.userName(u.Name, u.At("name"))
			k.once(users, "user", u.Name, u.At("name"))
			if u.good("secret") {
				k.secret(u.Secret, u.At("secret"))
			}
		}
		if m := a.Mutual; m != nil && m.good("secret") {
			k.secret(m.Secret, m.At("secret"))
		}
	}
	k.sameSecrets()
}

// authType checks that the blocks inside agree with the type.
func (k *checker) authType(a *Auth) {
	if !a.good("type") {
		return
	}
	switch a.Type {
	case AuthNone:
		if len(a.Users) > 0 {
			k.errorf(a.Users[0].Header(), "User without CHAP", "The type of auth %q is none: its users would never be asked for their secrets. Set type = \"chap\", or take the user out.", a.Name)
		}
		if a.Mutual != nil {
			k.errorf(a.Mutual.Header(), "Mutual block without mutual CHAP", "The type of auth %q is none. Set type = \"mutual-chap\", or take the block out.", a.Name)
		}
		if a.Has("algorithms") {
			k.errorf(a.At("algorithms"), "Algorithms without CHAP", "The type of auth %q is none: no algorithm is used.", a.Name)
		}
	case AuthCHAP:
		if a.Mutual != nil {
			k.errorf(a.Mutual.Header(), "Mutual block without mutual CHAP", "The type of auth %q is chap. Set type = \"mutual-chap\", or take the block out.", a.Name)
		}
		k.hasUser(a)
	case AuthMutualCHAP:
		if a.Mutual == nil {
			k.errorf(a.At("type"), "Missing mutual block", "With mutual CHAP the target proves itself too: auth %q needs a mutual block with a user and a secret.", a.Name)
		}
		k.hasUser(a)
	}
}

func (k *checker) hasUser(a *Auth) {
	if len(a.Users) == 0 {
		k.errorf(a.Header(), "No user", "Nobody can log in by auth %q: it needs at least one user block.", a.Name)
	}
}

func (k *checker) userName(name string, at hcl.Range) {
	switch {
	case name == "":
		k.errorf(at, "Invalid user name", "The user name is empty.")
	case len(name) > 255:
		k.errorf(at, "Invalid user name", "The user name has %d bytes; the most is 255.", len(name))
	case strings.ContainsRune(name, 0):
		k.errorf(at, "Invalid user name", "The user name has a zero byte, which ends it on the wire.")
	}
}

// maxPortableSecret is what Windows and ESXi initiators take at most.
const maxPortableSecret = 16

func (k *checker) secret(s Secret, at hcl.Range) {
	if s.Len() > maxPortableSecret {
		k.warnf(at, "Long secret", "The secret has %d bytes. Initiators of Windows take 12 to %d.", s.Len(), maxPortableSecret)
	}
	k.secretInPublicFile(s, at)
}

// sameSecrets refuses a secret that is used in both directions, RFC 7143 §9.2.1:
// "any CHAP secret used for initiator authentication MUST NOT be configured for
// authentication of any target": the answers could be reflected.
func (k *checker) sameSecrets() {
	for i := range k.Auths {
		m := k.Auths[i].Mutual
		if m == nil || m.Secret.IsZero() {
			continue
		}
		for j := range k.Auths {
			for n := range k.Auths[j].Users {
				u := &k.Auths[j].Users[n]
				if u.Secret.Equal(m.Secret) {
					k.errorf(m.At("secret"), "Same secret in both directions",
						"The target's own secret is that of user %q at %s. They must differ (RFC 7143 §9.2.1).", u.Name, place(u.At("secret")))
				}
			}
		}
	}
}

func (k *checker) portalGroups() {
	names, tags := seen{}, seen{}
	var bound []*Portal
	for i := range k.PortalGroups {
		g := &k.PortalGroups[i]
		k.identifier("a portal group", g.Name, g.At("name"))
		k.once(names, "portal group", g.Name, g.At("name"))
		if g.good("tag") && g.Has("tag") {
			k.once(tags, "portal group tag", strconv.Itoa(g.Tag), g.At("tag"))
		}
		if g.DiscoveryAuth != "" {
			k.authName("discovery_auth", g.DiscoveryAuth, g.At("discovery_auth"))
		}
		if len(g.Portals) == 0 {
			k.errorf(g.Header(), "No portal", "The portal group %q listens nowhere: it needs at least one portal block.", g.Name)
		}
		for j := range g.Portals {
			if p := &g.Portals[j]; k.portal(p) {
				k.conflict(p, bound)
				k.portalRedirect(p)
				bound = append(bound, p)
			}
		}
	}
}

// portal parses a portal's label.
func (k *checker) portal(p *Portal) bool {
	at := p.At("address")
	if port, ok := strings.CutPrefix(p.Address, ":"); ok {
		k.errorf(at, "Invalid portal", "A portal is an address and a port. For all addresses of the host write \"0.0.0.0:%s\" and \"[::]:%s\".", port, port)
		return false
	}
	if a, err := netip.ParseAddr(strings.Trim(p.Address, "[]")); err == nil {
		k.errorf(at, "Invalid portal", "The port is missing. Did you mean %q?", netip.AddrPortFrom(a, 3260).String())
		return false
	}
	ap, err := netip.ParseAddrPort(p.Address)
	if err != nil {
		k.errorf(at, "Invalid portal", "A portal is a numeric address and a port, such as \"192.0.2.1:3260\" or \"[2001:db8::1]:3260\"; this is %q.", p.Address)
		return false
	}
	if ap.Port() == 0 {
		k.errorf(at, "Invalid portal", "The port is from 1 to 65535; iSCSI's own is 3260.")
		return false
	}
	p.AddrPort = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	return true
}

// conflict refuses two portals that cannot both be bound. Address families are
// bound apart, so [::] does not take the place of 0.0.0.0.
func (k *checker) conflict(p *Portal, bound []*Portal) {
	a := p.AddrPort
	for _, o := range bound {
		b := o.AddrPort
		if a.Port() != b.Port() || a.Addr().Is4() != b.Addr().Is4() {
			continue
		}
		if a == b {
			k.diags = append(k.diags, duplicate("portal", a.String(), p.At("address"), o.At("address")))
			return
		}
		if a.Addr().IsUnspecified() || b.Addr().IsUnspecified() {
			k.errorf(p.At("address"), "Portals overlap", "%s and %s at %s cannot both be listened on: one of them stands for all addresses.", a, b, place(o.At("address")))
			return
		}
	}
}

// authName checks a reference to an auth block.
func (k *checker) authName(argument, name string, at hcl.Range) *Auth {
	if a := k.Auth(name); a != nil {
		return a
	}
	var names []string
	for i := range k.Auths {
		names = append(names, k.Auths[i].Name)
	}
	k.errorf(at, "Unknown auth", "There is no block auth %q, which %s refers to.%s", name, argument, didYouMean(name, names))
	return nil
}

// restricts reports whether a admits less than everybody.
func (a *Auth) restricts() bool {
	if a.Type != AuthNone || len(a.InitiatorName) > 0 {
		return true
	}
	for _, p := range a.InitiatorAddress {
		if p.Bits() == 0 {
			return false
		}
	}
	return len(a.InitiatorAddress) > 0
}

// admits reports whether a's list of names admits the initiator.
func (a *Auth) admits(name string) bool {
	if len(a.InitiatorName) == 0 {
		return true
	}
	return slices.Contains(a.InitiatorName, name)
}

// groupNames lists the portal groups for messages.
func (k *checker) groupNames() []string {
	var names []string
	for i := range k.PortalGroups {
		names = append(names, k.PortalGroups[i].Name)
	}
	return names
}

func quoteList(names []string) string {
	var q []string
	for _, n := range names {
		q = append(q, fmt.Sprintf("%q", n))
	}
	return "[" + strings.Join(q, ", ") + "]"
}

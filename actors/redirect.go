package actors

import (
	"cmp"
	"strconv"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// Redirect sends initiators to another address, RFC 7143 §11.13.5.
type Redirect struct {
	// Address is where to, "HOST:PORT" as a TargetAddress has it (§13.8): an IPv6
	// address stands in brackets, a DNS name is allowed.
	Address string
	// Permanent: initiators may remember the new address. Otherwise they come
	// here first the next time too.
	Permanent bool
}

// PortalOption changes a portal.
type PortalOption func(*portal)

// Advertise has SendTargets tell address, "HOST:PORT", in place of the one that
// is listened on: that of the far side of a NAT or a load balancer.
func Advertise(address string) PortalOption { return func(p *portal) { p.advertised = address } }

// RedirectLogins sends every normal login at the portal to another one.
// Discovery is answered.
func RedirectLogins(r Redirect) PortalOption { return func(p *portal) { p.redirect = &r } }

func newPortal(group *PortalGroup, opts []PortalOption) *portal {
	p := &portal{group: group}
	for _, f := range opts {
		f(p)
	}
	return p
}

// refusal is the answer to a login that is sent elsewhere.
func (r *Redirect) refusal(what string) *login.Refusal {
	s := pdu.LoginTargetMovedTemporarily
	if r.Permanent {
		s = pdu.LoginTargetMovedPermanently
	}
	why := refuse(s, "%s is redirected to %s", what, r.Address)
	why.RedirectAddress = r.Address
	return why
}

// redirected returns the answer to a login whose initiator has proved who it is
// and is to go elsewhere, or nil. It comes that late so that a stranger learns
// nothing and, by mutual CHAP, the initiator knows who sends it away.
func (a *connActor) redirected(t *Target) *login.Refusal {
	if r := a.portal.redirect; r != nil {
		return r.refusal("this portal")
	}
	if r := t.cfg.Load().Redirect; r != nil {
		return r.refusal("target " + t.name)
	}
	return nil
}

// targetAddress is the TargetAddress value of the portal for an initiator that
// reached us at local, RFC 7143 §13.8.
func (p *portal) targetAddress(bound string) string {
	return cmp.Or(p.advertised, bound) + "," + strconv.Itoa(int(p.group.Tag))
}

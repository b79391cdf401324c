package actors_test

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// portal opens another portal of the rig's group and returns its address.
func (r *rig) portal(opts ...actors.PortalOption) string {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.n.Serve(r.t.Context(), l, r.group, opts...); err != nil {
		r.t.Fatal(err)
	}
	return l.Addr().String()
}

// loginAt logs in through another portal.
func (r *rig) loginAt(addr string, adjust func(*initiator.Options)) (*initiator.Session, error) {
	here := r.addr
	defer func() { r.addr = here }()
	r.addr = addr
	return r.login(0, adjust)
}

// wantRedirect checks where a login was sent.
func wantRedirect(t *testing.T, err error, s pdu.LoginStatus, to string) {
	t.Helper()
	var e *initiator.LoginError
	if !errors.As(err, &e) || e.Status != s || e.TargetAddress != to {
		t.Fatalf("login: %v, want %v to %s", err, s, to)
	}
}

// TestRedirectPortal: a portal that sends logins away still tells what there is,
// and the login at the other one goes through.
func TestRedirectPortal(t *testing.T) {
	r := newRig(t, actors.Limits{})
	away := r.portal(actors.RedirectLogins(actors.Redirect{Address: r.addr}))
	_, err := r.loginAt(away, nil)
	wantRedirect(t, err, pdu.LoginTargetMovedTemporarily, r.addr)
	if n := r.sessions(); n != 0 {
		t.Errorf("%d sessions after a redirect", n)
	}
	d, err := r.loginAt(away, func(o *initiator.Options) { o.TargetName, o.SessionType = "", initiator.DiscoverySession })
	if err != nil {
		t.Fatal("discovery at a portal that redirects:", err)
	}
	if got, err := d.SendTargets(testContext(t), "All"); err != nil || len(got) != 1 {
		t.Errorf("discovery: %v, %v", got, err)
	}
	if n := len(r.n.Refusals()); n != 0 {
		t.Errorf("a redirect is listed as a refusal: %+v", r.n.Refusals())
	}
	if n := r.n.LoginTotals()[pdu.LoginTargetMovedTemporarily]; n != 1 {
		t.Errorf("%d redirects counted, want 1", n)
	}
	if _, err := r.login(0, nil); err != nil {
		t.Error("login where the redirect points to:", err)
	}
}

// TestRedirectTarget: the redirect of a target is for logins from its
// configuration on, sessions stay, and only those who may log in learn of it.
func TestRedirectTarget(t *testing.T) {
	r := newRig(t, actors.Limits{})
	s := r.ready(1, nil)
	cfg := *r.target.Config()
	cfg.Redirect = &actors.Redirect{Address: "[2001:db8::1]:3260", Permanent: true}
	rep, err := r.target.Replace(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rep.Settle()
	_, err = r.login(2, nil)
	wantRedirect(t, err, pdu.LoginTargetMovedPermanently, "[2001:db8::1]:3260")
	if got := r.tur(s, 0); got != "" {
		t.Errorf("the session that was there: %s", got)
	}

	closed := cfg
	closed.Access.Auth = login.Auth{Required: true, Secret: func(u string) ([]byte, bool) {
		return []byte("wonderland-2026"), u == "alice"
	}}
	if _, err = r.target.Replace(closed); err != nil {
		t.Fatal(err)
	}
	chap := func(secret string) func(*initiator.Options) {
		return func(o *initiator.Options) {
			o.CHAP = initiator.CHAP{User: "alice", Secret: []byte(secret)}
		}
	}
	_, err = r.login(2, chap("a wrong secret"))
	wantRedirect(t, err, pdu.LoginAuthenticationFailure, "")
	_, err = r.login(2, chap("wonderland-2026"))
	wantRedirect(t, err, pdu.LoginTargetMovedPermanently, "[2001:db8::1]:3260")
}

// TestAdvertise: discovery tells the address that initiators are to use, with the
// tag of the portal's group.
func TestAdvertise(t *testing.T) {
	r := newRig(t, actors.Limits{})
	r.portal(actors.Advertise("[2001:db8::7]:3261"))
	r.portal(actors.Advertise("san.example.com:3260"))
	d, err := r.login(0, func(o *initiator.Options) { o.TargetName, o.SessionType = "", initiator.DiscoverySession })
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.SendTargets(testContext(t), "All")
	if err != nil || len(got) != 1 {
		t.Fatalf("SendTargets: %v, %v", got, err)
	}
	addr := func(a string) initiator.TargetAddress {
		return initiator.TargetAddress{Address: a, PortalGroupTag: "1"}
	}
	want := []initiator.TargetAddress{addr(r.addr), addr("[2001:db8::7]:3261"), addr("san.example.com:3260")}
	if !slices.Equal(got[0].Addresses, want) {
		t.Errorf("addresses %v, want %v", got[0].Addresses, want)
	}
}

package iserd_test

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/luns/null"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
)

const (
	me       = "iqn.2026-11.com.example:me"
	names    = "InitiatorName=" + me + "\x00"
	toOpen   = names + "TargetName=" + testTarget + "\x00"
	toCHAP   = names + "TargetName=" + chapTarget + "\x00"
	toMutual = names + "TargetName=" + mutualTarget + "\x00"

	chapTarget   = "iqn.2026-11.com.example:chap"
	mutualTarget = "iqn.2026-11.com.example:mutual"
	namedTarget  = "iqn.2026-11.com.example:named"
	placedTarget = "iqn.2026-11.com.example:placed"
	viewsTarget  = "iqn.2026-11.com.example:views"
	otherGroup   = "iqn.2026-11.com.example:other-group"
	offTarget    = "iqn.2026-11.com.example:off"
	sha256Target = "iqn.2026-11.com.example:sha256"
)

// loginPDU is one Login Request of a test.
type loginPDU struct {
	pdu.LoginRequest
	text string
}

// first is a request that asks for the operational stage with text.
func first(text string, change ...func(*pdu.LoginRequest)) loginPDU {
	p := loginPDU{text: text}
	p.Transit, p.CSG, p.NSG = true, pdu.LoginOperational, pdu.FullFeaturePhase
	p.ISID = pdu.ISID{0x80, 1, 2, 3, 4, 5}
	for _, f := range change {
		f(&p.LoginRequest)
	}
	return p
}

func security(r *pdu.LoginRequest) { r.CSG, r.NSG = pdu.SecurityNegotiation, pdu.LoginOperational }
func stay(r *pdu.LoginRequest)     { r.Transit, r.NSG = false, 0 }

// tryLogin sends the requests, each after the answer to the one before it, and
// returns when one is refused or the target closes.
func tryLogin(t *testing.T, addr string, requests []loginPDU) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, r := range requests {
		r.DataLen = len(r.text)
		var h pdu.BHS
		r.Encode(&h)
		b := append(h[:], r.text...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		if _, err := c.Write(b); err != nil {
			return
		}
		var answer pdu.BHS
		if _, err := io.ReadFull(c, answer[:]); err != nil {
			return
		}
		n := answer.DataSegmentLength()
		if _, err := io.CopyN(io.Discard, c, int64(n+3)&^3); err != nil {
			return
		}
		var resp pdu.LoginResponse
		if err := resp.Decode(&answer); err != nil || resp.Status != pdu.LoginSuccess {
			return
		}
	}
}

// TestEachRefusalHasItsReason: what was wrong with a login is told to the
// operator exactly, and recorded once.
func TestEachRefusalHasItsReason(t *testing.T) {
	srv, addr := start(t)
	users := map[string][]byte{"u": []byte("0123456789abcdef")}
	add := func(name string, opts ...iserd.TargetOption) *iserd.Target {
		b, err := null.New(null.Options{Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		tg, err := srv.AddTarget(t.Context(), name, append(opts, iserd.LUN(0, b))...)
		if err != nil {
			t.Fatal(err)
		}
		return tg
	}
	add(chapTarget, iserd.Access(iserd.CHAP(users)))
	add(sha256Target, iserd.Access(iserd.CHAP(users, chap.SHA256)))
	add(mutualTarget, iserd.Access(iserd.CHAP(users), iserd.MutualCHAP("t", []byte("fedcba9876543210"))))
	add(namedTarget, iserd.Access(iserd.Allow("iqn.2026-11.com.example:friend")))
	add(placedTarget, iserd.Access(iserd.AllowFrom(netip.MustParsePrefix("192.0.2.0/24"))))
	add(viewsTarget, iserd.Initiator("iqn.2026-11.com.example:friend", iserd.View{}))
	add(otherGroup, iserd.AnyInitiator(), iserd.Groups("elsewhere"))
	add(offTarget, iserd.AnyInitiator()).SetOffline(true)

	wide := func(user, secret string, target bool) func(*initiator.Options) {
		return func(o *initiator.Options) {
			o.InitiatorName, o.TargetName = me, chapTarget
			o.CHAP.User, o.CHAP.Secret = user, []byte(secret)
			if target {
				o.TargetName = mutualTarget
			}
		}
	}
	for _, x := range []struct {
		name   string
		send   []loginPDU
		with   func(*initiator.Options)
		status uint16
		reason string
	}{
		{name: "no initiator name", send: []loginPDU{first("TargetName=" + testTarget + "\x00")}, status: 0x0207, reason: "the first request has no InitiatorName"},
		{name: "no target name", send: []loginPDU{first(names)}, status: 0x0207, reason: "the first request has no TargetName"},
		{name: "initiator name", send: []loginPDU{first("InitiatorName=" + strings.Repeat("x", 224) + "\x00TargetName=" + testTarget + "\x00")}, status: 0x0200, reason: `InitiatorName="xxx`},
		{name: "initiator name without type", send: []loginPDU{first("InitiatorName=me\x00TargetName=" + testTarget + "\x00")}, status: 0x0200, reason: `InitiatorName="me" is not an iSCSI name: it does not begin with iqn., eui. or naa`},
		{name: "initiator name without date", send: []loginPDU{first("InitiatorName=iqn.me\x00TargetName=" + testTarget + "\x00")}, status: 0x0200, reason: `InitiatorName="iqn.me" is not an iSCSI name: the form is iqn.YYYY-MM.DOMAIN`},
		{name: "target name", send: []loginPDU{first(names + "TargetName=bar\x00")}, status: 0x0203, reason: "there is no target bar"},
		{name: "no such target", send: []loginPDU{first(names + "TargetName=iqn.2026-11.com.example:none\x00")}, status: 0x0203, reason: "there is no target iqn.2026-11.com.example:none"},
		{name: "portal group", send: []loginPDU{first(names + "TargetName=" + otherGroup + "\x00")}, status: 0x0203, reason: "portal group default does not offer target " + otherGroup},
		{name: "list of names", send: []loginPDU{first(names + "TargetName=" + namedTarget + "\x00")}, status: 0x0202, reason: "initiator " + me + " is not on the list of initiator names"},
		{name: "list of addresses", send: []loginPDU{first(names + "TargetName=" + placedTarget + "\x00")}, status: 0x0202, reason: "address 127.0.0.1 is not on the list of initiator addresses"},
		{name: "initiator block", send: []loginPDU{first(names + "TargetName=" + viewsTarget + "\x00")}, status: 0x0202, reason: "target " + viewsTarget + " has no initiator block for " + me},
		{name: "offline", send: []loginPDU{first(names + "TargetName=" + offTarget + "\x00")}, status: 0x0301, reason: "target " + offTarget + " was taken offline by the operator"},
		{name: "session type", send: []loginPDU{first(toOpen + "SessionType=Bogus\x00")}, status: 0x0209, reason: `SessionType="Bogus"`},
		{name: "version", send: []loginPDU{first(toOpen, func(r *pdu.LoginRequest) { r.VersionMin, r.VersionMax = 3, 4 })}, status: 0x0205, reason: "the initiator wants version 0x03 at least"},
		{name: "no such session", send: []loginPDU{first(toOpen, func(r *pdu.LoginRequest) { r.TSIH = 0x1234 })}, status: 0x020a, reason: "there is no session with TSIH 0x1234 for this initiator port"},
		{name: "T and C", send: []loginPDU{first(toOpen, func(r *pdu.LoginRequest) { r.Continue = true })}, status: 0x0200, reason: "T and C bit together"},
		{name: "back to security", send: []loginPDU{first(toOpen, func(r *pdu.LoginRequest) { r.NSG = pdu.SecurityNegotiation })}, status: 0x0200, reason: "NSG SecurityNegotiation"},
		{name: "key twice", send: []loginPDU{first(toOpen + "MaxBurstLength=4096\x00MaxBurstLength=8192\x00")}, status: 0x0200, reason: "key MaxBurstLength for the second time"},
		{name: "tag changes", send: []loginPDU{first(toOpen, stay), first("", func(r *pdu.LoginRequest) { r.InitiatorTaskTag = 5 })}, status: 0x0200, reason: "InitiatorTaskTag changes from 0x0 to 0x5"},
		{name: "ISID changes", send: []loginPDU{first(toOpen, stay), first("", func(r *pdu.LoginRequest) { r.ISID[5]++ })}, status: 0x0200, reason: "ISID changes from"},
		{name: "CID changes", send: []loginPDU{first(toOpen, stay), first("", func(r *pdu.LoginRequest) { r.CID = 7 })}, status: 0x0200, reason: "CID changes from 0 to 7"},
		{name: "name later", send: []loginPDU{first(toOpen, stay), first("InitiatorName=x\x00")}, status: 0x0200, reason: "key InitiatorName"},
		{name: "no security stage", send: []loginPDU{first(toCHAP)}, status: 0x0201, reason: "the login starts in LoginOperationalNegotiation, CHAP is required"},
		{name: "no method", send: []loginPDU{first(toCHAP, security)}, status: 0x0201, reason: "the initiator offers no AuthMethod, CHAP is required"},
		{name: "method None", send: []loginPDU{first(toCHAP+"AuthMethod=None\x00", security)}, status: 0x0201, reason: `no allowed method in AuthMethod="None"`},
		{name: "method KRB5", send: []loginPDU{first(toCHAP+"AuthMethod=KRB5,SRP\x00", security)}, status: 0x0201, reason: `no allowed method in AuthMethod="KRB5,SRP"`},
		{name: "algorithm", send: []loginPDU{
			first(names+"TargetName="+sha256Target+"\x00AuthMethod=CHAP\x00", security, stay), first("CHAP_A=5\x00", security, stay),
		}, status: 0x0201, reason: "chap: no offered algorithm is allowed"},
		{name: "response without challenge", send: []loginPDU{first(toCHAP+"AuthMethod=CHAP\x00", security, stay), first("CHAP_N=u\x00CHAP_R=0x00\x00", security, stay)}, status: 0x0201, reason: "CHAP_A alone is due, got CHAP_N, CHAP_R"},
		{name: "silence after challenge", send: []loginPDU{
			first(toCHAP+"AuthMethod=CHAP\x00", security, stay), first("CHAP_A=5\x00", security, stay), first("CHAP_N=u\x00", security, stay),
		}, status: 0x0201, reason: "CHAP_N and CHAP_R are due, got CHAP_N"},
		{name: "unknown user", with: wide("nobody", "0123456789abcdef", false), status: 0x0201, reason: `CHAP_N="nobody": `},
		{name: "wrong secret", with: wide("u", "0123456789abcdeX", false), status: 0x0201, reason: `CHAP_N="u": `},
		{name: "not mutual", with: wide("u", "0123456789abcdef", true), status: 0x0201, reason: "the initiator does not challenge the target, mutual CHAP is required"},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := srv.LoginTotals()[x.status]
			if x.with != nil {
				u, err := initiator.ParseURL("iscsi://" + addr + "/" + chapTarget + "/0")
				if err != nil {
					t.Fatal(err)
				}
				if s, err := initiator.Connect(t.Context(), u, x.with); err == nil {
					s.Close()
					t.Fatal("let in")
				}
			} else {
				tryLogin(t, addr, x.send)
			}
			eventually(t, "nothing is recorded", func() bool { return srv.LoginTotals()[x.status] > before })
			r := srv.Refusals()[0]
			if r.Status != x.status || !strings.HasPrefix(r.Reason, x.reason) || r.Count != 1 {
				t.Errorf("%04x %q (%d times), want %04x %q", r.Status, r.Reason, r.Count, x.status, x.reason)
			}
			if n := srv.LoginTotals()[x.status] - before; n != 1 {
				t.Errorf("counted %d times", n)
			}
			if strings.Contains(r.Reason, "0123456789abcde") {
				t.Error("the reason shows a secret")
			}
		})
	}
	if n := srv.LoginTotals()[0]; n != 0 {
		t.Errorf("%d logins went through", n)
	}
}

package login_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

const (
	initiatorName = "iqn.2026-11.com.example:initiator"
	targetName    = "iqn.2026-11.com.example:disk"
	user          = "alice"
	userSecret    = "correct horse battery"
	mutualUser    = "iserd"
	mutualSecret  = "staple staple staple"
)

// grantAll is a policy that grants the same to everybody.
type grantAll struct {
	grant *login.Grant
	err   error
	asked []login.Identity
}

func (p *grantAll) Authorize(id login.Identity) (*login.Grant, error) {
	p.asked = append(p.asked, id)
	return p.grant, p.err
}

// secrets is the user database of the tests.
func secrets(name string) ([]byte, bool) {
	if name == user {
		return []byte(userSecret), true
	}
	return nil, false
}

// newGrant returns a grant; auth is one of none, optional, chap, mutual (offered
// by the target) and mutual-required.
func newGrant(auth string) *login.Grant {
	g := &login.Grant{Limits: login.DefaultLimits(), PortalGroupTag: 1}
	switch auth {
	case "optional":
		g.Auth = login.Auth{Secret: secrets}
	case "chap":
		g.Auth = login.Auth{Required: true, Secret: secrets}
	case "mutual", "mutual-required":
		g.Auth = login.Auth{Required: true, Secret: secrets, MutualUser: mutualUser, MutualSecret: []byte(mutualSecret)}
		g.Auth.MutualRequired = auth == "mutual-required"
	}
	return g
}

// counter is a random source that tests can predict: 01 02 03 …
type counter struct{ n byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

// peer is an initiator that sends what a test says, right or wrong.
type peer struct {
	m    *login.Machine
	req  pdu.LoginRequest // constant fields of the next request
	last login.Reply
	seen map[string]string // what the target answered last for each key
	text []byte            // collected while the C bit is set
}

func newPeer(p login.Policy, env login.Env) *peer {
	return &peer{
		m:    login.NewMachine(p, env),
		req:  pdu.LoginRequest{ISID: pdu.ISID{0x40, 1, 2, 3, 4, 5}, InitiatorTaskTag: 0x11, CID: 1, CmdSN: 7},
		seen: make(map[string]string),
	}
}

// flags of a request in tests.
type flags struct {
	csg  pdu.Stage
	next pdu.Stage // T bit and NSG when not 0
	more bool      // C bit
}

var (
	security      = flags{csg: pdu.SecurityNegotiation}
	securityToOp  = flags{csg: pdu.SecurityNegotiation, next: pdu.LoginOperational}
	securityToFFP = flags{csg: pdu.SecurityNegotiation, next: pdu.FullFeaturePhase}
	op            = flags{csg: pdu.LoginOperational}
	opToFFP       = flags{csg: pdu.LoginOperational, next: pdu.FullFeaturePhase}
)

// send sends one request with the pairs "Key=value", after expanding macros.
func (p *peer) send(f flags, pairs ...string) login.Reply {
	var data []byte
	for _, s := range pairs {
		data = append(append(data, p.expand(s)...), 0)
	}
	return p.sendRaw(f, data)
}

func (p *peer) sendRaw(f flags, data []byte) login.Reply {
	h := p.header(f, len(data))
	return p.note(p.m.Step(&h, data))
}

// header builds the next request.
func (p *peer) header(f flags, n int) (h pdu.BHS) {
	r := p.req
	r.CSG, r.NSG, r.Transit, r.Continue = f.csg, f.next, f.next != 0, f.more
	r.ExpStatSN = p.last.Response.StatSN + 1
	r.DataLen = n
	r.Encode(&h)
	return h
}

// note remembers what the target sent.
func (p *peer) note(r login.Reply) login.Reply {
	p.last = r
	if !r.Send || r.State == login.Failed {
		return r
	}
	p.text = append(p.text, r.Data...)
	if !r.Response.Continue {
		pairs, err := text.Parse(p.text)
		if err != nil {
			panic(err) // the target sends bad text
		}
		for _, kv := range pairs {
			p.seen[kv.Key] = kv.Value
		}
		p.text = nil
	}
	return r
}

// expand replaces the macros of CHAP: $R and $W are the right and a wrong
// response of the user, $C is the target's challenge sent back.
func (p *peer) expand(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	id, _ := chap.ParseIdentifier(p.seen["CHAP_I"])
	c, _ := chap.ParseChallenge(p.seen["CHAP_C"])
	a, _ := chap.Select(p.seen["CHAP_A"], chap.Algorithms())
	right := chap.Response(a, id, []byte(userSecret), c)
	wrong := chap.Response(a, id, []byte("wrong secret"), c)
	return strings.NewReplacer("$R", encode(right), "$W", encode(wrong), "$C", encode(c)).Replace(s)
}

// encode is chap.Encode for values that may be missing.
func encode(b []byte) string {
	if len(b) == 0 {
		return "0x00"
	}
	return chap.Encode(b)
}

// names are the pairs of the first request of a normal session.
func names(more ...string) []string {
	return append([]string{"InitiatorName=" + initiatorName, "TargetName=" + targetName, "SessionType=Normal"}, more...)
}

// want checks state and status of a reply.
func want(t *testing.T, r login.Reply, s login.State, status pdu.LoginStatus) {
	t.Helper()
	got := r.Response.Status
	if r.State == login.Failed && !r.Send {
		got = r.Err.Status
	}
	if r.State != s || got != status {
		t.Fatalf("%v %v (%v), want %v %v", r.State, got, reason(r), s, status)
	}
	if (r.Err != nil) != (s == login.Failed) {
		t.Fatalf("Err is %v in state %v", r.Err, s)
	}
}

func reason(r login.Reply) string {
	if r.Err == nil {
		return "no reason"
	}
	return r.Err.Reason
}

// render prints a reply as the flow files have it.
func render(r login.Reply) string {
	var b strings.Builder
	x := &r.Response
	fmt.Fprintf(&b, "< %v", r.State)
	if r.Send {
		fmt.Fprintf(&b, " CSG=%d", x.CSG)
		if x.Transit {
			fmt.Fprintf(&b, " T NSG=%d", x.NSG)
		}
		if x.Continue {
			b.WriteString(" C")
		}
		fmt.Fprintf(&b, " TSIH=%d ITT=%#x StatSN=%d ExpCmdSN=%d MaxCmdSN=%d Status=%04x", x.TSIH, x.InitiatorTaskTag, x.StatSN, x.ExpCmdSN, x.MaxCmdSN, uint16(x.Status))
	} else if r.State == login.Failed {
		b.WriteString(" silently")
	}
	b.WriteByte('\n')
	if r.Err != nil {
		fmt.Fprintf(&b, "<   (%s)\n", r.Err.Reason)
	}
	for pair := range strings.SplitSeq(strings.TrimSuffix(string(r.Data), "\x00"), "\x00") {
		if pair != "" {
			fmt.Fprintf(&b, "<   %s\n", pair)
		}
	}
	return b.String()
}

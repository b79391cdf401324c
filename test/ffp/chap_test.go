package ffp_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
)

// TestCHAP is RFC 7143 §12.1.3 as targets have to keep it.
func TestCHAP(t *testing.T) { runPlan(t, chapPlan) }

// chapConn is a login in the middle of CHAP: the target has challenged.
type chapConn struct {
	*conn
	id        byte
	challenge []byte
}

// challenged begins a login to a target up to the target's challenge.
func (x *run) challenged(target string) *chapConn {
	x.Helper()
	c := x.dial()
	c.target = target
	a := c.request(false, 0, append(c.names(), "AuthMethod=CHAP,None")...)
	if got, _ := a.get("AuthMethod"); a.end || a.Status != 0 || got != "CHAP" {
		x.Fatalf("AuthMethod=%q, %+v", got, a)
	}
	return c.algorithm("5")
}

// algorithm offers CHAP_A and takes the challenge.
func (c *conn) algorithm(offer string) *chapConn {
	c.Helper()
	a := c.request(false, 0, "CHAP_A="+offer)
	alg, _ := a.get("CHAP_A")
	id, _ := a.get("CHAP_I")
	value, _ := a.get("CHAP_C")
	n, err := strconv.Atoi(id)
	if a.end || a.Status != 0 || alg != "5" || err != nil || n > 255 {
		c.Fatalf("CHAP_A=%q CHAP_I=%q, %+v", alg, id, a)
	}
	challenge, err := hex.DecodeString(strings.TrimPrefix(value, "0x"))
	if err != nil || len(challenge) < 16 {
		c.Fatalf("CHAP_C=%q: %v", value, err)
	}
	return &chapConn{c, byte(n), challenge}
}

func (c *chapConn) response() []byte {
	return chap.Response(chap.MD5, c.id, []byte(secret), c.challenge)
}

// respond sends CHAP_N and CHAP_R and what else is given.
func (c *chapConn) respond(more ...string) *answer {
	c.Helper()
	return c.request(true, pdu.LoginOperational, append([]string{"CHAP_N=" + user, "CHAP_R=0x" + hex.EncodeToString(c.response())}, more...)...)
}

func (c *chapConn) accepted(a *answer) {
	c.Helper()
	if a.end || a.Status != 0 || !a.Transit {
		c.Fatalf("%+v", a)
	}
	if a = c.request(true, pdu.FullFeaturePhase); a.end || a.Status != 0 || !a.Transit {
		c.Fatalf("%+v", a)
	}
}

// wrong answers the challenge with these keys and wants the login refused.
func (x *run) wrong(keys func(c *chapConn) []string) {
	x.Helper()
	c := x.challenged(secured)
	c.refused(c.request(true, pdu.LoginOperational, keys(c)...))
}

// wrongMutual answers rightly and challenges the target wrongly.
func (x *run) wrongMutual(keys ...string) {
	x.Helper()
	c := x.challenged(mutual)
	c.refused(c.respond(keys...))
}

var chapPlan = []test{
	{"1.1", "premature transition", func(x *run) {
		for _, next := range []pdu.Stage{pdu.LoginOperational, pdu.FullFeaturePhase} {
			c := x.dial()
			c.target = secured
			a := c.request(true, next, append(c.names(), "AuthMethod=CHAP")...)
			if !a.end && a.Status == 0 && !a.Transit {
				a = c.request(true, next) // without a word of CHAP
			}
			if !a.end && a.Status == 0 {
				x.Fatalf("%+v", a)
			}
		}
	}},
	{"1.2.1", "CHAP_A: a list", func(x *run) {
		c := x.dial()
		c.target = secured
		c.request(false, 0, append(c.names(), "AuthMethod=CHAP")...)
		cc := c.algorithm("5,17")
		cc.accepted(cc.respond())
	}},
	{"1.2.2", "CHAP_A: unknown ones before a known one", func(x *run) {
		c := x.dial()
		c.target = secured
		c.request(false, 0, append(c.names(), "AuthMethod=CHAP")...)
		cc := c.algorithm("200,17,5")
		cc.accepted(cc.respond())
	}},
	{"1.3", "CHAP_A: none that is known", func(x *run) {
		for _, offer := range []string{"200", "0", "", "5x", "99999999999999999999"} {
			c := x.dial()
			c.target = secured
			c.request(false, 0, append(c.names(), "AuthMethod=CHAP")...)
			c.refused(c.request(false, 0, "CHAP_A="+offer))
		}
	}},
	{"2.1", "CHAP_I: valid", func(x *run) {
		for _, id := range []string{"0", "255", "0x7f"} {
			x.mutualLogin(id)
		}
	}},
	{"2.2", "CHAP_I: invalid", func(x *run) {
		for _, id := range []string{"256", "-1", "", "x"} {
			x.wrongMutual("CHAP_I="+id, "CHAP_C=0x"+strings.Repeat("a5", 16))
		}
	}},
	{"2.3", "CHAP_I: out of order", func(x *run) {
		c := x.dial()
		c.target = mutual
		c.request(false, 0, append(c.names(), "AuthMethod=CHAP")...)
		a := c.request(false, 0, "CHAP_A=5", "CHAP_I=1", "CHAP_C=0x"+strings.Repeat("a5", 16))
		if _, answered := a.get("CHAP_R"); answered {
			x.Error("the target proves itself before the initiator does")
		}
	}},
	{"2.4", "CHAP_I: without CHAP_C", func(x *run) { x.wrongMutual("CHAP_I=1") }},
	{"2.5", "CHAP_I: the same as the target's", func(x *run) {
		c := x.challenged(mutual) // allowed, the challenge is another
		mine := bytes.Repeat([]byte{7}, 16)
		c.proved(c.respond("CHAP_I="+strconv.Itoa(int(c.id)), "CHAP_C=0x"+hex.EncodeToString(mine)), c.id, mine)
	}},
	{"2.6", "CHAP_I: differs between logins", func(x *run) {
		seen := map[byte]int{}
		for range 20 {
			seen[x.challenged(secured).id]++
		}
		if len(seen) < 5 {
			x.Errorf("%d different CHAP_I in 20 logins", len(seen))
		}
	}},
	{"3.1", "CHAP_C: big", func(x *run) {
		c := x.challenged(mutual)
		mine := bytes.Repeat([]byte{3}, 1024)
		c.proved(c.respond("CHAP_I=1", "CHAP_C=0x"+hex.EncodeToString(mine)), 1, mine)
	}},
	{"3.2", "CHAP_C: small", func(x *run) {
		c := x.challenged(mutual)
		mine := []byte{3}
		a := c.respond("CHAP_I=1", "CHAP_C=0x03")
		if a.end || a.Status != 0 {
			c.refused(a) // too short a challenge may be refused
			return
		}
		c.proved(a, 1, mine)
	}},
	{"3.3", "CHAP_C: too big", func(x *run) { x.wrongMutual("CHAP_I=1", "CHAP_C=0x"+strings.Repeat("a5", 1025)) }},
	{"3.4", "CHAP_C: too small", func(x *run) {
		x.wrongMutual("CHAP_I=1", "CHAP_C=0x")
		x.wrongMutual("CHAP_I=1", "CHAP_C=")
	}},
	{"3.5", "CHAP_C: out of order, not hex, odd", func(x *run) {
		x.wrongMutual("CHAP_C=0x" + strings.Repeat("a5", 16))
		x.wrongMutual("CHAP_I=1", "CHAP_C=0xzz")
		x.wrongMutual("CHAP_I=1", "CHAP_C=nothing")
	}},
	{"3.6.1", "CHAP_C of the target: new in each of many logins", func(x *run) {
		seen := map[string]bool{}
		for range 50 {
			c := x.challenged(secured)
			if seen[string(c.challenge)] {
				x.Fatal("a challenge twice")
			}
			seen[string(c.challenge)] = true
			_ = c.c.Close()
		}
	}},
	{"3.6.2", "CHAP_C of the target: new in parallel logins", func(x *run) {
		var all []string
		for range 20 {
			all = append(all, string(x.challenged(secured).challenge))
		}
		slices.Sort(all)
		if len(slices.Compact(all)) != 20 {
			x.Error("a challenge twice")
		}
	}},
	{"3.6.3", "a recorded exchange is not accepted again", func(x *run) {
		first := x.challenged(secured)
		r := "CHAP_R=0x" + hex.EncodeToString(first.response())
		first.accepted(first.respond())
		x.wrong(func(*chapConn) []string { return []string{"CHAP_N=" + user, r} })
	}},
	{"3.6.4", "an answer to the challenge of another login", func(x *run) {
		other := x.challenged(secured)
		x.wrong(func(*chapConn) []string {
			return []string{"CHAP_N=" + user, "CHAP_R=0x" + hex.EncodeToString(other.response())}
		})
	}},
	{"3.7", "CHAP_C reflected on the same connection", func(x *run) {
		c := x.challenged(mutual)
		c.refused(c.respond("CHAP_I="+strconv.Itoa(int(c.id)), "CHAP_C=0x"+hex.EncodeToString(c.challenge)))
	}},
	{"3.8", "CHAP_C reflected on a second connection", func(x *run) {
		one, two := x.challenged(mutual), x.challenged(mutual)
		a := two.respond("CHAP_I="+strconv.Itoa(int(one.id)), "CHAP_C=0x"+hex.EncodeToString(one.challenge))
		if _, answered := a.get("CHAP_R"); answered {
			x.Error("the target answers its own challenge")
		}
		two.refused(a)
	}},
	{"3.9", "CHAP_C new on a second connection", func(x *run) {
		one, two := x.challenged(mutual), x.challenged(mutual)
		mine := bytes.Repeat([]byte{9}, 16)
		two.proved(two.respond("CHAP_I=1", "CHAP_C=0x"+hex.EncodeToString(mine)), 1, mine)
		mine[0]++
		one.proved(one.respond("CHAP_I=1", "CHAP_C=0x"+hex.EncodeToString(mine)), 1, mine)
	}},
	{"4.1", "CHAP_N: right", func(x *run) { c := x.challenged(secured); c.accepted(c.respond()) }},
	{"4.2", "CHAP_N: unknown", func(x *run) { x.user("nobody") }},
	{"4.3", "CHAP_N: a prefix of a known one", func(x *run) { x.user(user[:4]) }},
	{"4.4", "CHAP_N: a known one and more", func(x *run) { x.user(user + "x") }},
	{"4.5", "CHAP_N: other case", func(x *run) { x.user(strings.ToUpper(user)) }},
	{"4.6", "CHAP_N: empty", func(x *run) { x.user("") }},
	{"4.7", "CHAP_N: too long", func(x *run) { x.user(strings.Repeat("n", 300)) }},
	{"4.8", "CHAP_N: missing, or twice", func(x *run) {
		x.wrong(func(c *chapConn) []string { return []string{"CHAP_R=0x" + hex.EncodeToString(c.response())} })
		x.wrong(func(c *chapConn) []string {
			return []string{"CHAP_N=" + user, "CHAP_N=" + user, "CHAP_R=0x" + hex.EncodeToString(c.response())}
		})
	}},
	{"5.1", "CHAP_R: invalid", func(x *run) {
		for i := range 16 {
			x.wrong(func(c *chapConn) []string {
				r := c.response()
				r[i] ^= 1
				return []string{"CHAP_N=" + user, "CHAP_R=0x" + hex.EncodeToString(r)}
			})
		}
	}},
	{"5.2", "CHAP_R: too big", func(x *run) {
		for _, n := range []int{1, 16, 1000} {
			x.wrong(func(c *chapConn) []string {
				return []string{"CHAP_N=" + user, "CHAP_R=0x" + hex.EncodeToString(append(c.response(), make([]byte, n)...))}
			})
		}
	}},
	{"5.3", "CHAP_R: too small, missing, not hex", func(x *run) {
		for _, r := range []string{"CHAP_R=0x", "CHAP_R=", "CHAP_R=0x0", "CHAP_R=zz", "CHAP_R=0b!"} {
			x.wrong(func(*chapConn) []string { return []string{"CHAP_N=" + user, r} })
		}
		x.wrong(func(c *chapConn) []string {
			return []string{"CHAP_N=" + user, "CHAP_R=0x" + hex.EncodeToString(c.response()[:15])}
		})
		x.wrong(func(*chapConn) []string { return []string{"CHAP_N=" + user} })
	}},
	{"5.4", "CHAP_R: in base64, in upper case", func(x *run) {
		for _, encode := range []func(b []byte) string{
			func(b []byte) string { return "0b" + base64.StdEncoding.EncodeToString(b) },
			func(b []byte) string { return "0X" + strings.ToUpper(hex.EncodeToString(b)) },
		} {
			c := x.challenged(secured)
			c.accepted(c.request(true, pdu.LoginOperational, "CHAP_N="+user, "CHAP_R="+encode(c.response())))
		}
	}},
	{"6.1", "an initiator that does not ask where it must", func(x *run) {
		c := x.challenged(mutual)
		a := c.respond()
		if !a.end && a.Status == 0 && !a.Transit {
			a = c.request(true, pdu.LoginOperational)
		}
		c.refused(a)
	}},
}

// mutualLogin logs in and checks that the target proves itself.
func (x *run) mutualLogin(id string) {
	x.Helper()
	c := x.challenged(mutual)
	n, err := strconv.ParseUint(id, 0, 8)
	if err != nil {
		x.Fatal(err)
	}
	mine := bytes.Repeat([]byte{byte(n) + 1}, 16)
	c.proved(c.respond("CHAP_I="+id, "CHAP_C=0x"+hex.EncodeToString(mine)), byte(n), mine)
}

func (c *chapConn) proved(a *answer, id byte, challenge []byte) {
	c.Helper()
	name, _ := a.get("CHAP_N")
	value, _ := a.get("CHAP_R")
	want := chap.Response(chap.MD5, id, []byte(theirs), challenge)
	got, err := hex.DecodeString(strings.TrimPrefix(value, "0x"))
	if err != nil || name != theirUser || !bytes.Equal(got, want) {
		c.Fatalf("CHAP_N=%q CHAP_R=%q: %v; %+v", name, value, err, a)
	}
	c.accepted(a)
}

// user gives a wrong name with the right response.
func (x *run) user(name string) {
	x.Helper()
	x.wrong(func(c *chapConn) []string {
		return []string{"CHAP_N=" + name, "CHAP_R=0x" + hex.EncodeToString(c.response())}
	})
}

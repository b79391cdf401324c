package login_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/login"
)

// chapStep brings a login to where CHAP_N and CHAP_R are due.
func chapStep(t *testing.T, auth string, env login.Env, algorithm string) *peer {
	t.Helper()
	p := newPeer(&grantAll{grant: newGrant(auth)}, env)
	want(t, p.send(security, names("AuthMethod=CHAP")...), login.Continue, pdu.LoginSuccess)
	want(t, p.send(security, "CHAP_A="+algorithm), login.Continue, pdu.LoginSuccess)
	return p
}

func TestCHAPAlgorithms(t *testing.T) {
	for _, a := range chap.Algorithms() {
		t.Run(a.String(), func(t *testing.T) {
			p := chapStep(t, "mutual", login.Env{}, chap.FormatList([]chap.Algorithm{a}))
			mine := []byte("a challenge of the initiator")
			r := p.send(securityToOp, "CHAP_N="+user, "CHAP_R=$R", "CHAP_I=200", "CHAP_C="+chap.Encode(mine))
			want(t, r, login.Continue, pdu.LoginSuccess)
			if !r.Response.Transit || p.seen["CHAP_N"] != mutualUser {
				t.Errorf("%+v, CHAP_N=%q", r.Response, p.seen["CHAP_N"])
			}
			answer, err := chap.ParseResponse(p.seen["CHAP_R"], a)
			if err != nil || !chap.Verify(a, 200, []byte(mutualSecret), mine, answer) {
				t.Errorf("the target answers %q", p.seen["CHAP_R"])
			}
		})
	}
}

// TestCHAPGrammar is the last request of an exchange in all the ways it can be
// wrong (and some in which it is right).
func TestCHAPGrammar(t *testing.T) {
	const n, r, i = "CHAP_N=" + user, "CHAP_R=$R", "CHAP_I=9"
	c := "CHAP_C=" + chap.Encode(make([]byte, 16))
	ok, auth, init := pdu.LoginSuccess, pdu.LoginAuthenticationFailure, pdu.LoginInitiatorError
	long := func(n int) string { return "CHAP_C=" + chap.Encode(make([]byte, n)) }
	tests := []struct {
		name   string
		auth   string
		pairs  []string
		status pdu.LoginStatus
	}{
		{"one way", "chap", []string{n, r}, ok},
		{"other order", "chap", []string{r, n}, ok},
		{"with an operational key", "chap", []string{n, r, "MaxBurstLength=65536"}, ok},
		{"mutual", "mutual", []string{n, r, i, c}, ok},
		{"mutual, other order", "mutual", []string{c, i, r, n}, ok},
		{"one way where mutual is possible", "mutual", []string{n, r}, ok},
		{"one way where mutual is required", "mutual-required", []string{n, r}, auth},
		{"mutual where it is required", "mutual-required", []string{n, r, i, c}, ok},
		{"mutual without a secret of the target", "chap", []string{n, r, i, c}, auth},
		{"same CHAP_I as the target's", "mutual", []string{n, r, "CHAP_I=1", c}, ok},
		{"nothing", "chap", nil, auth},
		{"no CHAP_R", "chap", []string{n}, auth},
		{"no CHAP_N", "chap", []string{r}, auth},
		{"CHAP_I alone", "mutual", []string{n, r, i}, auth},
		{"CHAP_C alone", "mutual", []string{n, r, c}, auth},
		{"CHAP_A again", "chap", []string{n, r, "CHAP_A=5"}, init},
		{"AuthMethod again", "chap", []string{n, r, "AuthMethod=None"}, init},
		{"CHAP_R twice", "chap", []string{n, r, r}, init},
		{"wrong response", "chap", []string{n, "CHAP_R=$W"}, auth},
		{"reflected", "mutual", []string{n, r, i, "CHAP_C=$C"}, auth},
		{"reflected with a wrong response", "mutual", []string{n, "CHAP_R=$W", i, "CHAP_C=$C"}, auth},
		{"challenge as response", "chap", []string{n, "CHAP_R=$C"}, auth},
		{"empty response", "chap", []string{n, "CHAP_R="}, auth},
		{"0x", "chap", []string{n, "CHAP_R=0x"}, auth},
		{"odd digits", "chap", []string{n, "CHAP_R=$R0"}, auth},
		{"longer", "chap", []string{n, "CHAP_R=$R00"}, auth},
		{"plain digits", "chap", []string{n, "CHAP_R=12345678901234567890123456789012"}, auth},
		{"response of 4000 bytes", "chap", []string{n, "CHAP_R=0x" + strings.Repeat("00", 4000)}, auth},
		{"other case", "chap", []string{"CHAP_N=Alice", r}, auth},
		{"prefix", "chap", []string{"CHAP_N=alic", r}, auth},
		{"longer name", "chap", []string{"CHAP_N=alice2", r}, auth},
		{"space", "chap", []string{"CHAP_N=alice ", r}, auth},
		{"empty name", "chap", []string{"CHAP_N=", r}, auth},
		{"name of 256 bytes", "chap", []string{"CHAP_N=" + strings.Repeat("a", 256), r}, auth},
		{"CHAP_I 256", "mutual", []string{n, r, "CHAP_I=256", c}, auth},
		{"CHAP_I -1", "mutual", []string{n, r, "CHAP_I=-1", c}, auth},
		{"CHAP_C of 1024 bytes", "mutual", []string{n, r, i, long(1024)}, ok},
		{"CHAP_C of 1025 bytes", "mutual", []string{n, r, i, long(1025)}, auth},
		{"CHAP_C of 1 byte", "mutual", []string{n, r, i, long(1)}, ok},
		{"CHAP_C empty", "mutual", []string{n, r, i, "CHAP_C=0x"}, auth},
		{"CHAP_C odd", "mutual", []string{n, r, i, "CHAP_C=0x123"}, auth},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := new(chap.Outstanding)
			p := chapStep(t, tt.auth, login.Env{Rand: &counter{}, Outstanding: out}, "7")
			state := login.Continue
			if tt.status != ok {
				state = login.Failed
			}
			r := p.send(securityToOp, tt.pairs...)
			want(t, r, state, tt.status)
			if state == login.Failed && (r.Data != nil || out.Len() != 0) {
				t.Errorf("data %q, %d challenges outstanding", r.Data, out.Len())
			}
		})
	}
}

func TestCHAPOrder(t *testing.T) {
	tests := []struct {
		name   string
		first  []string
		second []string
		status pdu.LoginStatus
	}{
		{"CHAP_A with AuthMethod", []string{"AuthMethod=CHAP", "CHAP_A=5"}, nil, pdu.LoginInitiatorError},
		{"CHAP_A without AuthMethod", []string{"CHAP_A=5"}, nil, pdu.LoginInitiatorError},
		{"response at once", []string{"AuthMethod=CHAP", "CHAP_N=" + user, "CHAP_R=0x00"}, nil, pdu.LoginInitiatorError},
		{"response before the challenge", []string{"AuthMethod=CHAP"}, []string{"CHAP_N=" + user, "CHAP_R=0x00"}, pdu.LoginAuthenticationFailure},
		{"CHAP_A with response", []string{"AuthMethod=CHAP"}, []string{"CHAP_A=5", "CHAP_N=" + user, "CHAP_R=0x00"}, pdu.LoginAuthenticationFailure},
		{"no CHAP_A", []string{"AuthMethod=CHAP"}, nil, pdu.LoginAuthenticationFailure},
		{"no known algorithm", []string{"AuthMethod=CHAP"}, []string{"CHAP_A=1,2,55"}, pdu.LoginAuthenticationFailure},
		{"None after CHAP", []string{"AuthMethod=CHAP"}, []string{"AuthMethod=None"}, pdu.LoginInitiatorError},
		{"CHAP_A after None", []string{"AuthMethod=None"}, []string{"CHAP_A=5"}, pdu.LoginInitiatorError},
		{"only None", []string{"AuthMethod=None"}, nil, pdu.LoginAuthenticationFailure},
		{"unknown method", []string{"AuthMethod=KRB5,SPKM1"}, nil, pdu.LoginAuthenticationFailure},
		{"empty list", []string{"AuthMethod="}, nil, pdu.LoginAuthenticationFailure},
		{"Reject", []string{"AuthMethod=Reject"}, nil, pdu.LoginAuthenticationFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(&grantAll{grant: newGrant("chap")}, login.Env{})
			if strings.Contains(tt.name, "after None") {
				p = newPeer(&grantAll{grant: newGrant("optional")}, login.Env{})
			}
			if p.send(security, names(tt.first...)...).State == login.Continue {
				p.send(security, tt.second...)
			}
			want(t, p.last, login.Failed, tt.status)
		})
	}
	t.Run("no AuthMethod, T", func(t *testing.T) {
		want(t, open("chap").send(securityToFFP, names()...), login.Failed, pdu.LoginAuthenticationFailure)
	})
	t.Run("no AuthMethod yet", func(t *testing.T) {
		p := open("chap")
		want(t, p.send(security, names()...), login.Continue, pdu.LoginSuccess)
		want(t, p.send(security, "AuthMethod=CHAP"), login.Continue, pdu.LoginSuccess)
	})
	t.Run("method by the initiator's preference", func(t *testing.T) {
		for offered, chosen := range map[string]string{"CHAP,None": "CHAP", "None,CHAP": "None", "KRB5,None": "None"} {
			p := open("optional")
			p.send(security, names("AuthMethod="+offered)...)
			if p.seen["AuthMethod"] != chosen {
				t.Errorf("%s: %q", offered, p.seen["AuthMethod"])
			}
		}
		p := open("none") // without secrets there is no CHAP
		p.send(security, names("AuthMethod=CHAP,None")...)
		if p.seen["AuthMethod"] != "None" {
			t.Errorf("%q", p.seen["AuthMethod"])
		}
	})
}

func TestSameSecret(t *testing.T) {
	g := newGrant("mutual")
	g.Auth.MutualSecret = []byte(userSecret)
	p := newPeer(&grantAll{grant: g}, login.Env{})
	p.send(security, names("AuthMethod=CHAP")...)
	p.send(security, "CHAP_A=5")
	want(t, p.send(security, "CHAP_N="+user, "CHAP_R=$R", "CHAP_I=1", "CHAP_C=0x0011"), login.Failed, pdu.LoginAuthenticationFailure)
}

func TestNoRandom(t *testing.T) {
	p := newPeer(&grantAll{grant: newGrant("chap")}, login.Env{Rand: iotest.ErrReader(fmt.Errorf("dry"))})
	p.send(security, names("AuthMethod=CHAP")...)
	want(t, p.send(security, "CHAP_A=5"), login.Failed, pdu.LoginTargetError)
}

// TestReflectionAcrossLogins: a challenge of one login comes back in another,
// with all logins of the server sharing one set.
func TestReflectionAcrossLogins(t *testing.T) {
	out := new(chap.Outstanding)
	env := login.Env{Rand: rand.Reader, Outstanding: out}
	for i := range 1000 {
		a, b := chapStep(t, "mutual", env, "7"), chapStep(t, "mutual", env, "5")
		if i%2 == 0 {
			a, b = b, a
		}
		r := b.send(security, "CHAP_N="+user, "CHAP_R=$R", "CHAP_I=3", "CHAP_C="+a.seen["CHAP_C"])
		want(t, r, login.Failed, pdu.LoginAuthenticationFailure)
		if !strings.Contains(r.Err.Reason, "reflects") {
			t.Fatal(r.Err)
		}
		// The victim is not disturbed, and a challenge of its own is fine.
		want(t, a.send(securityToFFP, "CHAP_N="+user, "CHAP_R=$R", "CHAP_I=3", "CHAP_C=0x000102"), login.Admit, pdu.LoginSuccess)
		a.m.Admitted(1)
	}
	if out.Len() != 0 {
		t.Errorf("%d challenges left", out.Len())
	}
}

// TestReplay: a recorded exchange opens nothing.
func TestReplay(t *testing.T) {
	p := chapStep(t, "chap", login.Env{}, "7")
	recorded := p.expand("CHAP_R=$R")
	for range 1000 {
		p := chapStep(t, "chap", login.Env{}, "7")
		want(t, p.send(security, "CHAP_N="+user, recorded), login.Failed, pdu.LoginAuthenticationFailure)
	}
}

func TestClose(t *testing.T) {
	out := new(chap.Outstanding)
	p := chapStep(t, "chap", login.Env{Outstanding: out}, "7")
	if out.Len() != 1 {
		t.Fatalf("%d challenges", out.Len())
	}
	p.m.Close()
	p.m.Close()
	if out.Len() != 0 {
		t.Errorf("%d challenges left", out.Len())
	}
	r := p.send(security, "CHAP_N="+user, "CHAP_R=$R")
	if r.State != login.Failed || r.Send {
		t.Errorf("%+v after Close", r)
	}
}

// TestUnknownUser: both failures look alike on the wire.
func TestUnknownUser(t *testing.T) {
	known := chapStep(t, "chap", login.Env{Rand: &counter{}}, "7").send(security, "CHAP_N="+user, "CHAP_R=$W")
	unknown := chapStep(t, "chap", login.Env{Rand: &counter{}}, "7").send(security, "CHAP_N=mallory", "CHAP_R=$W")
	if known.Response != unknown.Response || string(known.Data) != string(unknown.Data) {
		t.Errorf("%+v and %+v", known.Response, unknown.Response)
	}
}

func TestAuthValidate(t *testing.T) {
	tests := []struct {
		name string
		auth login.Auth
		ok   bool
	}{
		{"none", login.Auth{}, true},
		{"chap", login.Auth{Required: true, Secret: secrets}, true},
		{"mutual", newGrant("mutual-required").Auth, true},
		{"no secrets", login.Auth{Required: true}, false},
		{"no secret of the target", login.Auth{Required: true, Secret: secrets, MutualRequired: true}, false},
		{"short secret of the target", login.Auth{Secret: secrets, MutualSecret: []byte("short")}, false},
		{"algorithm", login.Auth{Secret: secrets, Algorithms: []chap.Algorithm{9}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.auth.Validate(); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}

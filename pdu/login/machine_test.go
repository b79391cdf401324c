package login_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

func open(auth string) *peer {
	return newPeer(&grantAll{grant: newGrant(auth)}, login.Env{Rand: &counter{}})
}

// TestHeader changes one thing of an otherwise right login: the first request
// when begun is false, else the second.
func TestHeader(t *testing.T) {
	tests := []struct {
		name   string
		begun  bool
		flags  flags
		change func(*peer)
		status pdu.LoginStatus
	}{
		{"as it should be", false, opToFFP, func(*peer) {}, pdu.LoginSuccess},
		{"second as it should be", true, opToFFP, func(*peer) {}, pdu.LoginSuccess},
		{"VersionMin 1", false, opToFFP, func(p *peer) { p.req.VersionMin = 1 }, pdu.LoginUnsupportedVersion},
		{"VersionMax 1 holds 0", false, opToFFP, func(p *peer) { p.req.VersionMax = 1 }, pdu.LoginSuccess},
		{"version changes", true, opToFFP, func(p *peer) { p.req.VersionMax = 1 }, pdu.LoginInitiatorError},
		{"CSG 2", false, flags{csg: 2}, func(*peer) {}, pdu.LoginInitiatorError},
		{"CSG FullFeaturePhase", false, flags{csg: 3}, func(*peer) {}, pdu.LoginInitiatorError},
		{"NSG 2", false, flags{csg: 1, next: 2}, func(*peer) {}, pdu.LoginInitiatorError},
		{"NSG is CSG", false, flags{csg: 1, next: 1}, func(*peer) {}, pdu.LoginInitiatorError},
		{"T and C", false, flags{csg: 1, next: 3, more: true}, func(*peer) {}, pdu.LoginInitiatorError},
		{"back to security", true, security, func(*peer) {}, pdu.LoginInitiatorError},
		{"ITT changes", true, opToFFP, func(p *peer) { p.req.InitiatorTaskTag++ }, pdu.LoginInitiatorError},
		{"ISID changes", true, opToFFP, func(p *peer) { p.req.ISID[5]++ }, pdu.LoginInitiatorError},
		{"TSIH changes", true, opToFFP, func(p *peer) { p.req.TSIH++ }, pdu.LoginInitiatorError},
		{"CID changes", true, opToFFP, func(p *peer) { p.req.CID++ }, pdu.LoginInitiatorError},
		{"CmdSN changes", true, opToFFP, func(p *peer) { p.req.CmdSN++ }, pdu.LoginInitiatorError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := open("none")
			pairs := names()
			if tt.begun {
				want(t, p.send(op, pairs...), login.Continue, pdu.LoginSuccess)
				pairs = nil
			}
			tt.change(p)
			state := login.Failed
			if tt.status == pdu.LoginSuccess {
				state = login.Admit
			}
			r := p.send(tt.flags, pairs...)
			want(t, r, state, tt.status)
			if state == login.Failed && (!r.Send || r.Response.InitiatorTaskTag != p.req.InitiatorTaskTag) {
				t.Errorf("response %+v, sent: %v", r.Response, r.Send)
			}
		})
	}
	t.Run("CmdSN moves in an existing session", func(t *testing.T) {
		p := open("none")
		p.req.TSIH = 3
		p.send(op, names()...)
		p.req.CmdSN += 5
		want(t, p.send(opToFFP), login.Admit, pdu.LoginSuccess)
	})
}

func TestLengths(t *testing.T) {
	step := func(change func(h *pdu.BHS), data []byte) login.Reply {
		p := open("none")
		r := p.req
		r.CSG, r.DataLen = pdu.LoginOperational, len(data)
		var h pdu.BHS
		r.Encode(&h)
		change(&h)
		return p.m.Step(&h, data)
	}
	data := []byte(strings.Join(names(), "\x00") + "\x00")
	want(t, step(func(*pdu.BHS) {}, data), login.Continue, pdu.LoginSuccess)
	want(t, step(func(h *pdu.BHS) { h.SetDataSegmentLength(len(data) + 1) }, data), login.Failed, pdu.LoginInitiatorError)
	want(t, step(func(h *pdu.BHS) { h.SetDataSegmentLength(1<<24 - 1) }, nil), login.Failed, pdu.LoginInitiatorError)
	want(t, step(func(h *pdu.BHS) { h.SetTotalAHSLength(4) }, data), login.Failed, pdu.LoginInitiatorError)
	want(t, step(func(*pdu.BHS) {}, data[:len(data)-1]), login.Failed, pdu.LoginInitiatorError)
	want(t, step(func(*pdu.BHS) {}, []byte("InitiatorName\x00")), login.Failed, pdu.LoginInitiatorError)
	want(t, step(func(*pdu.BHS) {}, make([]byte, login.MaxText+1)), login.Failed, pdu.LoginInitiatorError)
}

// TestOpcodes sends every opcode, immediate or not, before the login, in each
// stage and after it (a crash of SPDK, found by a port scanner).
func TestOpcodes(t *testing.T) {
	places := map[string]func() *peer{
		"before":      func() *peer { return open("none") },
		"security":    func() *peer { p := open("chap"); p.send(security, names("AuthMethod=CHAP")...); return p },
		"operational": func() *peer { p := open("none"); p.send(op, names()...); return p },
		"admitted":    func() *peer { p := open("none"); p.send(opToFFP, names()...); return p },
		"failed":      func() *peer { p := open("none"); p.send(op); return p },
		"over":        func() *peer { p := open("none"); p.send(opToFFP, names()...); p.m.Admitted(1); return p },
	}
	for place, get := range places {
		t.Run(place, func(t *testing.T) {
			for b := range 128 {
				var h pdu.BHS
				h[0] = byte(b)
				h.SetInitiatorTaskTag(0xabcd)
				if h.Opcode() == pdu.OpLoginRequest {
					continue
				}
				p := get()
				r := p.m.Step(&h, nil)
				want(t, r, login.Failed, pdu.LoginInvalidRequestDuringLogin)
				answered := place == "security" || place == "operational"
				if r.Send != answered || answered && r.Response.InitiatorTaskTag != 0xabcd {
					t.Fatalf("%#02x: sent: %v, %+v", b, r.Send, r.Response)
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	const i, n = "InitiatorName=" + initiatorName, "TargetName=" + targetName
	tests := []struct {
		name   string
		pairs  []string
		status pdu.LoginStatus
	}{
		{"normal", []string{i, n}, pdu.LoginSuccess},
		{"discovery", []string{i, "SessionType=Discovery"}, pdu.LoginSuccess},
		{"discovery with a target", []string{i, n, "SessionType=Discovery"}, pdu.LoginSuccess},
		{"no initiator", []string{n}, pdu.LoginMissingParameter},
		{"no initiator in discovery", []string{"SessionType=Discovery"}, pdu.LoginMissingParameter},
		{"no target", []string{i, "SessionType=Normal"}, pdu.LoginMissingParameter},
		{"nothing", nil, pdu.LoginMissingParameter},
		{"empty initiator", []string{"InitiatorName=", n}, pdu.LoginMissingParameter},
		{"session type", []string{i, n, "SessionType=Sightseeing"}, pdu.LoginSessionTypeNotSupported},
		{"223 bytes", []string{"InitiatorName=iqn.2026-11.com" + strings.Repeat("a", 208), n}, pdu.LoginSuccess},
		{"224 bytes", []string{"InitiatorName=iqn.2026-11.com" + strings.Repeat("a", 209), n}, pdu.LoginInitiatorError},
		{"space", []string{"InitiatorName=iqn. a", n}, pdu.LoginInitiatorError},
		{"target of 224 bytes", []string{i, "TargetName=iqn." + strings.Repeat("a", 220)}, pdu.LoginTargetNotFound},
		{"initiator twice", []string{i, i, n}, pdu.LoginInitiatorError},
		{"unknown key twice", []string{i, n, "Sesame=a", "Sesame=b"}, pdu.LoginInitiatorError},
		{"long alias", []string{i, n, "InitiatorAlias=" + strings.Repeat("a", 256)}, pdu.LoginInitiatorError},
		{"security key in the operational stage", []string{i, n, "AuthMethod=None"}, pdu.LoginInitiatorError},
		{"CHAP key in the operational stage", []string{i, n, "CHAP_A=5"}, pdu.LoginInitiatorError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := login.Continue
			if tt.status != pdu.LoginSuccess {
				state = login.Failed
			}
			want(t, open("none").send(op, tt.pairs...), state, tt.status)
		})
	}
}

func TestPolicy(t *testing.T) {
	policy := &grantAll{grant: newGrant("none")}
	p := newPeer(policy, login.Env{})
	p.send(op, names("InitiatorAlias=me")...)
	want(t, p.send(opToFFP), login.Admit, pdu.LoginSuccess)
	id := login.Identity{InitiatorName: initiatorName, InitiatorAlias: "me", TargetName: targetName, ISID: p.req.ISID, CID: 1}
	if diff := cmp.Diff([]login.Identity{id}, policy.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}

	bad := newGrant("none")
	bad.Limits.FirstBurstLength = bad.Limits.MaxBurstLength + 1
	moved := &login.Refusal{Status: pdu.LoginTargetMovedTemporarily, Reason: "maintenance", RedirectAddress: "[fd00::1]:3260,2"}
	tests := []struct {
		name   string
		policy *grantAll
		status pdu.LoginStatus
		data   string
	}{
		{"not found", &grantAll{err: &login.Refusal{Status: pdu.LoginTargetNotFound, Reason: "no such target"}}, pdu.LoginTargetNotFound, ""},
		{"wrapped", &grantAll{err: fmt.Errorf("acl: %w", &login.Refusal{Status: pdu.LoginAuthorizationFailure})}, pdu.LoginAuthorizationFailure, ""},
		{"another error", &grantAll{err: errors.New("database secret 1234 gone")}, pdu.LoginTargetError, ""},
		{"success is no refusal", &grantAll{err: &login.Refusal{}}, pdu.LoginTargetError, ""},
		{"nothing", &grantAll{}, pdu.LoginTargetError, ""},
		{"impossible limits", &grantAll{grant: bad}, pdu.LoginTargetError, ""},
		{"redirect", &grantAll{err: moved}, pdu.LoginTargetMovedTemporarily, "TargetAddress=[fd00::1]:3260,2\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(tt.policy, login.Env{})
			r := p.send(op, names()...)
			want(t, r, login.Failed, tt.status)
			if string(r.Data) != tt.data || r.Response.DataLen != len(tt.data) {
				t.Errorf("data %q", r.Data)
			}
			if got := p.m.Result().Identity.InitiatorName; got != initiatorName {
				t.Errorf("identity %q of a failed login", got)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		p := open("none")
		p.send(op, names()...)
		for range login.MaxRequests - 1 {
			want(t, p.send(op), login.Continue, pdu.LoginSuccess)
		}
		want(t, p.send(op), login.Failed, pdu.LoginInitiatorError)
	})
	t.Run("endless C bit", func(t *testing.T) {
		p := open("none")
		sent := 0
		for p.last.State == login.Continue {
			p.sendRaw(flags{csg: 1, more: true}, make([]byte, 8192))
			sent++
		}
		if sent > 9 || p.last.Response.Status != pdu.LoginInitiatorError {
			t.Errorf("%d requests, %v", sent, p.last.Response.Status)
		}
	})
	t.Run("keys in one request", func(t *testing.T) {
		want(t, open("none").send(op, names(manyKeys(0, 126)...)...), login.Failed, pdu.LoginInitiatorError)
		want(t, open("none").send(op, names(manyKeys(0, 125)...)...), login.Continue, pdu.LoginSuccess)
	})
	t.Run("keys in all requests", func(t *testing.T) {
		p := open("none")
		p.send(op, names(manyKeys(0, 60)...)...)
		p.send(op, manyKeys(60, 65)...)
		want(t, p.last, login.Continue, pdu.LoginSuccess)
		want(t, p.send(op, "Last=straw"), login.Failed, pdu.LoginInitiatorError)
	})
	t.Run("long key", func(t *testing.T) { // CVE-2013-2850
		for _, n := range []int{0, 1, 62, 63, 64, 255, 8000, 60000} {
			r := open("none").send(op, names("K"+strings.Repeat("k", n)+"=v")...)
			if (r.State == login.Continue) != (n < 63) {
				t.Errorf("key of %d bytes: %v", n+1, r.State)
			}
		}
	})
}

func manyKeys(from, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("Key%d=v", from+i))
	}
	return list
}

// TestAllocation sends the worst texts: memory grows with what arrived.
func TestAllocation(t *testing.T) {
	big := strings.Repeat("v", 8000)
	texts := map[string][]string{
		"nothing":    nil,
		"many keys":  names(manyKeys(0, 120)...),
		"big values": names("A="+big, "B="+big, "C="+big, "D="+big, "E="+big, "F="+big),
		"big list":   names("HeaderDigest=" + strings.Repeat("a,", 4000)),
	}
	for name, pairs := range texts {
		t.Run(name, func(t *testing.T) {
			data := []byte(strings.Join(pairs, "\x00") + "\x00")
			got := uint64(math.MaxUint64)
			for range 5 { // the least: others in the process allocate too
				p := open("none")
				h := p.header(op, len(data))
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				p.m.Step(&h, data)
				runtime.ReadMemStats(&after)
				got = min(got, after.TotalAlloc-before.TotalAlloc)
			}
			if got > uint64(64<<10+4*len(data)) {
				t.Errorf("%d bytes for %d", got, len(data))
			} else {
				t.Logf("%d bytes for %d", got, len(data))
			}
		})
	}
}

// TestLongAnswer: an answer over 8192 bytes comes in pieces, and only the last
// one changes the stage.
func TestLongAnswer(t *testing.T) {
	long := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("K%062d=v", i)) // 77 bytes of answer each
		}
		return list
	}
	p := open("none")
	r := p.send(opToFFP, names(long(120)...)...)
	want(t, r, login.Continue, pdu.LoginSuccess)
	if !r.Response.Continue || r.Response.Transit || len(r.Data) != login.MaxResponseData {
		t.Fatalf("C %v, T %v, %d bytes", r.Response.Continue, r.Response.Transit, len(r.Data))
	}
	want(t, p.send(opToFFP), login.Admit, pdu.LoginSuccess)
	r = p.note(p.m.Admitted(1))
	want(t, r, login.FullFeature, pdu.LoginSuccess)
	if r.Response.Continue || !r.Response.Transit || p.seen["K"+strings.Repeat("0", 59)+"119"] != text.NotUnderstood {
		t.Errorf("last piece %+v %q", r.Response, r.Data)
	}

	t.Run("asked without T", func(t *testing.T) {
		p := open("none")
		p.send(opToFFP, names(long(120)...)...)
		want(t, p.send(op), login.Continue, pdu.LoginSuccess)
		want(t, p.send(opToFFP), login.Admit, pdu.LoginSuccess)
	})
	t.Run("interrupted", func(t *testing.T) {
		p := open("none")
		p.send(opToFFP, names(long(120)...)...)
		want(t, p.send(opToFFP, "InitialR2T=No"), login.Failed, pdu.LoginInitiatorError)
	})
	t.Run("C bit", func(t *testing.T) {
		p := open("none")
		p.send(opToFFP, names(long(120)...)...)
		want(t, p.send(flags{csg: 1, more: true}), login.Failed, pdu.LoginInitiatorError)
	})
}

// TestSplitText sends one text in two requests, cut at every byte.
func TestSplitText(t *testing.T) {
	data := []byte(strings.Join(names("HeaderDigest=CRC32C"), "\x00") + "\x00")
	for cut := range len(data) + 1 {
		p := open("none")
		r := p.sendRaw(flags{csg: 1, more: true}, data[:cut])
		if r.State != login.Continue || len(r.Data) != 0 || r.Response.Transit || r.Response.Continue {
			t.Fatalf("cut at %d: %+v", cut, r)
		}
		want(t, p.sendRaw(opToFFP, data[cut:]), login.Admit, pdu.LoginSuccess)
		if !p.m.Result().Params.HeaderDigest {
			t.Fatalf("cut at %d: key lost", cut)
		}
	}
}

func TestNumbers(t *testing.T) {
	p := open("none")
	p.req.CmdSN = 0xffffffff
	pairs := names()
	for i := range uint32(3) {
		r := p.send(op, pairs...)
		pairs = nil
		if r.Response.StatSN != i || r.Response.ExpCmdSN != 0xffffffff || r.Response.MaxCmdSN != 0xffffffff || r.Response.TSIH != 0 {
			t.Fatalf("response %d: %+v", i, r.Response)
		}
	}
	want(t, p.send(opToFFP), login.Admit, pdu.LoginSuccess)
	r := p.m.Admitted(77)
	res := p.m.Result()
	if r.Response.TSIH != 77 || r.Response.StatSN != 3 || r.Response.MaxCmdSN != 126 || res.StatSN != 4 || res.ExpCmdSN != 0xffffffff || res.MaxCmdSN != 126 {
		t.Errorf("%+v %+v", r.Response, res)
	}
	if res.ExpStatSN != 3 {
		t.Errorf("ExpStatSN %d", res.ExpStatSN)
	}
}

func TestOwnerErrors(t *testing.T) {
	for name, f := range map[string]func(m *login.Machine){
		"Admitted": func(m *login.Machine) { m.Admitted(1) },
		"Refuse":   func(m *login.Machine) { m.Refuse(&login.Refusal{}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(open("none").m)
		})
	}
}

func TestStrings(t *testing.T) {
	for s, want := range map[fmt.Stringer]string{
		login.Continue: "Continue", login.Admit: "Admit", login.FullFeature: "FullFeature", login.Failed: "Failed", login.State(9): "State(9)",
		login.TCP: "tcp", login.ISER: "iser", login.Transport(9): "Transport(9)",
	} {
		if s.String() != want {
			t.Errorf("%q, want %q", s, want)
		}
	}
	r := &login.Refusal{Status: pdu.LoginTargetNotFound, Reason: "gone"}
	if r.Error() != "login: target not found: gone" {
		t.Error(r.Error())
	}
}

package rawsuite

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// testOpcodes sends every opcode with and without the I bit in every phase
// (a non-login PDU before the end of the login has crashed targets). Before the
// login and after the logout only a refusal is allowed, RFC 7143 §6.3: "the
// target ... MUST terminate the connection".
func (s *suite) testOpcodes(t *testing.T) {
	phases := []struct {
		name  string
		setUp func(t *testing.T) *raw
	}{
		{"before login", func(t *testing.T) *raw { return &raw{t: t, s: s, c: s.connect(t)} }},
		{"during login", s.duringLogin},
		{"discovery", func(t *testing.T) *raw {
			return s.login(t, func(o *initiator.Options) { o.SessionType, o.TargetName = initiator.DiscoverySession, "" })
		}},
		{"full feature", func(t *testing.T) *raw { return s.login(t, nil) }},
		{"after logout", s.afterLogout},
	}
	for _, phase := range phases {
		t.Run(phase.name, func(t *testing.T) {
			const at = 32 // a time: a target may take long to end a connection
			for first := 0; first < 128; first += at {
				var all [at]*raw
				for i := range all { // bit 6 is the I bit
					all[i] = phase.setUp(t)
					all[i].opcode(byte(first + i))
				}
				for i, x := range all {
					s.oneOpcode(t, x, phase.name, byte(first+i))
				}
			}
		})
	}
}

// opcode sends a header that holds nothing but opcode, tags and numbers.
func (x *raw) opcode(first byte) {
	var h pdu.BHS
	h[0], h[1] = first, 0x80
	h.SetInitiatorTaskTag(77)
	h.SetTargetTransferTag(pdu.ReservedTag)
	h.SetCmdSN(x.cmdSN)
	h.SetExpStatSN(x.expStatSN)
	_ = x.c.Write(h[:])
}

// oneOpcode checks what came of it.
func (s *suite) oneOpcode(t *testing.T, x *raw, phase string, first byte) {
	t.Helper()
	defer x.c.Close()
	op := pdu.Opcode(first & 0x3f)
	name := fmt.Sprintf("%s: opcode %#02x, I bit %d", phase, byte(op), first>>6)
	if phase == "discovery" || phase == "full feature" {
		o := x.outcome()
		if !op.FromInitiator() && !o.refused() {
			t.Errorf("%s: neither rejected nor closed", name)
		}
		return
	}
	for _, p := range s.ended(t, x.c) {
		switch p.BHS.Opcode() {
		case pdu.OpLoginResponse:
			if p.BHS[36] == 0 {
				t.Errorf("%s: Login Response with success", name)
			}
		case pdu.OpReject, pdu.OpAsyncMessage, pdu.OpLogoutResponse:
		default:
			t.Errorf("%s: answered with %v", name, p.BHS.Opcode())
		}
	}
}

// firstLogin is the first request of a login without authentication.
func (s *suite) firstLogin() (pdu.LoginRequest, []byte) {
	var data []byte
	data = text.Append(data, "InitiatorName", initiator.DefaultInitiatorName)
	data = text.Append(data, "TargetName", s.TargetName)
	data = text.Append(data, "SessionType", "Normal")
	data = text.Append(data, "AuthMethod", "None")
	return pdu.LoginRequest{
		Transit: true, CSG: pdu.SecurityNegotiation, NSG: pdu.LoginOperational,
		ISID: initiator.RandomISID(), InitiatorTaskTag: 1, CmdSN: 1,
	}, data
}

// duringLogin returns a connection in the operational stage.
func (s *suite) duringLogin(t *testing.T) *raw {
	t.Helper()
	x := &raw{t: t, s: s, c: s.connect(t), cmdSN: 1}
	req, data := s.firstLogin()
	req.DataLen = len(data)
	x.send(&req, data)
	p := x.mustRead()
	var resp pdu.LoginResponse
	if err := resp.Decode(&p.BHS); err != nil || resp.Status != 0 || !resp.Transit {
		t.Fatalf("first login request: %v, %+v", err, resp)
	}
	return x
}

func (s *suite) afterLogout(t *testing.T) *raw {
	t.Helper()
	x := s.login(t, nil)
	x.send(&pdu.LogoutRequest{
		Immediate: true, Reason: pdu.LogoutCloseSession, InitiatorTaskTag: 5, CmdSN: x.cmdSN, ExpStatSN: x.expStatSN,
	}, nil)
	if p := x.mustRead(); p.BHS.Opcode() != pdu.OpLogoutResponse {
		t.Fatalf("logout is answered with %v", p.BHS.Opcode())
	}
	return x
}

// testLoginHeaders sends first Login Requests that are wrong in one field.
func (s *suite) testLoginHeaders(t *testing.T) {
	tests := []struct {
		name  string
		wrong func(r *pdu.LoginRequest)
	}{
		{"version", func(r *pdu.LoginRequest) { r.VersionMax, r.VersionMin = 5, 5 }},
		{"reserved CSG", func(r *pdu.LoginRequest) { r.CSG = 2 }},
		{"CSG full feature", func(r *pdu.LoginRequest) { r.CSG = pdu.FullFeaturePhase }},
		{"reserved NSG", func(r *pdu.LoginRequest) { r.NSG = 2 }},
		{"NSG before CSG", func(r *pdu.LoginRequest) { r.CSG, r.NSG = pdu.LoginOperational, pdu.SecurityNegotiation }},
		{"NSG equals CSG", func(r *pdu.LoginRequest) { r.CSG, r.NSG = pdu.LoginOperational, pdu.LoginOperational }},
		{"T and C", func(r *pdu.LoginRequest) { r.Continue = true }},
	}
	for _, tt := range tests {
		s.sub(t, tt.name, func(t *testing.T) {
			req, data := s.firstLogin()
			tt.wrong(&req)
			s.refusedLogin(t, &req, data)
		})
	}
	s.sub(t, "unknown TSIH", s.unknownSession)
}

// unknownSession logs in to a session that is not there; the target may say so
// at any point of the login (§11.13.5, 020a).
func (s *suite) unknownSession(t *testing.T) {
	_, err := initiator.Negotiate(s.ctx(t), s.connect(t), s.options(func(o *initiator.Options) { o.TSIH = 0xfffe }))
	var refused *initiator.LoginError
	if !errors.As(err, &refused) || refused.Status.Class() != 2 {
		t.Errorf("%v, want a refusal", err)
	}
}

// refusedLogin sends one Login Request and wants a refusal, or the end of the
// connection.
func (s *suite) refusedLogin(t *testing.T, req *pdu.LoginRequest, data []byte) {
	t.Helper()
	x := &raw{t: t, s: s, c: s.connect(t)}
	req.DataLen = len(data)
	x.send(req, data)
	p, closed := x.read()
	if closed {
		return
	}
	var resp pdu.LoginResponse
	if err := resp.Decode(&p.BHS); err != nil || resp.Status.Class() == 0 {
		t.Fatalf("%v, %+v; want a refusal", err, resp)
	}
	if s.Over.ISER {
		return // the initiator is to disconnect
	}
	if more := s.ended(t, x.c); len(more) > 0 {
		t.Errorf("%v after the refusal", more[0].BHS.Opcode())
	}
}

// testLoginText sends wrong texts in the first request.
func (s *suite) testLoginText(t *testing.T) {
	pair := func(key, value string) string { return key + "=" + value + "\x00" }
	name := pair("InitiatorName", initiator.DefaultInitiatorName)
	target := pair("TargetName", s.TargetName)
	tests := []struct{ name, data string }{
		{"no names", ""},
		{"no InitiatorName", target},
		{"no TargetName", name},
		{"unknown target", name + pair("TargetName", "iqn.2026-11.com.example:does-not-exist")},
		{"no equals sign", name + target + "nonsense\x00"},
		{"no NUL", name + target + "AuthMethod=None"},
		{"empty key", name + target + "=x\x00"},
		{"long key", name + target + pair(strings.Repeat("K", 70), "x")},
		{"InitiatorName twice", name + name + target},
		{"AuthMethod unknown", name + target + pair("AuthMethod", "SRP")},
		{"AuthMethod empty", name + target + pair("AuthMethod", "")},
		{"SessionType unknown", name + target + pair("SessionType", "Strange")},
		{"129 keys", name + target + strings.Repeat(pair("X-com.example.k", "v"), 129)},
	}
	for _, tt := range tests {
		s.sub(t, tt.name, func(t *testing.T) {
			req, _ := s.firstLogin()
			s.refusedLogin(t, &req, []byte(tt.data))
		})
	}
	s.sub(t, "endless C bit", s.endlessText)
}

// endlessText never comes to the end of its text.
func (s *suite) endlessText(t *testing.T) {
	c := s.connect(t)
	before := s.memory()
	req, _ := s.firstLogin()
	data := []byte("X-com.example.endless=" + strings.Repeat("v", 8000))
	req.Transit, req.Continue, req.NSG, req.DataLen = false, true, 0, len(data)
	var h pdu.BHS
	req.Encode(&h)
	for range 1000 {
		if err := c.WritePDU(&h, nil, data); err != nil {
			return
		}
		p, err := c.ReadPDU()
		if err != nil {
			return
		}
		var resp pdu.LoginResponse
		if err := resp.Decode(&p.BHS); err != nil || resp.Status.Class() != 0 {
			s.grownBy(t, before, 1<<20)
			return
		}
		req.ExpStatSN = resp.StatSN + 1
		req.Encode(&h)
	}
	t.Error("8 MB of text were taken")
}

// testLoginTimeout checks that no login lasts longer than the target's limit.
func (s *suite) testLoginTimeout(t *testing.T) {
	if s.LoginTimeout == 0 {
		t.Skip("no login timeout given")
	}
	req, data := s.firstLogin()
	req.DataLen = len(data)
	var h pdu.BHS
	req.Encode(&h)
	whole := (&initiator.Frame{BHS: h, Data: data, Padding: make([]byte, pdu.Pad(len(data)))}).Append(nil)
	tests := []struct {
		name string
		send func(c *initiator.Conn, elapsed time.Duration)
	}{
		{"silence", func(*initiator.Conn, time.Duration) {}},
		{"one byte per 100 ms", func(c *initiator.Conn, d time.Duration) {
			if i := int(d / (100 * time.Millisecond)); i < len(whole) {
				_ = c.Write(whole[i : i+1])
			}
		}},
		{"stall after the first request", func(c *initiator.Conn, d time.Duration) {
			if d < 100*time.Millisecond {
				_ = c.Write(whole)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := s.connect(t)
			begin := time.Now()
			_ = c.SetDeadline(begin.Add(2*s.LoginTimeout + patience))
			done := make(chan time.Duration, 1)
			go func() { // ends with the connection
				_, _ = io.Copy(io.Discard, c.NetConn())
				done <- time.Since(begin)
			}()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for tt.send(c, 0); ; {
				select {
				case <-tick.C:
					tt.send(c, time.Since(begin))
				case d := <-done:
					if d < s.LoginTimeout-time.Second || d > s.LoginTimeout+time.Second {
						t.Errorf("closed after %v, want %v", d, s.LoginTimeout)
					}
					return
				}
			}
		})
	}
}

// memory returns the target's memory, 0 when it cannot be told.
func (s *suite) memory() int64 {
	if s.Memory == nil {
		return 0
	}
	return s.Memory()
}

// grownBy checks that the target's memory has not grown by more than limit.
func (s *suite) grownBy(t *testing.T, before, limit int64) {
	t.Helper()
	if grown := s.memory() - before; grown > limit {
		t.Errorf("target's memory has grown by %d bytes, limit %d", grown, limit)
	}
}

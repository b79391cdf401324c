package login_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

// FuzzLogin feeds a sequence of PDUs: for each one two bytes of length, a header
// of 48 bytes (as much as there is) and the data segment. Nothing may panic, no
// login may be admitted without its secret, every answer must be well-formed.
func FuzzLogin(f *testing.F) {
	add := func(transport byte, requests ...[]byte) {
		out := []byte{transport}
		for _, r := range requests {
			out = binary.BigEndian.AppendUint16(out, uint16(len(r)))
			out = append(out, r...)
		}
		f.Add(out)
	}
	pdus := func(auth string, list ...func(*peer) (flags, []string)) (out [][]byte) {
		p := open(auth)
		for _, next := range list {
			fl, pairs := next(p)
			data := []byte(p.expand(strings.Join(pairs, "\x00")) + "\x00")
			h := p.header(fl, len(data))
			out = append(out, append(h[:], data...))
			p.sendRaw(fl, data)
		}
		return out
	}
	first := func(fl flags, more ...string) func(*peer) (flags, []string) {
		return func(*peer) (flags, []string) { return fl, names(more...) }
	}
	then := func(fl flags, pairs ...string) func(*peer) (flags, []string) {
		return func(*peer) (flags, []string) { return fl, pairs }
	}
	add(0, pdus("none", first(opToFFP, "HeaderDigest=CRC32C,None", "MaxBurstLength=65536"))...)
	add(1, pdus("none", first(opToFFP, "RDMAExtensions=Yes"))...)
	add(2, pdus("mutual", first(security, "AuthMethod=CHAP"), then(security, "CHAP_A=7"), then(securityToFFP, "CHAP_N="+user, "CHAP_R=$W", "CHAP_I=1", "CHAP_C=$C"))...)
	add(2, pdus("mutual", first(securityToOp, "AuthMethod=CHAP,None"), then(opToFFP, "InitialR2T=No"))...)

	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		env, auth := login.Env{Rand: &counter{n: 100}, Outstanding: new(chap.Outstanding)}, "none"
		if in[0]&1 != 0 {
			env.Transport = login.ISER
		}
		if in[0]&2 != 0 {
			auth = "mutual"
		}
		p := newPeer(&grantAll{grant: newGrant(auth)}, env)
		over := false
		for in = in[1:]; len(in) >= 2; {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			one := in[2 : 2+n]
			in = in[2+n:]
			var h pdu.BHS
			data := one[copy(h[:], one):]
			r := p.m.Step(&h, data)
			if over && (r.State != login.Failed || r.Send) {
				t.Fatalf("%+v after the end", r)
			}
			over = over || r.State == login.Failed
			checkReply(t, p, r)
			if r.State == login.Admit {
				if auth == "mutual" && p.m.Result().User != user {
					t.Fatal("admitted without authentication")
				}
				checkReply(t, p, p.m.Admitted(1))
				over = true
			}
		}
		p.m.Close()
		if env.Outstanding.Len() != 0 {
			t.Fatal("a challenge stays")
		}
	})
}

// checkReply checks what holds for every reply.
func checkReply(t *testing.T, p *peer, r login.Reply) {
	t.Helper()
	if (r.Err != nil) != (r.State == login.Failed) || r.Response.DataLen != len(r.Data) || len(r.Data) > login.MaxResponseData {
		t.Fatalf("%+v", r)
	}
	if r.Send && (r.Response.Status == pdu.LoginSuccess) != (r.State != login.Failed) || r.Response.Transit && r.Response.Continue {
		t.Fatalf("%+v", r)
	}
	if !r.Send || r.State == login.Failed {
		return
	}
	p.text = append(p.text, r.Data...)
	if !r.Response.Continue {
		if _, err := text.Parse(p.text); err != nil {
			t.Fatal(err)
		}
		p.text = nil
	}
	var h pdu.BHS
	r.Response.Encode(&h)
	var back pdu.LoginResponse
	if err := back.Decode(&h); err != nil || back != r.Response {
		t.Fatalf("%+v encodes to %+v, %v", r.Response, back, err)
	}
}

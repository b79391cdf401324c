package login_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// symbol is one request of the exhaustive walk.
type symbol struct {
	flags flags
	keys  content
}

type content int

const (
	noText content = iota
	methodNone
	methodCHAP
	methodBoth
	methodJunk
	algorithms
	rightResponse
	wrongResponse
	unknownUser
	noResponse
	operational
	contentCount
)

func (x content) pairs() []string {
	return [...][]string{
		noText:        nil,
		methodNone:    {"AuthMethod=None"},
		methodCHAP:    {"AuthMethod=CHAP"},
		methodBoth:    {"AuthMethod=CHAP,None"},
		methodJunk:    {"AuthMethod=KRB5"},
		algorithms:    {"CHAP_A=7,5"},
		rightResponse: {"CHAP_N=" + user, "CHAP_R=$R"},
		wrongResponse: {"CHAP_N=" + user, "CHAP_R=$W"},
		unknownUser:   {"CHAP_N=mallory", "CHAP_R=$R"},
		noResponse:    {"CHAP_N=" + user},
		operational:   {"MaxBurstLength=65536"},
	}[x]
}

// alphabet is every (CSG, NSG, T) there is with every text above.
func alphabet() (list []symbol) {
	for csg := range pdu.Stage(4) {
		for next := range pdu.Stage(4) { // 0: no T bit
			for x := range contentCount {
				list = append(list, symbol{flags{csg: csg, next: next}, x})
			}
		}
	}
	return list
}

// authenticated is the oracle: it knows nothing of the machine but the order of
// RFC 7143 §12.1.3.
func authenticated(path []symbol) bool {
	due := 0
	for _, s := range path {
		switch {
		case due == 0 && (s.keys == methodCHAP || s.keys == methodBoth), due == 1 && s.keys == algorithms, due == 2 && s.keys == rightResponse:
			if s.flags.csg == pdu.SecurityNegotiation {
				due++
			}
		}
	}
	return due == 3
}

// depth is how long the sequences of TestWalk get; 6 takes a minute.
var depth = flag.Int("depth", 4, "length of the sequences of TestWalk")

// TestWalk sends every sequence of up to -depth requests, except that a sequence
// ends where the machine ends the login: no path leads to FullFeaturePhase
// without the authentication that is required, and every path that the standard
// has does lead there.
func TestWalk(t *testing.T) {
	all, length := alphabet(), *depth
	if testing.Short() {
		length = min(length, 3)
	}
	for _, auth := range []string{"none", "optional", "chap"} {
		for _, kind := range []string{"Normal", "Discovery"} {
			for _, tsih := range []uint16{0, 9} {
				t.Run(fmt.Sprintf("%s/%s/TSIH=%d", auth, kind, tsih), func(t *testing.T) {
					w := &walk{t: t, auth: auth, kind: kind, tsih: tsih, all: all}
					w.extend(nil, length)
					t.Logf("%d sequences, %d admitted", w.sequences, w.admitted)
					if w.admitted == 0 {
						t.Error("nothing was admitted")
					}
				})
			}
		}
	}
}

type walk struct {
	t                   *testing.T
	auth, kind          string
	tsih                uint16
	all                 []symbol
	sequences, admitted int
}

// extend tries every symbol after path, which the machine survives.
func (w *walk) extend(path []symbol, depth int) {
	for _, s := range w.all {
		next := append(slices.Clip(path), s)
		w.sequences++
		r := w.run(next)
		if depth > 1 && r.State == login.Continue {
			w.extend(next, depth-1)
		}
	}
}

// run replays path on a new machine and checks its last reply.
func (w *walk) run(path []symbol) login.Reply {
	p := newPeer(&grantAll{grant: newGrant(w.auth)}, login.Env{Rand: &counter{}})
	p.req.TSIH = w.tsih
	var r login.Reply
	for i, s := range path {
		pairs := s.keys.pairs()
		if i == 0 {
			pairs = append(names()[:2:2], append([]string{"SessionType=" + w.kind}, pairs...)...)
		}
		r = p.send(s.flags, pairs...)
	}
	last := path[len(path)-1].flags
	switch r.State {
	case login.Admit:
		w.admitted++
		if last.next != pdu.FullFeaturePhase {
			w.t.Fatalf("admitted without being asked: %v", path)
		}
		used := p.m.Result().User
		if ok := authenticated(path); ok != (used == user) || w.auth == "chap" && !ok {
			w.t.Fatalf("admitted as %q: %v", used, path)
		}
	case login.Continue:
		if r.Response.Transit && (last.next == 0 || last.next == pdu.FullFeaturePhase || r.Response.NSG != last.next) {
			w.t.Fatalf("transition that was not asked for: %v", path)
		}
	case login.Failed:
		if r.Send && r.Response.Status.Class() != pdu.ClassInitiatorError {
			w.t.Fatalf("status %v: %v", r.Response.Status, path)
		}
	default:
		w.t.Fatalf("state %v: %v", r.State, path)
	}
	return r
}

package login_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

var update = flag.Bool("update", false, "rewrite testdata/*.flow")

// TestFlows replays the conversations in testdata. A flow file holds
//
//	# a comment
//	setup auth=chap transport=iser alias=Disk
//	> CSG=0 NSG=1 TSIH=0 C    a request; NSG means the T bit, C the C bit
//	>   Key=value             its text; $R, $W, $C as in peer.expand
//	> admit 5                 Admitted(5); "refuse 0301" is Refuse
//	< …                       what the target answers, written by -update
//	= …                       parameters at the end, likewise
func TestFlows(t *testing.T) {
	files, err := filepath.Glob("testdata/*.flow")
	if err != nil || len(files) == 0 {
		t.Fatal("no flows", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".flow"), func(t *testing.T) {
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(golden))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(golden), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("(-golden +got):\n%s", diff)
			}
		})
	}
}

// replay runs the requests of a flow and returns it with fresh answers.
func replay(t *testing.T, flow string) string {
	t.Helper()
	var out strings.Builder
	var p *peer
	var head string
	var pairs []string
	flush := func() {
		if head != "" {
			out.WriteString(render(step(t, p, head, pairs)))
		}
		head, pairs = "", nil
	}
	for line := range strings.Lines(flow) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "<"), strings.HasPrefix(line, "="):
			continue
		case strings.HasPrefix(line, ">   "):
			pairs = append(pairs, line[4:])
		default:
			flush()
			if rest, ok := strings.CutPrefix(line, "setup"); ok {
				p = setup(t, rest)
			}
			if rest, ok := strings.CutPrefix(line, "> "); ok {
				head = rest
			}
		}
		out.WriteString(line + "\n")
	}
	flush()
	if p != nil && p.last.State == login.FullFeature {
		out.WriteString(summary(p.m.Result()))
	}
	return out.String()
}

// setup builds the peer of a flow from its setup line.
func setup(t *testing.T, line string) *peer {
	t.Helper()
	auth, env, alias := "none", login.Env{Rand: &counter{}}, ""
	limits := login.DefaultLimits()
	for word := range strings.FieldsSeq(line) {
		k, v, _ := strings.Cut(word, "=")
		switch k {
		case "auth":
			auth = v
		case "transport":
			if v == "iser" {
				env.Transport = login.ISER
			}
		case "alias":
			alias = v
		case "level":
			limits.ISCSIProtocolLevel = 2
		default:
			t.Fatalf("setup %q", word)
		}
	}
	g := newGrant(auth)
	g.TargetAlias, g.Limits = alias, limits
	return newPeer(&grantAll{grant: g}, env)
}

// step sends the request that head describes.
func step(t *testing.T, p *peer, head string, pairs []string) login.Reply {
	t.Helper()
	var f flags
	for word := range strings.FieldsSeq(head) {
		k, v, _ := strings.Cut(word, "=")
		switch k {
		case "admit":
			return p.note(p.m.Admitted(5))
		case "refuse":
			return p.note(p.m.Refuse(&login.Refusal{Status: pdu.LoginServiceUnavailable, Reason: "draining"}))
		case "CSG":
			f.csg = pdu.Stage(v[0] - '0')
		case "NSG":
			f.next = pdu.Stage(v[0] - '0')
		case "C":
			f.more = true
		case "TSIH":
			p.req.TSIH = uint16(v[0] - '0')
		default:
			t.Fatalf("request %q", word)
		}
	}
	return p.send(f, pairs...)
}

// summary prints what differs from a login without any negotiation.
func summary(r login.Result) string {
	zero := login.NewMachine(&grantAll{}, login.Env{}).Result()
	var b strings.Builder
	b.WriteString("= user " + r.User + "\n")
	for line := range strings.Lines(cmp.Diff(zero.Params, r.Params)) {
		// cmp.Diff mixes plain and non-breaking spaces on purpose.
		line = strings.Join(strings.Fields(strings.ReplaceAll(line, "\u00a0", " ")), " ")
		if after, ok := strings.CutPrefix(line, "+ "); ok {
			b.WriteString("= " + strings.TrimSuffix(after, ",") + "\n")
		}
	}
	return b.String()
}

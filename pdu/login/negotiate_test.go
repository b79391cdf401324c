package login_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

// model is a second account of RFC 7143 §13, written from the standard and not
// from keys.go: result function, range and default of the numbers and booleans.
var model = map[string]struct {
	function string
	low, top int
	initial  int
	ours     func(*login.Limits) *int
	ourBool  func(*login.Limits) *bool
	got      func(*login.Params) any
}{
	"MaxConnections":      {"min", 1, 65535, 1, func(l *login.Limits) *int { return &l.MaxConnections }, nil, func(p *login.Params) any { return p.MaxConnections }},
	"MaxBurstLength":      {"min", 512, 16777215, 262144, func(l *login.Limits) *int { return &l.MaxBurstLength }, nil, func(p *login.Params) any { return p.MaxBurstLength }},
	"DefaultTime2Wait":    {"max", 0, 3600, 2, func(l *login.Limits) *int { return &l.DefaultTime2Wait }, nil, func(p *login.Params) any { return p.DefaultTime2Wait }},
	"DefaultTime2Retain":  {"min", 0, 3600, 20, func(l *login.Limits) *int { return &l.DefaultTime2Retain }, nil, func(p *login.Params) any { return p.DefaultTime2Retain }},
	"MaxOutstandingR2T":   {"min", 1, 65535, 1, func(l *login.Limits) *int { return &l.MaxOutstandingR2T }, nil, func(p *login.Params) any { return p.MaxOutstandingR2T }},
	"ErrorRecoveryLevel":  {"min", 0, 2, 0, func(l *login.Limits) *int { return &l.ErrorRecoveryLevel }, nil, func(p *login.Params) any { return p.ErrorRecoveryLevel }},
	"InitialR2T":          {"or", 0, 1, 1, nil, func(l *login.Limits) *bool { return &l.InitialR2T }, func(p *login.Params) any { return p.InitialR2T }},
	"ImmediateData":       {"and", 0, 1, 1, nil, func(l *login.Limits) *bool { return &l.ImmediateData }, func(p *login.Params) any { return p.ImmediateData }},
	"DataPDUInOrder":      {"or", 0, 1, 1, nil, func(l *login.Limits) *bool { return &l.DataPDUInOrder }, func(p *login.Params) any { return p.DataPDUInOrder }},
	"DataSequenceInOrder": {"or", 0, 1, 1, nil, func(l *login.Limits) *bool { return &l.DataSequenceInOrder }, func(p *login.Params) any { return p.DataSequenceInOrder }},
}

// drawLimits returns random but valid limits.
func drawLimits(t *rapid.T, label string) login.Limits {
	l := login.DefaultLimits()
	for _, name := range sortedModel() {
		m := model[name]
		if m.ours != nil {
			*m.ours(&l) = rapid.IntRange(m.low, m.top).Draw(t, label+name)
		} else {
			*m.ourBool(&l) = rapid.Bool().Draw(t, label+name)
		}
	}
	l.FirstBurstLength = rapid.IntRange(512, l.MaxBurstLength).Draw(t, label+"FirstBurstLength")
	l.MaxRecvDataSegmentLength = rapid.IntRange(512, 1<<24-1).Draw(t, label+"MaxRecvDataSegmentLength")
	digests := [][]string{{"None"}, {"CRC32C"}, {"None", "CRC32C"}, {"CRC32C", "None"}}
	l.HeaderDigest = rapid.SampledFrom(digests).Draw(t, label+"HeaderDigest")
	l.DataDigest = rapid.SampledFrom(digests).Draw(t, label+"DataDigest")
	return l
}

func sortedModel() []string {
	var list []string
	for name := range model {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func clamp(function string, ours, theirs int) int {
	switch function {
	case "min", "and":
		return min(ours, theirs)
	default:
		return max(ours, theirs)
	}
}

// TestNegotiation offers a random subset of keys with random values, good and
// bad, in random order, and compares answers and parameters with the model.
func TestNegotiation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGrant("none")
		g.Limits = drawLimits(t, "our ")
		p := newPeer(&grantAll{grant: g}, login.Env{})
		offers := rapid.Permutation(sortedModel()).Draw(t, "order")
		offers = offers[:rapid.IntRange(0, len(offers)).Draw(t, "count")]
		pairs, answers, results := names(), map[string]string{}, map[string]any{}
		for _, name := range sortedModel() {
			results[name] = typed(name, model[name].initial)
		}
		for _, name := range offers {
			m := model[name]
			value, n, ok := drawValue(t, name)
			pairs = append(pairs, name+"="+value)
			if !ok {
				answers[name] = "Reject"
				continue
			}
			ours := 0
			if m.ours != nil {
				ours = *m.ours(&g.Limits)
			} else if *m.ourBool(&g.Limits) {
				ours = 1
			}
			result := clamp(m.function, ours, n)
			results[name] = typed(name, result)
			answers[name] = show(name, result)
		}
		want := answers
		want["TargetPortalGroupTag"] = "1"
		want["MaxRecvDataSegmentLength"] = strconv.Itoa(g.Limits.MaxRecvDataSegmentLength)
		if r := p.send(opToFFP, pairs...); r.State != login.Admit {
			t.Fatalf("%v: %v", r.State, r.Err)
		}
		p.note(p.m.Admitted(1))
		if diff := cmp.Diff(want, p.seen); diff != "" {
			t.Fatalf("answers (-want +got):\n%s", diff)
		}
		params := p.m.Result().Params
		for name, want := range results {
			if got := model[name].got(&params); got != want {
				t.Fatalf("%s is %v, want %v", name, got, want)
			}
		}
		if params.FirstBurstLength > params.MaxBurstLength {
			t.Fatalf("FirstBurstLength %d, MaxBurstLength %d", params.FirstBurstLength, params.MaxBurstLength)
		}
	})
}

// drawValue returns the text of an offer, its number, and whether it is allowed.
func drawValue(t *rapid.T, name string) (string, int, bool) {
	m := model[name]
	if rapid.IntRange(0, 9).Draw(t, "bad "+name) == 0 {
		bad := []string{"", "maybe", "-1", "yes", "1e3", "0x", "99999999999999999999", strconv.Itoa(m.top + 1), "None"}
		return rapid.SampledFrom(bad).Draw(t, name), 0, false
	}
	n := rapid.IntRange(m.low, m.top).Draw(t, name)
	if m.ours != nil && rapid.Bool().Draw(t, "hex "+name) {
		return "0x" + strconv.FormatInt(int64(n), 16), n, true
	}
	return show(name, n), n, true
}

func show(name string, n int) string {
	if model[name].ours != nil {
		return strconv.Itoa(n)
	}
	return map[int]string{0: "No", 1: "Yes"}[n]
}

func typed(name string, n int) any {
	if model[name].ours != nil {
		return n
	}
	return n == 1
}

// TestBothSides lets an Offer log in to a Machine: both must come to the same
// parameters.
func TestBothSides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGrant("none")
		g.Limits = drawLimits(t, "target ")
		offer := login.Offer{InitiatorName: initiatorName, InitiatorAlias: "me", TargetName: targetName, Limits: drawLimits(t, "initiator ")}
		if rapid.Bool().Draw(t, "iser") {
			offer.Transport = login.ISER
		}
		if rapid.Bool().Draw(t, "discovery") {
			offer.Discovery, offer.TargetName = true, ""
		}
		p := newPeer(&grantAll{grant: g}, login.Env{Transport: offer.Transport})
		p.sendRaw(op, offer.AppendNames(nil))
		if r := p.sendRaw(opToFFP, offer.AppendOperational(nil)); r.State != login.Admit {
			t.Fatalf("%v: %v", r.State, r.Err)
		}
		p.note(p.m.Admitted(1))
		var pairs []text.Pair
		for k, v := range p.seen {
			pairs = append(pairs, text.Pair{Key: k, Value: v})
		}
		got, err := offer.Apply(pairs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p.m.Result().Params, got); diff != "" {
			t.Fatalf("(-target +initiator):\n%s", diff)
		}
	})
}

func TestApplyErrors(t *testing.T) {
	offer := login.Offer{InitiatorName: initiatorName, TargetName: targetName, Limits: login.DefaultLimits()}
	tests := []struct{ name, answers, mention string }{
		{"nothing", "", ""},
		{"refused", "InitialR2T=Reject,MaxBurstLength=Irrelevant,MaxOutstandingR2T=NotUnderstood", ""},
		{"declared", "TargetAlias=a,TargetPortalGroupTag=1,AuthMethod=None,TargetAddress=a", ""},
		{"unknown", "X-com.example=1", "unknown key"},
		{"twice", "InitialR2T=Yes,InitialR2T=Yes", "second time"},
		{"more than offered", "MaxOutstandingR2T=17", "answers"},
		{"less than offered", "DefaultTime2Wait=1", "answers"},
		{"Yes to No", "ImmediateData=Maybe", "answers"},
		{"digest", "HeaderDigest=SHA256", "answers"},
		{"range", "MaxBurstLength=511", "answers"},
		{"declaration", "MaxRecvDataSegmentLength=1", "answers"},
		{"not offered", "TaskReporting=FastAbort", "not offered"},
		{"not offered over TCP", "RDMAExtensions=Yes", "answers"},
		{"irrelevant", "TargetRecvDataSegmentLength=8192", "not offered"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var pairs []text.Pair
			for s := range strings.SplitSeq(tt.answers, ",") {
				if k, v, ok := strings.Cut(s, "="); ok {
					pairs = append(pairs, text.Pair{Key: k, Value: v})
				}
			}
			_, err := offer.Apply(pairs)
			if (err == nil) != (tt.mention == "") || err != nil && !strings.Contains(err.Error(), tt.mention) {
				t.Error(err)
			}
		})
	}
}

// TestLowerCaseKeys: two keys of the standards begin with a small letter.
func TestLowerCaseKeys(t *testing.T) {
	g := newGrant("none")
	g.Limits.ISCSIProtocolLevel = 2
	g.Limits.TaskReporting = []string{"RFC3720", "ResponseFence"}
	p := newPeer(&grantAll{grant: g}, login.Env{})
	want(t, p.send(opToFFP, names("iSCSIProtocolLevel=3", "TaskReporting=FastAbort,ResponseFence,RFC3720", "iSERHelloRequired=No")...), login.Admit, pdu.LoginSuccess)
	p.note(p.m.Admitted(1))
	params := p.m.Result().Params
	if p.seen["iSCSIProtocolLevel"] != "2" || params.ISCSIProtocolLevel != 2 || p.seen["TaskReporting"] != "ResponseFence" || params.TaskReporting != "ResponseFence" || p.seen["iSERHelloRequired"] != "Irrelevant" {
		t.Errorf("%v %+v", p.seen, params)
	}
}

func TestLimitsValidate(t *testing.T) {
	if err := login.DefaultLimits().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*login.Limits){
		"MaxConnections":                 func(l *login.Limits) { l.MaxConnections = 0 },
		"MaxRecvDataSegmentLength":       func(l *login.Limits) { l.MaxRecvDataSegmentLength = 1 << 24 },
		"MaxBurstLength":                 func(l *login.Limits) { l.MaxBurstLength = 511 },
		"FirstBurstLength":               func(l *login.Limits) { l.FirstBurstLength = -1 },
		"exceeds MaxBurstLength":         func(l *login.Limits) { l.FirstBurstLength = l.MaxBurstLength + 1 },
		"DefaultTime2Wait":               func(l *login.Limits) { l.DefaultTime2Wait = 3601 },
		"DefaultTime2Retain":             func(l *login.Limits) { l.DefaultTime2Retain = 3601 },
		"MaxOutstandingR2T":              func(l *login.Limits) { l.MaxOutstandingR2T = 65536 },
		"ErrorRecoveryLevel":             func(l *login.Limits) { l.ErrorRecoveryLevel = 3 },
		"iSCSIProtocolLevel":             func(l *login.Limits) { l.ISCSIProtocolLevel = 32 },
		"TargetRecvDataSegmentLength":    func(l *login.Limits) { l.TargetRecvDataSegmentLength = 0 },
		"InitiatorRecvDataSegmentLength": func(l *login.Limits) { l.InitiatorRecvDataSegmentLength = 0 },
		"CommandWindow":                  func(l *login.Limits) { l.CommandWindow = 0 },
		"HeaderDigest":                   func(l *login.Limits) { l.HeaderDigest = nil },
		"DataDigest":                     func(l *login.Limits) { l.DataDigest = []string{"MD5"} },
		"TaskReporting":                  func(l *login.Limits) { l.TaskReporting = []string{""} },
	} {
		l := login.DefaultLimits()
		change(&l)
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

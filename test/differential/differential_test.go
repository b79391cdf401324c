package differential

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
)

const (
	differences = "testdata/differences.txt"
	seed        = 20261122
	count       = 5000
)

// TestDifferential: what iserd answers to 5,000 CDBs is what LIO and tgt answer,
// or testdata/differences.txt says why not.
func TestDifferential(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, "tgtd", "tgtadm")
	rules := readRules(t)
	ours, others := startPeers(t)
	cases, err := generate(seed, ours.supported(t), count)
	if err != nil {
		t.Fatal(err)
	}

	all := append([]*peer{ours}, others...)
	got := make([][]outcome, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			begin := time.Now()
			got[i], err = answers(t, p, cases)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%s: %d answers in %v", p.name, len(got[i]), time.Since(begin).Round(time.Millisecond))
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, p := range others {
		compare(t, p.name, cases, got[0], got[i+1], rules)
	}
	for _, r := range rules {
		if r.hits == 0 {
			t.Errorf("%s: nothing differs like this (any more): %s", differences, r)
		}
	}
}

// answers performs all cases on one target.
func answers(t *testing.T, p *peer, cases []testCase) ([]outcome, error) {
	got := make([]outcome, len(cases))
	for i := range cases {
		var err error
		if got[i], err = p.run(t.Context(), &cases[i]); err != nil {
			return got, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return got, nil
}

// rule is a line of the file: which differences it explains, and why they are.
type rule struct {
	peer, command, kind, ours, theirs, reason string
	hits                                      int
}

func (r *rule) String() string {
	return strings.Join([]string{r.peer, r.command, r.kind, r.ours, r.theirs, r.reason}, " | ")
}

func (r *rule) matches(peer string, c *testCase, ours, theirs string) bool {
	return r.peer == peer && among(r.command, c.command) && among(r.kind, c.kind) &&
		among(r.ours, ours) && among(r.theirs, theirs)
}

// among reports whether one of the patterns, divided by commas, matches s. A
// pattern may have a *, for any text.
func among(patterns, s string) bool {
	for p := range strings.SplitSeq(patterns, ", ") {
		head, tail, star := strings.Cut(p, "*")
		if p == s || star && len(s) >= len(head)+len(tail) && strings.HasPrefix(s, head) && strings.HasSuffix(s, tail) {
			return true
		}
	}
	return false
}

// compare fails the test for each group of differences that no rule explains.
func compare(t *testing.T, peer string, cases []testCase, ours, theirs []outcome, rules []*rule) {
	t.Helper()
	groups := map[string][]int{}
	differ := 0
	for i := range cases {
		a, b := ours[i], theirs[i]
		if a == b {
			continue
		}
		differ++
		as, bs := a.status, b.status
		if as == bs { // a residual is compared where the status is the same
			as, bs = as+" "+a.kind(), bs+" "+b.kind()
		}
		j := slices.IndexFunc(rules, func(r *rule) bool { return r.matches(peer, &cases[i], as, bs) })
		if j >= 0 {
			rules[j].hits++
			continue
		}
		key := strings.Join([]string{peer, cases[i].command, cases[i].kind, as, bs}, " | ")
		groups[key] = append(groups[key], i)
	}
	t.Logf("%s: %d of %d answers differ from ours", peer, differ, len(cases))
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		i := groups[key][0]
		c := &cases[i]
		t.Errorf("%s |  [%d, such as % X with %d bytes out, %d in: residuals %d and %d]", key, len(groups[key]),
			c.cdb, len(c.out), c.in, ours[i].residual, theirs[i].residual)
	}
}

// readRules reads the file: comments, and lines of peer, command, kind, our
// outcome, theirs and the reason, divided by " | ".
func readRules(t *testing.T) []*rule {
	t.Helper()
	f, err := os.Open(differences)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var rules []*rule
	s := bufio.NewScanner(f)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		p := strings.Split(line, "|")
		for i := range p {
			p[i] = strings.TrimSpace(p[i])
		}
		if len(p) != 6 || p[5] == "" {
			t.Fatalf("%s: %q is not PEER | COMMAND | KIND | OURS | THEIRS | REASON", differences, line)
		}
		rules = append(rules, &rule{peer: p[0], command: p[1], kind: p[2], ours: p[3], theirs: p[4], reason: p[5]})
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return rules
}

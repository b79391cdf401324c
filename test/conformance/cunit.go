package conformance

import (
	"regexp"
	"slices"
	"strings"
)

// Outcome of one test of a suite.
type Outcome string

// The outcomes. CUnit counts a test that printed [SKIPPED] as passed; here it
// is skipped.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
	NoEnd   Outcome = "no-end" // crashed, hung, or never run
)

// Among reports whether o is one of the alternatives: passed|skipped.
func (o Outcome) Among(alternatives Outcome) bool {
	return slices.Contains(strings.Split(string(alternatives), "|"), string(o))
}

// Result of one test, named SUITE.TEST.
type Result struct {
	Name    string
	Outcome Outcome
	Text    string // what the test printed, up to its outcome
}

var (
	suiteLine = regexp.MustCompile(`^Suite: (\S+)`)
	testLine  = regexp.MustCompile(`^  Test: (\S+) \.\.\.(.*)`)
	// CUnit writes the outcome after the dots or, when the test printed
	// something, at the beginning of a line. What tests print begins with
	// blanks and a word in brackets.
	outcome = regexp.MustCompile(`^(passed|FAILED)`)
)

// ParseCUnit reads what `iscsi-test-cu -v` prints. A test without an outcome
// comes with NoEnd.
func ParseCUnit(out string) []Result {
	var results []Result
	var suite string
	var cur *Result
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if m := suiteLine.FindStringSubmatch(line); m != nil {
			suite, cur = m[1], nil
			continue
		}
		if m := testLine.FindStringSubmatch(line); m != nil {
			results = append(results, Result{Name: suite + "." + m[1], Outcome: NoEnd})
			cur = &results[len(results)-1]
			line = m[2]
		}
		if cur == nil {
			continue
		}
		switch m := outcome.FindString(line); {
		case m == "passed" && strings.Contains(cur.Text, "[SKIPPED]"):
			cur.Outcome, cur = Skipped, nil
		case m == "passed":
			cur.Outcome, cur = Passed, nil
		case m == "FAILED":
			cur.Outcome = Failed // the assertions follow
		case strings.HasPrefix(line, "Run Summary"):
			cur = nil
		case strings.TrimSpace(line) != "":
			cur.Text += line + "\n"
		}
	}
	return results
}

package conformance

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/chopproxy"
	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

const (
	suite    = "iscsi-test-cu"
	expected = "testdata/libiscsi.txt"
	// What one test, and the whole suite in one process, may take at most. A
	// test takes 0.2 s.
	oneLimit = 20 * time.Second
	allLimit = 5 * time.Minute
	// Sanitize.Reset looks once a minute whether the unit is ready again.
	slowLimit = 4 * time.Minute
)

var update = flag.Bool("update", false, "write "+expected+" anew, keeping the reasons of unchanged lines")

// row is the outcome of one test: by itself, and in one process with all the
// others, where what an earlier test leaves behind can fail it.
type row struct {
	alone, together Outcome
}

// libiscsi's conformance suite, each test by itself and all in one process.
// Every outcome other than passed must be in testdata/libiscsi.txt with its
// reason, and nothing else may be there.
func TestLibiscsiSuite(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, suite)
	names := suiteTests(t)
	rows := make(map[string]row, len(names))

	d := startTarget(t)
	// It sleeps most of the time, so the others need not wait for it. It has a
	// target of its own since it resets that, and one that does not want to hear
	// from an initiator that sleeps.
	sd := target.Start(t, target.Config{
		Limits: "limits { nop_interval = \"1h\" }\n",
		LUNs:   []target.LUN{{Size: 32 << 20, Thin: true, HCL: `    filter "delay" { write = "300ms" }`}},
	})
	slow := make(chan Result, 1)
	go func() { slow <- runAlone(sd, slowTest, 0, slowLimit) }()
	long := make(map[string]Outcome)
	for _, name := range names {
		if name == slowTest {
			continue
		}
		r := runAlone(d, name, unitFor(name), oneLimit)
		rows[name] = row{alone: r.Outcome, together: NoEnd}
		note(t, "alone", r)
		if unitFor(name) == thinUnit {
			r := runAlone(d, name, longUnit, oneLimit)
			long[name] = r.Outcome
			note(t, "on 4096 byte blocks", r)
		}
	}
	r := <-slow
	rows[slowTest] = row{alone: r.Outcome, together: NoEnd}
	note(t, "alone", r)

	for name, o := range runTogether(t, "together", startTarget(t).URL(thinUnit)) {
		rows[name] = row{alone: rows[name].alone, together: o}
	}

	t.Log(table(names, rows))
	if os.Getenv("ISERD_TEST_TARGET") == "tgt" {
		return // another daemon's outcome is for comparison by eye
	}
	compare(t, names, rows)
	for name, o := range long {
		if want := rows[name].alone; o != want {
			t.Errorf("%s: %s on blocks of 4096 bytes, %s on blocks of 512", name, o, want)
		}
	}
}

// The suite in one process, through a proxy that cuts the stream into segments
// at random: every test has the outcome that it has without.
func TestLibiscsiSuiteChopped(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, suite)
	d := startTarget(t)
	p, err := chopproxy.New(chopproxy.Config{Target: d.Portal(), MaxSegment: 9000, Seed: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	got := runTogether(t, "chopped", fmt.Sprintf("iscsi://%s/%s/%d", p.Addr(), target.IQN, d.LUN(thinUnit)))
	want, _ := readExpected(t)
	names := suiteTests(t)
	for _, name := range names {
		w, listed := want[name]
		if !listed {
			w.row = row{Passed, Passed}
		}
		if o, ran := got[name]; !ran || !o.Among(w.together) {
			t.Errorf("%s: %s, want %s", name, o, w.together)
		}
	}
	t.Logf("%d tests", len(names))
}

// runTogether runs all tests in one process and returns their outcomes.
func runTogether(t *testing.T, mode, url string) map[string]Outcome {
	t.Helper()
	out, err := runSuite(url, "", allLimit)
	if err != nil {
		t.Logf("suite in one process: %v", err)
	}
	outcomes := make(map[string]Outcome)
	for _, r := range ParseCUnit(out) {
		outcomes[r.Name] = r.Outcome
		note(t, mode, r)
	}
	return outcomes
}

// runAlone runs one test in a process of its own.
func runAlone(d *target.Daemon, name string, unit int, limit time.Duration) Result {
	r := Result{Name: name, Outcome: NoEnd}
	out, err := runSuite(d.URL(unit), name, limit)
	if results := ParseCUnit(out); len(results) == 1 {
		r = results[0] // even if the process crashed later
	}
	if r.Outcome == NoEnd {
		r.Text = fmt.Sprintf("%v\n%s", err, out)
	}
	return r
}

// note logs what a test that did not pass printed.
func note(t *testing.T, mode string, r Result) {
	t.Helper()
	if r.Outcome == Failed || r.Outcome == NoEnd {
		text := r.Text
		if len(text) > 1500 {
			text = text[:1500] + "...\n"
		}
		t.Logf("%s, %s: %s\n%s", r.Name, mode, r.Outcome, text)
	}
}

// The units that the suite needs.
const (
	thinUnit      = iota // for nearly everything
	protectedUnit        // write protected
	removableUnit
	fileUnit // with several logical blocks in a physical one
	longUnit // with blocks of 4096 bytes
)

func startTarget(t *testing.T) *target.Daemon {
	t.Helper()
	return target.Start(t, target.Config{LUNs: []target.LUN{
		thinUnit:      {Size: 128 << 20, Thin: true},
		protectedUnit: {Size: 128 << 20, Thin: true, ReadOnly: true},
		removableUnit: {Size: 128 << 20, Thin: true, Removable: true},
		fileUnit:      {Size: 128 << 20, Thin: true, Path: filepath.Join(t.TempDir(), "disk")},
		longUnit:      {Size: 128 << 20, Thin: true, BlockSize: 4096},
	}})
}

// slowTest wants an operation to be under way while it resets the unit.
const slowTest = "Sanitize.Reset"

// unitFor is the unit on which a test has something to test.
func unitFor(name string) int {
	suite, test, _ := strings.Cut(name, ".")
	switch {
	case suite == "ReadOnly":
		return protectedUnit
	case suite == "PreventAllow", suite == "StartStopUnit", suite == "NoMedia":
		return removableUnit
	case test == "InvalidDataOutSize", test == "UnmapUnaligned":
		return fileUnit
	default:
		return thinUnit
	}
}

// suiteTests lists the leaves SUITE.TEST of the suite. A test is in two or
// three families; all are in the family ALL.
func suiteTests(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command(suite, "--list").Output()
	if err != nil {
		t.Fatalf("%s --list: %v", suite, err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "ALL.")
		if ok && strings.Contains(name, ".") {
			names = append(names, name)
		}
	}
	if len(names) < 200 {
		t.Fatalf("%s lists %d tests, want at least 200", suite, len(names))
	}
	return names
}

// runSuite runs one test, or all of them for an empty name. The suite's exit
// status says nothing: only a signal or the end of the time is an error.
func runSuite(url, name string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	test := "ALL"
	if name != "" {
		test += "." + name
	}
	// The second URL is the second path for the suite MultipathIO.
	cmd := exec.CommandContext(ctx, suite, "-d", "-S", "-v", "-t", test, url, url)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	return string(out), err
}

// table has a line for each test, and the sums.
func table(names []string, rows map[string]row) string {
	var b strings.Builder
	alone, together := map[Outcome]int{}, map[Outcome]int{}
	fmt.Fprintf(&b, "%-45s %-8s %s\n", "TEST", "ALONE", "TOGETHER")
	for _, name := range names {
		r := rows[name]
		alone[r.alone]++
		together[r.together]++
		fmt.Fprintf(&b, "%-45s %-8s %s\n", name, r.alone, r.together)
	}
	fmt.Fprintf(&b, "\n%-10s %8s %8s\n", "", "alone", "together")
	for _, o := range []Outcome{Passed, Failed, Skipped, NoEnd} {
		fmt.Fprintf(&b, "%-10s %8d %8d\n", o, alone[o], together[o])
	}
	fmt.Fprintf(&b, "%-10s %8d %8d\n", "all", len(names), len(names))
	return b.String()
}

// expectation is one line of the expected file: the outcomes and why.
// An outcome that depends on timing is written as alternatives, passed|skipped.
type expectation struct {
	row
	why string
}

func (e expectation) allows(got row) bool {
	return got.alone.Among(e.alone) && got.together.Among(e.together)
}

func compare(t *testing.T, names []string, rows map[string]row) {
	t.Helper()
	want, head := readExpected(t)
	if *update {
		writeExpected(t, names, rows, want, head)
		return
	}
	for _, name := range names {
		w, listed := want[name]
		if !listed {
			w.row = row{Passed, Passed}
		}
		if got := rows[name]; !w.allows(got) {
			t.Errorf("%s: alone %s, together %s; want %s and %s", name, got.alone, got.together, w.alone, w.together)
		}
		if listed && w.why == "" {
			t.Errorf("%s: %s gives no reason", name, expected)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s: in %s, but not in the suite", name, expected)
	}
}

// readExpected reads the expected file: comments, which it returns too, and
// lines of a test's name, its two outcomes and the reason.
func readExpected(t *testing.T) (want map[string]expectation, head string) {
	t.Helper()
	f, err := os.Open(expected)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	want = map[string]expectation{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if strings.HasPrefix(line, "#") {
			head += line + "\n"
			continue
		}
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 3 {
			t.Fatalf("%s: %q is not NAME ALONE TOGETHER REASON", expected, line)
		}
		want[fields[0]] = expectation{
			row: row{Outcome(fields[1]), Outcome(fields[2])},
			why: strings.Join(fields[3:], " "),
		}
	}
	return want, head
}

func writeExpected(t *testing.T, names []string, rows map[string]row, old map[string]expectation, head string) {
	t.Helper()
	b := strings.Builder{}
	b.WriteString(head)
	for _, name := range names {
		r, why := rows[name], ""
		if w, listed := old[name]; listed && w.allows(r) {
			r, why = w.row, w.why // another outcome has another reason
		}
		if r == (row{Passed, Passed}) {
			continue
		}
		fmt.Fprintf(&b, "%-40s %-8s %-8s %s\n", name, r.alone, r.together, why)
	}
	if err := os.WriteFile(expected, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

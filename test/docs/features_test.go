package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// rows is the number of features that are compared.
const rows = 223

var testName = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")

// TestFeatures: docs/features.md has every row, each is yes, partly or no, a yes
// names tests that exist, and what is not a yes says why.
func TestFeatures(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs/features.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	column := 0 // of "iserd" in the table
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == "Feature" || cells[0] == "Opcode" || cells[0] == "UA / behaviour" {
			column = len(cells) - 8
			continue
		}
		if len(cells) != column+8 {
			t.Errorf("%q has %d columns, want %d", line, len(cells), column+8)
			continue
		}
		status, why := cells[column], cells[column+1]
		n[status]++
		tests := testName.FindAllStringSubmatch(why, -1)
		reason := strings.Trim(testName.ReplaceAllString(why, ""), ",; ")
		switch {
		case status == "yes" && len(tests) == 0, status == "partly" && (len(tests) == 0 || reason == ""), status == "no" && reason == "":
			t.Errorf("%s: %s by %q: a yes names its test, a no its reason, what is in part both", cells[0], status, why)
		}
		for _, m := range tests {
			if !exists(t, m[1], m[2]) {
				t.Errorf("%s: there is no %s in %s", cells[0], m[2], m[1])
			}
		}
	}
	if got := n["yes"] + n["partly"] + n["no"]; got != rows || len(n) > 3 {
		t.Errorf("%d rows of yes, partly and no, want %d: %v", got, rows, n)
	}
	t.Log(n)
}

// exists reports whether a package has a test.
func exists(t *testing.T, pkg, test string) bool {
	t.Helper()
	if pkg == "iserd" {
		pkg = "."
	}
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}

package ffp_test

import (
	"os"
	"strings"
	"testing"
)

// TestIndex: docs/conformance.md names every number, with its title.
func TestIndex(t *testing.T) {
	doc, err := os.ReadFile("../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, plan := range map[string][]test{"TestLogin": loginPlan, "TestFullFeaturePhase": fullFeaturePlan, "TestCHAP": chapPlan} {
		seen := map[string]bool{}
		for _, tt := range plan {
			if seen[tt.number] {
				t.Errorf("%s has %s twice", name, tt.number)
			}
			seen[tt.number] = true
			if row := "| " + tt.number + " | " + tt.title + " | `" + name + "` |"; !strings.Contains(string(doc), row) {
				t.Errorf("docs/conformance.md lacks: %s", row)
			}
		}
	}
}

package conformance

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What iscsi-test-cu 1.19 prints for a pass, a skip, a failure with messages, a
// message of the suite's end behind a pass, and a crash.
func TestParseCUnit(t *testing.T) {
	const out = `
     CUnit - A unit testing framework for C - Version 2.1-3

Suite: Read10
  Test: Simple ...passed
  Test: Async ...    [SKIPPED] READ10 is slow
    [SKIPPED] again
passed
Suite: OrWrite
  Test: Simple ...    [FAILED] ORWRITE command failed with status 2
FAILED
    1. test_orwrite_simple.c:54  - CU_ASSERT_EQUAL(_r,0)
  Test: Verify ...passed    [FAILED] PRIN command: failed with sense.
Suite: Unmap
  Test: Simple ...FAILED
    1. test_unmap_simple.c:1  - CU_ASSERT_EQUAL(ret,0)

Run Summary:    Type  Total    Ran Passed Failed Inactive
Suite: iSCSITMF
  Test: AbortTaskSimpleAsync ...Segmentation fault
`
	want := []Result{
		{Name: "Read10.Simple", Outcome: Passed},
		{Name: "Read10.Async", Outcome: Skipped, Text: "    [SKIPPED] READ10 is slow\n    [SKIPPED] again\n"},
		{Name: "OrWrite.Simple", Outcome: Failed, Text: "    [FAILED] ORWRITE command failed with status 2\n    1. test_orwrite_simple.c:54  - CU_ASSERT_EQUAL(_r,0)\n"},
		{Name: "OrWrite.Verify", Outcome: Passed},
		{Name: "Unmap.Simple", Outcome: Failed, Text: "    1. test_unmap_simple.c:1  - CU_ASSERT_EQUAL(ret,0)\n"},
		{Name: "iSCSITMF.AbortTaskSimpleAsync", Outcome: NoEnd, Text: "Segmentation fault\n"},
	}
	if diff := cmp.Diff(want, ParseCUnit(out)); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

package pdu_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/iserd/iserd/pdu"
)

// TestStrings walks all values of each enumeration: those in known have a name
// of their own, all others print their number.
func TestStrings(t *testing.T) {
	tests := []struct {
		name  string
		known []int
		limit int
		str   func(int) string
	}{
		{"TaskAttr", []int{0, 1, 2, 3, 4}, 256, func(i int) string { return pdu.TaskAttr(i).String() }},
		{"Response", []int{0, 1}, 256, func(i int) string { return pdu.Response(i).String() }},
		{"TMFunction", []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 256, func(i int) string { return pdu.TMFunction(i).String() }},
		{"TMResponse", []int{0, 1, 2, 3, 4, 5, 6, 7, 255}, 256, func(i int) string { return pdu.TMResponse(i).String() }},
		{"AsyncEvent", []int{0, 1, 2, 3, 4, 5, 255}, 256, func(i int) string { return pdu.AsyncEvent(i).String() }},
		{"Stage", []int{0, 1, 3}, 256, func(i int) string { return pdu.Stage(i).String() }},
		{"LoginStatus", []int{
			0x000, 0x101, 0x102, 0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b,
			0x300, 0x301, 0x302,
		}, 65536, func(i int) string { return pdu.LoginStatus(i).String() }},
		{"LoginStatusClass", []int{0, 1, 2, 3}, 256, func(i int) string { return pdu.LoginStatusClass(i).String() }},
		{"LogoutReason", []int{0, 1, 2}, 256, func(i int) string { return pdu.LogoutReason(i).String() }},
		{"LogoutResponseCode", []int{0, 1, 2, 3}, 256, func(i int) string { return pdu.LogoutResponseCode(i).String() }},
		{"SNACKType", []int{0, 1, 2, 3}, 256, func(i int) string { return pdu.SNACKType(i).String() }},
		{"RejectReason", []int{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 256, func(i int) string { return pdu.RejectReason(i).String() }},
		{"AHSType", []int{1, 2}, 256, func(i int) string { return pdu.AHSType(i).String() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known := make(map[int]bool)
			for _, i := range tt.known {
				known[i] = true
			}
			seen := make(map[string]int)
			for i := range tt.limit {
				s := tt.str(i)
				if j, ok := seen[s]; ok {
					t.Errorf("%d and %d are both %q", j, i, s)
				}
				seen[s] = i
				if strings.HasPrefix(s, tt.name+"(") == known[i] {
					t.Errorf("String() of %d is %q", i, s)
				}
			}
		})
	}
}

func TestLoginStatusParts(t *testing.T) {
	s := pdu.LoginSessionDoesNotExist
	if s.Class() != pdu.ClassInitiatorError || s.Detail() != 0x0a {
		t.Errorf("class %s, detail %#02x", s.Class(), s.Detail())
	}
}

func TestTraceStrings(t *testing.T) {
	var h pdu.BHS
	c := pdu.SCSICommand{Final: true, InitiatorTaskTag: 0x1f, AHSLen: 8, DataLen: 512}
	c.Encode(&h)
	got := fmt.Sprint(&h, " ", pdu.ISID{0, 2, 0x3d, 4, 5, 6})
	if want := "SCSI Command I=false F=true ITT=0x0000001f AHS=8 data=512 00023d040506"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

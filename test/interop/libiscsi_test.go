package interop_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

// libiscsi's iscsi-ls discovers the target and lists its logical units,
// iscsi-inq identifies one of them.
func TestLibiscsiTools(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, "iscsi-ls", "iscsi-inq")
	d := target.Start(t, target.Config{LUNs: []target.LUN{{Size: gib}, {Size: 64 * mib}}})

	t.Run("iscsi-ls", func(t *testing.T) {
		out := run(t, "iscsi-ls", "-s", "iscsi://"+d.Portal())
		want := fmt.Sprintf(`Target:%s Portal:%s,1\n`, regexp.QuoteMeta(target.IQN), regexp.QuoteMeta(d.Portal()))
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("does not match %q:\n%s", want, out)
		}
		for i, size := range []string{"1023M|1024M|1G", "63M|64M"} { // libiscsi 1.19 counts one block less
			want := fmt.Sprintf(`(?i)Lun:%d +Type:DIRECT_ACCESS \(Size:(%s)`, d.LUN(i), size)
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("does not match %q:\n%s", want, out)
			}
		}
	})
	t.Run("standard INQUIRY", func(t *testing.T) {
		out := run(t, "iscsi-inq", d.URL(0))
		for _, want := range []string{`Peripheral Device Type:DIRECT_ACCESS`, `Vendor:\S`, `Product:\S`} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("does not match %q:\n%s", want, out)
			}
		}
	})
	for page, want := range map[string]string{
		"0":   "SUPPORTED",
		"131": "DEVICE_IDENTIFICATION",
		"176": "(?i)maximum transfer length|BLOCK_LIMITS",
	} {
		t.Run("VPD page "+page, func(t *testing.T) {
			out := run(t, "iscsi-inq", "-e", "1", "-c", page, d.URL(0))
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("does not match %q:\n%s", want, out)
			}
		})
	}
}

// CHAP through libiscsi: the right secret enters; a wrong one, a wrong name and
// none at all do not.
func TestLibiscsiCHAP(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, "iscsi-inq")
	const user, secret = "alice", "wonderland-2026"
	d := target.Start(t, target.Config{LUNs: []target.LUN{{Size: 64 * mib}}, User: user, Secret: secret})

	for _, tt := range []struct {
		name, credentials string
		ok                bool
	}{
		{"right secret", user + "%" + secret + "@", true},
		{"wrong secret", user + "%" + secret + "x@", false},
		{"wrong user", "mallory%" + secret + "@", false},
		{"none", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := strings.Replace(d.URL(0), "iscsi://", "iscsi://"+tt.credentials, 1)
			out, err := exec.Command("timeout", "20", "iscsi-inq", url).CombinedOutput()
			if got := err == nil && strings.Contains(string(out), "DIRECT_ACCESS"); got != tt.ok {
				t.Errorf("identified: %t, want %t (%v)\n%s", got, tt.ok, err, out)
			}
		})
	}
}

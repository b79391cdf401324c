package interop_test

import (
	_ "embed"
	"testing"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

//go:embed guest/sg3.sh
var sg3Script string

// sg3_utils on the kernel's disks: every tool that asks a disk for something
// gets what it should, down to the exit status.
func TestSG3Utils(t *testing.T) {
	lab.Gate(t)
	n := lab.NewNet(t)
	d := target.Start(t, target.Config{Net: n, StateDir: true, LUNs: []target.LUN{
		{Size: 64 * mib, Thin: true, HCL: "    alua {\n      explicit = true\n      group \"test\" {}\n    }"},
		{Size: 64 * mib, Thin: true},
	}})
	lab.Boot(t, n, lab.Guest{Script: sg3Script, Env: guestEnv(d, nil)})
}

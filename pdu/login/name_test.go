package login_test

import (
	"strings"
	"testing"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// TestInitiatorNames: names of the three types are admitted, the names that known
// initiators make among them; others are refused.
func TestInitiatorNames(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"iqn.1993-08.org.debian:01:abcdef012345", true},                    // open-iscsi
		{"iqn.1991-05.com.microsoft:host.example.com", true},                // Windows
		{"iqn.1998-01.com.vmware:esx01-1a2b3c4d", true},                     // ESXi
		{"iqn.2008-11.org.linux-kvm:8d3e2f4a", true},                        // QEMU
		{"iqn.2008-11.org.linux-kvm", true},                                 // QEMU without a name
		{"iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-inq", true},        // libiscsi
		{"iqn.1994-05.com.redhat:4f5e6d", true},                             // open-iscsi of Red Hat
		{"iqn.2010-04.org.ipxe:00112233-4455-6677-8899-aabbccddeeff", true}, // iPXE
		{"iqn.2000-04.com.qlogic:qle8242.00c0dd", true},
		{"IQN.1991-05.com.microsoft:HOST", true}, // not normalised
		{"eui.02004567A425678D", true},
		{"naa.52004567BA64678D", true},
		{"naa.62004567BA64678D0123456789ABCDEF", true},
		{"iqn.2026-11.com.example:größe", true},
		{"iqn.2026-11.com.example:" + strings.Repeat("x", 199), true},
		{"iqn.2026-11.com.example:" + strings.Repeat("x", 200), false},
		{"x", false},
		{"iqn.", false},
		{"iqn.example", false},
		{"iqn.2026-13.com.example", false},
		{"iqn.2026-11.", false},
		{"iqn2026-11.com.example", false},
		{"eui.02004567A425678", false},
		{"eui.02004567A425678G", false},
		{"naa.52004567BA64678D0", false},
		{"iqn.2026-11.com.example:a b", false},
		{"iqn.2026-11.com.example:a\tb", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := open("none")
			r := p.send(opToFFP, "InitiatorName="+tt.name, "TargetName="+targetName)
			if tt.ok {
				want(t, r, login.Admit, pdu.LoginSuccess)
			} else {
				want(t, r, login.Failed, pdu.LoginInitiatorError)
			}
		})
	}
}

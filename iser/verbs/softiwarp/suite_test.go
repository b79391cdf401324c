package softiwarp

import (
	"net/netip"
	"testing"

	"github.com/iserd/iserd/iser/verbs/verbstest"
)

// TestSuite runs the acceptance suite of package verbs.
func TestSuite(t *testing.T) {
	for name, cfg := range configs {
		if cfg.Revision1 {
			continue // tells no depths, which the suite asserts
		}
		if testing.Short() && name != "plain" && name != "crc" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := New(cfg)
			verbstest.Run(t, verbstest.Config{Provider: p, Target: netip.MustParseAddr("127.0.0.1")})
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("ipv6", func(t *testing.T) {
		p := New(Config{})
		verbstest.Run(t, verbstest.Config{Provider: p, Target: netip.IPv6Loopback(), Initiator: netip.IPv6Loopback()})
	})
}

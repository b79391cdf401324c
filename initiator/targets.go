package initiator

import (
	"fmt"
	"strings"

	"github.com/iserd/iserd/pdu/text"
)

// ParseTargets reads the pairs of a SendTargets answer: each TargetName is
// followed by its TargetAddress values (RFC 7143 appendix C).
func ParseTargets(pairs []text.Pair) ([]Target, error) {
	var targets []Target
	for _, p := range pairs {
		switch p.Key {
		case "TargetName":
			targets = append(targets, Target{Name: p.Value})
		case "TargetAddress":
			if len(targets) == 0 {
				return nil, fmt.Errorf("initiator: SendTargets: TargetAddress before any TargetName")
			}
			var a TargetAddress
			a.Address, a.PortalGroupTag, _ = strings.Cut(p.Value, ",")
			t := &targets[len(targets)-1]
			t.Addresses = append(t.Addresses, a)
		case "SendTargets": // "Reject" and the like
			return nil, fmt.Errorf("initiator: SendTargets=%s", p.Value)
		default:
		}
	}
	return targets, nil
}

package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
)

// later returns the arguments and blocks of a place that are known, and that
// this version does not implement: they are refused by name, so that nobody
// believes them to be in force.
func later(place string) (attrs []string, blocks []hcl.BlockHeaderSchema) {
	named := func(types ...string) (out []hcl.BlockHeaderSchema) {
		for _, t := range types {
			out = append(out, hcl.BlockHeaderSchema{Type: t})
		}
		return out
	}
	switch place {
	case "":
		return nil, append(named("isns"), hcl.BlockHeaderSchema{Type: "cluster", LabelNames: []string{"kind"}})
	case "node":
		return []string{"user"}, nil
	case "limits":
		return []string{"commands_per_lun"}, nil
	case "portal":
		return []string{"device"}, nil
	case "session":
		return []string{"data_pdu_in_order", "data_sequence_in_order", "task_reporting"}, nil
	case "lun":
		return []string{"shared"}, nil
	default:
		return nil, nil
	}
}

// laterValue reports whether value of the argument or label at place is known
// and not implemented in this version.
func laterValue(place, value string) bool {
	switch place {
	case "backend":
		return value == "rbd" || value == "nbd" || value == "s3" || value == "qcow2"
	case "filter":
		return value == "ratelimit" || value == "readonly" || value == "log"
	case "log.output":
		return value == "syslog"
	default:
		return false
	}
}

// laterMax returns the greatest value that the standard knows for a numeric
// argument whose range in this version is smaller.
func laterMax(place string) int64 {
	switch place {
	case "session.max_connections":
		return 65535
	case "session.error_recovery_level":
		return 2
	default:
		return 0
	}
}

// notSupported refuses something that a later version may implement.
func notSupported(what string, at hcl.Range) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  "Not supported in this version",
		Detail:   fmt.Sprintf("This version of iserd does not implement %s.", what),
		Subject:  &at,
	}
}

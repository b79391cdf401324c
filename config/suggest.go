package config

import (
	"fmt"

	"github.com/agext/levenshtein"
)

// didYouMean returns " Did you mean …?" for the first name close to given, or
// nothing. The threshold is that of the HCL parser's own suggestions.
func didYouMean(given string, names []string) string {
	for _, n := range names {
		if n != "" && levenshtein.Distance(given, n, nil) < 3 {
			return fmt.Sprintf(" Did you mean %q?", n)
		}
	}
	return ""
}

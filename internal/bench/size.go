package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sizeValue is a flag value in bytes with the suffixes K, M, G, T (powers of
// 1024; "KiB" and the like are taken as well). It implements pflag.Value.
type sizeValue int64

// Set implements pflag.Value.
func (v *sizeValue) Set(s string) error {
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	*v = sizeValue(n)
	return nil
}

// String implements pflag.Value.
func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return sizeString(int64(*v))
}

// Type implements pflag.Value.
func (v *sizeValue) Type() string { return "size" }

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTiBkmgtb")
	suffix := strings.ToLower(s[len(digits):])
	suffix = strings.TrimSuffix(strings.TrimSuffix(suffix, "b"), "i")
	shift, ok := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[suffix]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("size %q, want a number with K, M, G or T", s)
	}
	return n << shift, nil
}

func sizeString(n int64) string {
	for _, u := range []struct {
		shift uint
		name  string
	}{{40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n >= 1<<u.shift && n&(1<<u.shift-1) == 0 {
			return fmt.Sprintf("%d %s", n>>u.shift, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

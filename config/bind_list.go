package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// maxLUN is the greatest LUN that a target may have.
const maxLUN = 16383 // flat space addressing, SAM-5 4.7.7.3

// texts returns the elements of a list of strings.
func texts(v cty.Value, f field) ([]string, *problem) {
	wrong := problemf("Invalid list", "The argument %q is a list of strings: [\"…\", \"…\"].", f.name)
	if t := v.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		return nil, wrong
	}
	out := []string{}
	for _, e := range v.AsValueSlice() {
		c, err := convert.Convert(e, cty.String)
		if err != nil || c.IsNull() {
			return nil, wrong
		}
		if slices.Contains(out, c.AsString()) {
			return nil, problemf("Duplicate element", "The list %q names %q twice.", f.name, c.AsString())
		}
		out = append(out, c.AsString())
	}
	return out, nil
}

func storeStrings(v cty.Value, f field, dst *[]string) *problem {
	list, p := texts(v, f)
	if p != nil {
		return p
	}
	for _, s := range list {
		if p := checkOneOf(f, s); p != nil {
			return p
		}
		if p := checkKind(f, s); p != nil {
			return p
		}
	}
	if len(list) == 0 && f.tag.Get("default") != "" {
		return problemf("Empty list", "The list %q needs at least one element; leave the argument out for the default.", f.name)
	}
	*dst = list
	return nil
}

func storePrefixes(v cty.Value, f field, dst *[]netip.Prefix) *problem {
	list, p := texts(v, f)
	if p != nil {
		return p
	}
	out := []netip.Prefix{}
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			out = append(out, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		pfx, err := netip.ParsePrefix(s)
		if err != nil {
			return problemf("Invalid address", "%q is neither an address nor a network such as \"10.0.0.0/8\" or \"fd00::/8\".", s)
		}
		if pfx != pfx.Masked() {
			return problemf("Invalid network", "%q has bits set outside its mask. Did you mean %q?", s, pfx.Masked().String())
		}
		out = append(out, pfx)
	}
	*dst = out
	return nil
}

// pairs returns the elements of an object or map as strings.
func pairs(v cty.Value, f field) (map[string]string, *problem) {
	wrong := problemf("Invalid map", "The argument %q is a map of strings: { \"…\" = \"…\" }.", f.name)
	if t := v.Type(); !t.IsObjectType() && !t.IsMapType() {
		return nil, wrong
	}
	out := map[string]string{}
	for k, e := range v.AsValueMap() {
		c, err := convert.Convert(e, cty.String)
		if err != nil || c.IsNull() {
			return nil, wrong
		}
		out[k] = c.AsString()
	}
	return out, nil
}

// sortedKeys makes reports come in the same order each time.
func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func storeMap(v cty.Value, f field, dst *map[string]string) *problem {
	m, p := pairs(v, f)
	if p != nil {
		return p
	}
	for _, k := range sortedKeys(m) {
		if p := checkOneOf(f, m[k]); p != nil {
			return p
		}
	}
	*dst = m
	return nil
}

func storeLUNMap(v cty.Value, f field, dst *map[uint16]uint16) *problem {
	m, p := pairs(v, f)
	if p != nil {
		return p
	}
	out := map[uint16]uint16{}
	for _, k := range sortedKeys(m) {
		seen, p := parseLUN(k)
		if p != nil {
			return p
		}
		own, p := parseLUN(m[k])
		if p != nil {
			return p
		}
		out[seen] = own
	}
	*dst = out
	return nil
}

func storeLUNs(v cty.Value, f field, dst *[]uint16) *problem {
	list, p := texts(v, f)
	if p != nil {
		return p
	}
	out := []uint16{}
	for _, s := range list {
		n, p := parseLUN(s)
		if p != nil {
			return p
		}
		out = append(out, n)
	}
	*dst = out
	return nil
}

// parseLUN reads a LUN, a decimal number without leading zeros: two spellings of
// one number would be two keys of a map.
func parseLUN(s string) (uint16, *problem) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n > maxLUN || strconv.FormatUint(n, 10) != s {
		return 0, problemf("Invalid LUN", "A LUN is a number from 0 to %d, in quotes; this is %q.", maxLUN, s)
	}
	return uint16(n), nil
}

// checkOneOf checks s against the oneof tag.
func checkOneOf(f field, s string) *problem {
	list := f.tag.Get("oneof")
	if list == "" {
		return nil
	}
	names := strings.Split(list, "|")
	if slices.Contains(names, s) {
		return nil
	}
	if laterValue(f.path(), s) {
		return problemf("Not supported in this version", "This version of iserd does not implement %s = %q.", f.name, s)
	}
	for _, n := range names {
		if strings.EqualFold(n, s) {
			return problemf("Invalid value", "The argument %q is one of %s. Did you mean %q?", f.name, strings.Join(names, ", "), n)
		}
	}
	return problemf("Invalid value", "The argument %q is one of %s; this is %q.%s", f.name, strings.Join(names, ", "), s, didYouMean(s, names))
}

// checkLength checks n bytes against the minlen and maxlen tags.
func checkLength(f field, n int, what string) *problem {
	if lo, err := strconv.Atoi(f.tag.Get("minlen")); err == nil && n < lo {
		return problemf("Too short", "The %s has %d bytes; the least is %d.", what, n, lo)
	}
	if hi, err := strconv.Atoi(f.tag.Get("maxlen")); err == nil && n > hi {
		return problemf("Too long", "The %s has %d bytes; the most is %d.", what, n, hi)
	}
	return nil
}

// checkKind checks s against the kind tag.
func checkKind(f field, s string) *problem {
	switch f.tag.Get("kind") {
	case "path":
		if !strings.HasPrefix(s, "/") {
			return problemf("Invalid path", "The argument %q is an absolute path; this is %q.", f.name, s)
		}
	case "iscsi-name":
		if err := checkISCSIName(s); err != nil {
			return problemf("Invalid iSCSI name", "%q: %v.", s, err)
		}
	case "host-port":
		if err := checkHostPort(s); err != nil {
			return problemf("Invalid address", "The argument %q is %q: %v.", f.name, s, err)
		}
	case "ascii":
		for _, r := range s {
			if r < 0x20 || r > 0x7e {
				return problemf("Invalid characters", "The argument %q is in printable ASCII.", f.name)
			}
		}
	case "naa":
		return checkNAA(s)
	}
	return nil
}

// checkNAA checks an NAA identifier of 8 bytes.
func checkNAA(s string) *problem {
	digits, ok := strings.CutPrefix(s, "naa.")
	if ok && len(digits) == 32 && digits[0] == '6' {
		return problemf("Not supported in this version", "This version of iserd does not implement NAA 6 identifiers of 16 bytes; use naa. and 16 digits, the first of them 3.")
	}
	_, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil || len(digits) != 16 || strings.ToLower(digits) != digits || (digits[0] != '3' && digits[0] != '5') {
		return problemf("Invalid NAA identifier", "%s", fmt.Sprintf("An identifier is naa. and 16 lower-case hexadecimal digits, the first of them 3 or 5, such as \"naa.3f3a1b2c3d4e5f60\"; this is %q.", s))
	}
	return nil
}

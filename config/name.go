package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxISCSIName is the longest iSCSI name in bytes, RFC 7143 §4.2.7.2.
const maxISCSIName = 223

// checkISCSIName checks a name's form, RFC 7143 §4.2.7: iqn., eui. or naa., in
// the normal form of RFC 3722, which for ASCII is lower case.
func checkISCSIName(s string) error {
	if len(s) > maxISCSIName {
		return fmt.Errorf("the name has %d bytes, and the most is %d", len(s), maxISCSIName)
	}
	if low := strings.ToLower(s); low != s {
		return fmt.Errorf("iSCSI names are in lower case: %q", low)
	}
	for _, r := range s {
		// RFC 3722 §6.2 admits ASCII letters, digits, '-', '.' and ':' of the
		// ASCII range; other scripts' letters are admitted after
		// normalisation, which names of this configuration do not need.
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != ':' {
			return fmt.Errorf("the character %q is not allowed in iSCSI names", r)
		}
	}
	typ, rest, _ := strings.Cut(s, ".")
	switch typ {
	case "iqn":
		return checkIQN(rest)
	case "eui":
		return checkHexName(rest, 16)
	case "naa":
		if len(rest) == 32 {
			return checkHexName(rest, 32)
		}
		return checkHexName(rest, 16)
	default:
		return errors.New("iSCSI names begin with iqn., eui. or naa.") //nolint:staticcheck // the full stop is part of the prefix
	}
}

// checkIQN checks what follows "iqn.": YYYY-MM.REVERSED-DOMAIN[:UNIQUE].
func checkIQN(s string) error {
	form := errors.New("an iqn name is iqn.YYYY-MM.DOMAIN[:UNIQUE], such as \"iqn.2026-11.com.example:disk1\"")
	date, rest, ok := strings.Cut(s, ".")
	year, month, ok2 := strings.Cut(date, "-")
	if !ok || !ok2 || len(year) != 4 || len(month) != 2 {
		return form
	}
	_, err := strconv.ParseUint(year, 10, 16)
	m, err2 := strconv.ParseUint(month, 10, 8)
	if err != nil || err2 != nil || m < 1 || m > 12 {
		return form
	}
	domain, _, _ := strings.Cut(rest, ":")
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return form
		}
	}
	return nil
}

func checkHexName(s string, n int) error {
	if len(s) != n {
		return fmt.Errorf("an eui name has 16 hexadecimal digits, a naa name 16 or 32; this has %d", len(s))
	}
	for _, r := range s {
		if !strings.ContainsRune("0123456789abcdef", r) {
			return fmt.Errorf("%q is not a hexadecimal digit", r)
		}
	}
	return nil
}

package login

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxName is the longest iSCSI name in bytes, RFC 7143 §4.2.7.1.
const maxName = 223

// The three types of iSCSI names, RFC 7143 §4.2.7.3 to §4.2.7.5. Names ought to be
// in lower case when they are sent (§4.2.7.2); those that are not are let through,
// to be compared as they are.
var nameTypes = map[string]struct {
	form *regexp.Regexp // of what follows the prefix
	text string
}{
	"iqn.": {regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])\..`), "iqn.YYYY-MM.DOMAIN[:UNIQUE]"},
	"eui.": {regexp.MustCompile(`^[[:xdigit:]]{16}$`), "eui. and 16 hexadecimal digits"},
	"naa.": {regexp.MustCompile(`^([[:xdigit:]]{16}|[[:xdigit:]]{32})$`), "naa. and 16 or 32 hexadecimal digits"},
}

// checkName says what is wrong with an iSCSI name, nil if nothing is.
func checkName(s string) error {
	if len(s) > maxName {
		return fmt.Errorf("it has %d bytes, and the most is %d", len(s), maxName)
	}
	if !plain(s) {
		return errors.New("it has a space or a control character")
	}
	t, known := nameTypes[strings.ToLower(s[:min(len(s), 4)])]
	switch {
	case !known:
		return errors.New("it does not begin with iqn., eui. or naa")
	case !t.form.MatchString(s[4:]):
		return fmt.Errorf("the form is %s", t.text)
	}
	return nil
}

// plain reports whether s has no space and no control character.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

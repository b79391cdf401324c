package initiator

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// DefaultPort is the TCP port of iSCSI targets, RFC 7143 §14 (IANA "iscsi-target").
const DefaultPort = "3260"

// URL names a logical unit, a target or a portal in the form that libiscsi and
// QEMU use:
//
//	iscsi://[user[%secret]@]host[:port]/target-iqn/lun[?arguments]
//	iscsi://[user[%secret]@]host[:port]/target-iqn
//	iscsi://[user[%secret]@]host[:port]
//
// with iser for iscsi where the transport is RDMA.
//
// Known arguments are target_user and target_password (mutual CHAP),
// header_digest and data_digest (a list such as "CRC32C,None").
type URL struct {
	Address      string // host:port, the host in brackets when it is IPv6
	TargetName   string // empty: the URL names a portal (discovery)
	LUN          uint16
	HasLUN       bool
	User         string // CHAP name of the initiator; empty: no CHAP
	Secret       string
	TargetUser   string // mutual CHAP: the name the target answers with
	TargetSecret string
	HeaderDigest string
	DataDigest   string
	ISER         bool // the scheme is iser: over RDMA, by package initiator/iser
}

var errURL = errors.New("want iscsi://[user[%secret]@]host[:port][/target-iqn[/lun]]")

// ParseURL reads an iSCSI URL. Errors never contain the URL itself, which may
// hold a secret.
func ParseURL(s string) (URL, error) {
	rest, ok := strings.CutPrefix(s, "iscsi://")
	iser := false
	if !ok {
		if rest, iser = strings.CutPrefix(s, "iser://"); !iser {
			return URL{}, fmt.Errorf("initiator: URL scheme is neither iscsi nor iser: %w", errURL)
		}
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")

	u := URL{ISER: iser}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		u.User, u.Secret, _ = strings.Cut(authority[:i], "%")
		authority = authority[i+1:]
	}
	addr, err := parseAddress(authority)
	if err != nil {
		return URL{}, err
	}
	u.Address = addr
	if err := u.parsePath(path); err != nil {
		return URL{}, err
	}
	if err := u.parseQuery(query); err != nil {
		return URL{}, err
	}
	return u, nil
}

// parseAddress completes host[:port] with the default port.
func parseAddress(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("initiator: URL has no host: %w", errURL)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil { // no port, or nonsense
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), DefaultPort
		if strings.ContainsAny(host, "[]") || strings.Contains(host, ":") && !strings.HasPrefix(s, "[") {
			return "", fmt.Errorf("initiator: bad address in URL: %w", errURL)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("initiator: bad address in URL: %w", errURL)
	}
	return net.JoinHostPort(host, port), nil
}

func (u *URL) parsePath(path string) error {
	if path == "" {
		return nil
	}
	name, lun, hasLUN := strings.Cut(path, "/")
	if name == "" {
		return fmt.Errorf("initiator: URL has an empty target name: %w", errURL)
	}
	u.TargetName = name
	if !hasLUN || lun == "" {
		return nil
	}
	n, err := strconv.ParseUint(lun, 10, 14) // SAM-5 4.7.7.3: flat space addressing has 14 bits
	if err != nil {
		return fmt.Errorf("initiator: LUN in URL is not a number from 0 to 16383: %w", errURL)
	}
	u.LUN, u.HasLUN = uint16(n), true
	return nil
}

func (u *URL) parseQuery(query string) error {
	q, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("initiator: bad arguments in URL: %w", errURL)
	}
	for key := range q {
		switch v := q.Get(key); key {
		case "target_user":
			u.TargetUser = v
		case "target_password":
			u.TargetSecret = v
		case "header_digest":
			u.HeaderDigest = v
		case "data_digest":
			u.DataDigest = v
		default:
			return fmt.Errorf("initiator: unknown URL argument %q", key)
		}
	}
	return nil
}

// Options returns the login options that the URL states; everything else is
// left at its default.
func (u URL) Options() Options {
	o := Options{
		TargetName:   u.TargetName,
		HeaderDigest: u.HeaderDigest,
		DataDigest:   u.DataDigest,
		CHAP: CHAP{
			User: u.User, Secret: []byte(u.Secret),
			TargetUser: u.TargetUser, TargetSecret: []byte(u.TargetSecret),
		},
	}
	if u.TargetName == "" {
		o.SessionType = DiscoverySession
	}
	return o
}

// String returns the URL without its secrets.
func (u URL) String() string {
	var b strings.Builder
	if u.ISER {
		b.WriteString("iser://")
	} else {
		b.WriteString("iscsi://")
	}
	if u.User != "" {
		b.WriteString(u.User + "@")
	}
	b.WriteString(u.Address)
	if u.TargetName != "" {
		b.WriteString("/" + u.TargetName)
	}
	if u.HasLUN {
		b.WriteString("/" + strconv.Itoa(int(u.LUN)))
	}
	return b.String()
}

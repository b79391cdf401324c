package login

import (
	"errors"
	"fmt"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
)

// Policy decides who may log in to what. The machine asks once per login, as
// soon as the names are known and before authentication: an implementation must
// not act on a login here (end an old session, say), only answer.
//
// It is called on the goroutine that calls [Machine.Step] and must not block.
type Policy interface {
	// Authorize returns what the login may negotiate, or an error. A *Refusal
	// goes out with its status; any other error becomes "target error" (0300).
	// The machine borrows the grant until the login ends.
	Authorize(id Identity) (*Grant, error)
}

// Identity is what an initiator says of itself in its first Login Request. It
// is a claim until the login is authenticated. Names are as sent; RFC 7143
// §4.2.7.2 obliges the sender to normalize them.
type Identity struct {
	InitiatorName  string
	InitiatorAlias string
	TargetName     string // empty in a discovery session, unless the initiator names one
	Discovery      bool   // SessionType=Discovery
	ISID           pdu.ISID
	TSIH           uint16 // 0: leading login of a new session
	CID            uint16
}

// Grant is the answer of a [Policy]: how this login has to authenticate and what
// it may negotiate.
type Grant struct {
	Auth           Auth
	Limits         Limits
	PortalGroupTag uint16 // TargetPortalGroupTag, RFC 7143 §13.9
	TargetAlias    string // TargetAlias, RFC 7143 §13.6; empty: none is sent
}

// Auth says how a login authenticates, RFC 7143 §12.1.
type Auth struct {
	// Required excludes AuthMethod=None: no full feature phase without CHAP.
	Required bool
	// Algorithms is the set of CHAP algorithms allowed; empty means all that
	// package chap has. The initiator's order of preference decides.
	Algorithms []chap.Algorithm
	// Secret returns the secret of a CHAP_N user, to be matched exactly. It is
	// borrowed until Step returns. A nil Secret means that CHAP is not offered.
	Secret func(user string) (secret []byte, ok bool)
	// MutualUser and MutualSecret are what the target answers with when the
	// initiator challenges it. Without MutualSecret such a login fails.
	MutualUser   string
	MutualSecret []byte
	// MutualRequired refuses an initiator that does not challenge the target.
	MutualRequired bool
}

// Validate returns an error for an Auth that could not work or is not safe:
// required without secrets, a mutual secret under 96 bits, unknown algorithms.
func (a *Auth) Validate() error {
	var errs []error
	if (a.Required || a.MutualRequired) && a.Secret == nil {
		errs = append(errs, errors.New("login: authentication is required but there are no secrets"))
	}
	if a.MutualRequired && len(a.MutualSecret) == 0 {
		errs = append(errs, errors.New("login: mutual authentication is required but there is no secret for the target"))
	}
	if len(a.MutualSecret) != 0 {
		if err := chap.CheckSecret(a.MutualSecret); err != nil {
			errs = append(errs, fmt.Errorf("login: mutual secret: %w", err))
		}
	}
	for _, x := range a.Algorithms {
		if x.Size() == 0 {
			errs = append(errs, fmt.Errorf("login: %v is not implemented", x))
		}
	}
	return errors.Join(errs...)
}

// Refusal says why a login is refused. It is an error; the machine turns it
// into a Login Response with Status and nothing of Reason in it.
type Refusal struct {
	Status pdu.LoginStatus // RFC 7143 §11.13.5; never success
	Reason string          // for the operator's log only
	// RedirectAddress is the TargetAddress value (RFC 7143 §13.8) that goes with
	// the two redirection statuses, "host:port[,tag]".
	RedirectAddress string
}

// Error returns status and reason in one line.
func (r *Refusal) Error() string {
	return fmt.Sprintf("login: %v: %s", r.Status, r.Reason)
}

// refuse builds a Refusal.
func refuse(status pdu.LoginStatus, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Reason: fmt.Sprintf(format, args...)}
}

package login

import (
	"slices"
	"strconv"
	"strings"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/text"
)

// authState is where the SecurityNegotiation stage stands, RFC 7143 §12.1.
//
//	authOpen ──AuthMethod=None──▶ authNone
//	   └─────AuthMethod=CHAP────▶ authSelected ──CHAP_A──▶ authChallenged
//	                                                           │ CHAP_N, CHAP_R right
//	                                                           ▼
//	                                                        authDone
//
// Everything else ends the login.
type authState uint8

const (
	authOpen       authState = iota // no AuthMethod yet
	authNone                        // None negotiated; allowed only when nothing is required
	authSelected                    // CHAP negotiated, CHAP_A is awaited
	authChallenged                  // our challenge is out, CHAP_N and CHAP_R are awaited
	authDone                        // the initiator is who it says
)

// security holds what lives only during the SecurityNegotiation stage.
type security struct {
	state     authState
	challenge *chap.Challenge
	user      string
}

// securityKeys are the keys of RFC 7143 §12 in one request.
type securityKeys struct {
	value [keyCHAPR + 1]string
	has   [keyCHAPR + 1]bool
}

// chapKeys reports which CHAP keys are there.
func (k *securityKeys) chapKeys() (list []keyID) {
	for id := keyCHAPA; id <= keyCHAPR; id++ {
		if k.has[id] {
			list = append(list, id)
		}
	}
	return list
}

// satisfied reports whether the login may leave SecurityNegotiation.
func (m *Machine) satisfied() bool {
	switch m.sec.state {
	case authDone:
		return true
	case authOpen, authNone:
		return !m.grant.Auth.Required
	default:
		return false
	}
}

// authenticate advances the SecurityNegotiation stage by the security keys of
// one complete request and appends the answers.
func (m *Machine) authenticate(dst []byte, k *securityKeys, transit bool) ([]byte, *Refusal) {
	chapKeys := k.chapKeys()
	switch m.sec.state {
	case authSelected:
		return m.challengeInitiator(dst, k, chapKeys)
	case authChallenged:
		return m.verifyInitiator(dst, k, chapKeys)
	default:
	}
	if len(chapKeys) != 0 {
		return nil, refuse(pdu.LoginInitiatorError, "%s without a CHAP exchange under way", keyTable[chapKeys[0]].name)
	}
	if !k.has[keyAuthMethod] {
		if transit && !m.satisfied() {
			return nil, refuse(pdu.LoginAuthenticationFailure, "the initiator offers no AuthMethod, CHAP is required")
		}
		return dst, nil
	}
	return m.selectMethod(dst, k.value[keyAuthMethod])
}

// selectMethod answers AuthMethod: the first offered method that we support and
// allow, RFC 7143 §6.2.1. No such method ends the login with "authentication
// failure"; an answer of Reject would only have the initiator close.
func (m *Machine) selectMethod(dst []byte, offered string) ([]byte, *Refusal) {
	auth := &m.grant.Auth
	list, err := text.ParseList(offered)
	if err != nil {
		return nil, refuse(pdu.LoginAuthenticationFailure, "AuthMethod: %v", err)
	}
	for _, method := range list {
		switch {
		case method == "None" && !auth.Required:
			m.sec.state = authNone
		case method == "CHAP" && auth.Secret != nil:
			m.sec.state = authSelected
		default:
			continue
		}
		return text.Append(dst, "AuthMethod", method), nil
	}
	return nil, refuse(pdu.LoginAuthenticationFailure, "no allowed method in AuthMethod=%q", offered)
}

// challengeInitiator is step 2 of RFC 7143 §12.1.3: CHAP_A comes in, CHAP_A,
// CHAP_I and CHAP_C go out.
func (m *Machine) challengeInitiator(dst []byte, k *securityKeys, keys []keyID) ([]byte, *Refusal) {
	if !slices.Equal(keys, []keyID{keyCHAPA}) {
		return nil, refuse(pdu.LoginAuthenticationFailure, "CHAP_A alone is due, got %s", keyNames(keys))
	}
	allowed := m.grant.Auth.Algorithms
	if len(allowed) == 0 {
		allowed = chap.Algorithms()
	}
	algorithm, err := chap.Select(k.value[keyCHAPA], allowed)
	if err != nil {
		return nil, refuse(pdu.LoginAuthenticationFailure, "%v", err)
	}
	c, err := chap.NewChallenge(m.env.Rand, algorithm, chap.DefaultChallengeLen)
	if err != nil {
		return nil, refuse(pdu.LoginTargetError, "%v", err)
	}
	m.env.Outstanding.Add(c.Value)
	m.sec.challenge = c
	m.sec.state = authChallenged
	dst = text.Append(dst, "CHAP_A", chap.FormatList([]chap.Algorithm{algorithm}))
	dst = text.Append(dst, "CHAP_I", strconv.Itoa(int(c.Identifier)))
	return text.Append(dst, "CHAP_C", chap.Encode(c.Value)), nil
}

// verifyInitiator is step 4 of RFC 7143 §12.1.3: CHAP_N and CHAP_R come in, with
// CHAP_I and CHAP_C when the initiator wants to know who we are.
func (m *Machine) verifyInitiator(dst []byte, k *securityKeys, keys []keyID) ([]byte, *Refusal) {
	mutual := k.has[keyCHAPI] && k.has[keyCHAPC]
	oneWay := !k.has[keyCHAPI] && !k.has[keyCHAPC]
	if k.has[keyCHAPA] || !k.has[keyCHAPN] || !k.has[keyCHAPR] || !mutual && !oneWay {
		return nil, refuse(pdu.LoginAuthenticationFailure, "CHAP_N and CHAP_R are due, got %s", keyNames(keys))
	}
	auth, c := &m.grant.Auth, m.sec.challenge
	if oneWay && auth.MutualRequired {
		return nil, refuse(pdu.LoginAuthenticationFailure, "the initiator does not challenge the target, mutual CHAP is required")
	}
	response, err := chap.ParseResponse(k.value[keyCHAPR], c.Algorithm)
	if err != nil {
		return nil, refuse(pdu.LoginAuthenticationFailure, "%v", err)
	}
	var theirs chap.Challenge
	if mutual {
		r := m.parseChallenge(k, &theirs)
		if r != nil {
			return nil, r
		}
	}
	user := k.value[keyCHAPN]
	if len(user) > text.MaxSimpleValueLen {
		return nil, refuse(pdu.LoginAuthenticationFailure, "CHAP_N of %d bytes", len(user))
	}
	secret, known := auth.Secret(user)
	if !known {
		// Same work as for a known user: the time must not tell them apart. Any
		// bytes do, the result is thrown away.
		secret = c.Value[:16]
	}
	if right := c.Verify(secret, response); !right || !known {
		return nil, refuse(pdu.LoginAuthenticationFailure, "CHAP_N=%q: %s", user, failure(known))
	}
	if mutual && chap.CheckPair(secret, auth.MutualSecret) != nil {
		return nil, refuse(pdu.LoginAuthenticationFailure, "CHAP_N=%q has the same secret as the target", user)
	}
	m.sec.state = authDone
	m.sec.user = user
	if oneWay {
		return dst, nil
	}
	dst = text.Append(dst, "CHAP_N", auth.MutualUser)
	answer := chap.Response(c.Algorithm, theirs.Identifier, auth.MutualSecret, theirs.Value)
	return text.Append(dst, "CHAP_R", chap.Encode(answer)), nil
}

// parseChallenge reads CHAP_I and CHAP_C of the initiator and refuses a
// reflected challenge: "Responders MUST check for this condition and close the
// iSCSI TCP connection if it occurs", RFC 7143 §9.2.1. The set holds the
// challenges of all logins under way, this one among them.
func (m *Machine) parseChallenge(k *securityKeys, c *chap.Challenge) *Refusal {
	var err error
	if len(m.grant.Auth.MutualSecret) == 0 {
		return refuse(pdu.LoginAuthenticationFailure, "the initiator challenges the target, which has no secret")
	}
	if c.Identifier, err = chap.ParseIdentifier(k.value[keyCHAPI]); err != nil {
		return refuse(pdu.LoginAuthenticationFailure, "%v", err)
	}
	if c.Value, err = chap.ParseChallenge(k.value[keyCHAPC]); err != nil {
		return refuse(pdu.LoginAuthenticationFailure, "%v", err)
	}
	if m.env.Outstanding.Contains(c.Value) {
		return refuse(pdu.LoginAuthenticationFailure, "the initiator reflects a challenge of ours")
	}
	return nil
}

// failure words a failed verification for the operator.
func failure(known bool) string {
	if known {
		return "wrong response"
	}
	return "unknown user"
}

// keyNames joins the names of keys for a reason.
func keyNames(keys []keyID) string {
	if len(keys) == 0 {
		return "none"
	}
	names := make([]string, len(keys))
	for i, id := range keys {
		names[i] = keyTable[id].name
	}
	return strings.Join(names, ", ")
}

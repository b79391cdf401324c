package initiator

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/text"
)

// ErrTargetAuthentication is a target that could not prove itself in mutual CHAP.
var ErrTargetAuthentication = errors.New("initiator: target did not authenticate itself")

// security goes through the SecurityNegotiation stage, §12.
func (h *handshake) security() error {
	pairs := []text.Pair{{Key: "InitiatorName", Value: h.o.InitiatorName}}
	if h.o.InitiatorAlias != "" {
		pairs = append(pairs, text.Pair{Key: "InitiatorAlias", Value: h.o.InitiatorAlias})
	}
	if h.o.TargetName != "" {
		pairs = append(pairs, text.Pair{Key: "TargetName", Value: h.o.TargetName})
	}
	method := "None"
	if h.o.CHAP.User != "" {
		method = "CHAP,None"
	}
	if h.mutual() { // without CHAP the target would not be authenticated
		method = "CHAP"
	}
	pairs = append(pairs,
		text.Pair{Key: "SessionType", Value: h.o.SessionType.String()},
		text.Pair{Key: "AuthMethod", Value: method})
	got, err := h.exchange(pairs, pdu.LoginOperational)
	if err != nil {
		return err
	}
	switch chosen := lookup(got, "AuthMethod"); {
	case chosen == "CHAP" && h.stage == pdu.SecurityNegotiation && h.o.CHAP.User != "":
		return h.chap()
	case (chosen == "None" || chosen == "") && !h.mutual():
		return h.leaveSecurity(nil)
	default:
		return fmt.Errorf("initiator: target answers AuthMethod=%.32q to %s", chosen, method)
	}
}

func (h *handshake) mutual() bool { return len(h.o.CHAP.TargetSecret) > 0 }

// leaveSecurity asks for the operational stage until the target agrees.
func (h *handshake) leaveSecurity(pairs []text.Pair) error {
	for range maxLoginRounds {
		if h.stage == pdu.LoginOperational {
			return nil
		}
		if _, err := h.exchange(pairs, pdu.LoginOperational); err != nil {
			return err
		}
		pairs = nil
	}
	return errors.New("initiator: target does not leave the security stage")
}

// chap is the exchange of §12.1.3.
func (h *handshake) chap() error {
	algorithms := h.o.CHAP.Algorithms
	if algorithms == nil {
		algorithms = chap.Algorithms()
	}
	got, err := h.exchange([]text.Pair{{Key: "CHAP_A", Value: chap.FormatList(algorithms)}}, h.stage)
	if err != nil {
		return err
	}
	alg, id, challenge, err := parseChallenge(got)
	if err != nil {
		return err
	}
	if !slices.Contains(algorithms, alg) {
		return fmt.Errorf("initiator: target chose CHAP_A=%d, which was not offered", alg)
	}
	pairs := []text.Pair{
		{Key: "CHAP_N", Value: h.o.CHAP.User},
		{Key: "CHAP_R", Value: text.EncodeHex(chap.Response(alg, id, h.o.CHAP.Secret, challenge))},
	}
	if !h.mutual() {
		return h.leaveSecurity(pairs)
	}
	mine, err := chap.NewChallenge(rand.Reader, alg, 0)
	if err != nil {
		return fmt.Errorf("initiator: %w", err)
	}
	pairs = append(pairs,
		text.Pair{Key: "CHAP_I", Value: strconv.Itoa(int(mine.Identifier))},
		text.Pair{Key: "CHAP_C", Value: text.EncodeHex(mine.Value)})
	if err := h.leaveSecurity(pairs); err != nil {
		return err
	}
	return h.verifyTarget(mine)
}

// verifyTarget checks the target's CHAP_N and CHAP_R.
func (h *handshake) verifyTarget(c *chap.Challenge) error {
	name, value := lookup(h.res.Answers, "CHAP_N"), lookup(h.res.Answers, "CHAP_R")
	if want := h.o.CHAP.TargetUser; want != "" && name != want {
		return fmt.Errorf("%w: CHAP_N is %.64q", ErrTargetAuthentication, name)
	}
	response, err := text.ParseBinary(value, c.Algorithm.Size())
	if err != nil || !c.Verify(h.o.CHAP.TargetSecret, response) {
		return ErrTargetAuthentication
	}
	return nil
}

// parseChallenge reads CHAP_A, CHAP_I and CHAP_C.
func parseChallenge(got []text.Pair) (alg chap.Algorithm, id byte, challenge []byte, err error) {
	a, err := strconv.ParseUint(lookup(got, "CHAP_A"), 0, 8)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("initiator: target's CHAP_A: %w", err)
	}
	i, err := strconv.ParseUint(lookup(got, "CHAP_I"), 0, 8)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("initiator: target's CHAP_I: %w", err)
	}
	challenge, err = text.ParseBinary(lookup(got, "CHAP_C"), chap.MaxBinaryLen)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("initiator: target's CHAP_C: %w", err)
	}
	return chap.Algorithm(a), byte(i), challenge, nil
}

package login

import (
	"fmt"
	"slices"
	"strings"

	"github.com/iserd/iserd/pdu/text"
)

// Offer is the initiator's side of the text of a login: what it offers, and what
// it makes of the answers. It is plain data; the stages, PDUs and the CHAP
// exchange (package chap) are the initiator's.
type Offer struct {
	InitiatorName  string
	InitiatorAlias string // empty: not sent
	TargetName     string // empty in a discovery session
	Discovery      bool
	Limits         Limits // what we offer; Validate it first
	Transport      Transport
}

// numberOffers are the numeric and boolean keys that an Offer negotiates.
var numberOffers = [...]keyID{
	keyErrorRecoveryLevel, keyMaxConnections, keyInitialR2T, keyImmediateData,
	keyMaxBurstLength, keyFirstBurstLength, keyDefaultTime2Wait, keyDefaultTime2Retain,
	keyMaxOutstandingR2T, keyDataPDUInOrder, keyDataSequenceInOrder,
	keyTargetRecvDataSegmentLength, keyInitiatorRecvDataSegmentLength,
}

// AppendNames appends the keys that belong into the first Login Request,
// RFC 7143 §6.3: InitiatorName, InitiatorAlias, SessionType and TargetName.
func (o *Offer) AppendNames(dst []byte) []byte {
	dst = appendPair(dst, keyInitiatorName, o.InitiatorName)
	if o.InitiatorAlias != "" {
		dst = appendPair(dst, keyInitiatorAlias, o.InitiatorAlias)
	}
	if o.Discovery {
		dst = appendPair(dst, keySessionType, discovery)
	} else {
		dst = appendPair(dst, keySessionType, keyTable[keySessionType].list)
	}
	if o.TargetName != "" {
		dst = appendPair(dst, keyTargetName, o.TargetName)
	}
	return dst
}

// AppendOperational appends the operational keys, RFC 7143 §13 and RFC 7145 §6,
// that are relevant to the session type and the transport.
func (o *Offer) AppendOperational(dst []byte) []byte {
	if o.relevant(keyRDMAExtensions) && o.Transport == ISER {
		dst = appendPair(dst, keyRDMAExtensions, text.Yes)
	} else {
		for _, id := range []keyID{keyHeaderDigest, keyDataDigest} {
			dst = appendPair(dst, id, strings.Join(o.Limits.accepts(id, o.Transport), ","))
		}
		dst = appendNumber(dst, keyMaxRecvDataSegmentLength, uint32(o.Limits.MaxRecvDataSegmentLength))
	}
	for _, id := range numberOffers {
		if !o.relevant(id) {
			continue
		}
		n := o.Limits.number(id, o.Transport)
		switch keyTable[id].rule {
		case ruleAnd, ruleOr:
			dst = appendBool(dst, id, n)
		default:
			dst = appendNumber(dst, id, n)
		}
	}
	return dst
}

// relevant reports whether the key means something in the offered session.
func (o *Offer) relevant(id keyID) bool {
	n := negotiation{transport: o.Transport, discovery: o.Discovery}
	return !n.irrelevant(&keyTable[id])
}

// Apply reads all answers and declarations that the target sent during the
// login, after AppendOperational went out, and returns what holds for the
// session. It borrows pairs. An answer that the result function does not allow,
// a key that was not offered, or a key given twice is an error; then the
// connection has to be dropped, RFC 7143 §6.3. Security keys, TargetAlias,
// TargetAddress and TargetPortalGroupTag are skipped.
func (o *Offer) Apply(pairs []text.Pair) (Params, error) {
	var v values
	v.reset()
	targetRecv := defaultRecv
	for _, p := range pairs {
		id, known := lookupKey(p.Key)
		if !known {
			return Params{}, fmt.Errorf("login: target sends unknown key %s", p.Key)
		}
		switch {
		case keyTable[id].use == useSecurity, id == keyTargetAlias, id == keyTargetAddress, id == keyTargetPortalGroupTag:
			continue
		case v.seen[id]:
			return Params{}, fmt.Errorf("login: target sends %s for the second time", p.Key)
		}
		v.seen[id] = true
		if err := o.apply(&v, id, p.Value, &targetRecv); err != nil {
			return Params{}, err
		}
	}
	// In v the segment length is the initiator's declaration, in Params too.
	v.num[keyMaxRecvDataSegmentLength] = uint32(o.Limits.MaxRecvDataSegmentLength)
	return v.params(targetRecv), nil
}

// apply takes one answer.
func (o *Offer) apply(v *values, id keyID, value string, targetRecv *int) error {
	k := &keyTable[id]
	if refused(value) {
		return nil // the key keeps its default
	}
	bad := func() error { return fmt.Errorf("login: target answers %s=%q", k.name, value) }
	switch {
	case id == keyMaxRecvDataSegmentLength:
		n, err := text.ParseNumber(value, uint64(k.low), uint64(k.high))
		if err != nil {
			return bad()
		}
		*targetRecv = int(n)
		return nil
	case id == keyHeaderDigest || id == keyDataDigest:
		if !slices.Contains(o.Limits.accepts(id, o.Transport), value) {
			return bad()
		}
		v.list[id] = value
		return nil
	case id != keyRDMAExtensions && !slices.Contains(numberOffers[:], id) || !o.relevant(id):
		return fmt.Errorf("login: target sends %s, which was not offered", k.name)
	}
	ours := o.Limits.number(id, o.Transport)
	theirs, ok := parseAnswer(k, value)
	if !ok || !k.rule.admits(ours, theirs) {
		return bad()
	}
	v.num[id] = theirs
	return nil
}

// parseAnswer decodes the answer to a number or a boolean.
func parseAnswer(k *key, value string) (uint32, bool) {
	switch k.rule {
	case ruleAnd, ruleOr:
		b, err := text.ParseBool(value)
		return bit(b), err == nil
	default:
		n, err := text.ParseNumber(value, uint64(k.low), uint64(k.high))
		return uint32(n), err == nil
	}
}

// admits reports whether the result function can have made result out of our
// offer and whatever the responder wanted, RFC 7143 §6.2.2.
func (r rule) admits(ours, result uint32) bool {
	switch r {
	case ruleAnd, ruleMin:
		return result <= ours
	case ruleOr, ruleMax:
		return result >= ours
	default:
		return false
	}
}

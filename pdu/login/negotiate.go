package login

import (
	"slices"
	"strconv"

	"github.com/iserd/iserd/pdu/text"
)

// negotiation is the responder's side of the operational keys of one login.
type negotiation struct {
	values
	limits    *Limits
	transport Transport
	discovery bool // SessionType=Discovery
	leading   bool // TSIH=0: LO keys may be negotiated
}

// answer negotiates one offered or declared value and returns what to answer;
// the empty string means that the key takes no answer. An inadmissible value is
// answered with Reject and leaves the key at its default, RFC 7143 §6.2.
func (n *negotiation) answer(id keyID, value string) string {
	k := &keyTable[id]
	switch {
	case k.rule == ruleText:
		return ""
	case k.rule == ruleReject:
		return text.Reject
	case n.irrelevant(k):
		return text.Irrelevant
	case k.use == useLeading && !n.leading:
		return text.Reject // the session has its values already
	}
	switch k.rule {
	case ruleMin, ruleMax, ruleNumber:
		return n.number(id, value)
	case ruleFirst:
		return n.first(id, value)
	default:
		return n.boolean(id, value)
	}
}

// irrelevant reports whether the standard calls the key irrelevant here. An
// iSER login cannot end without RDMAExtensions=Yes, so the transport decides
// about the keys that depend on it, in whatever order they arrive.
func (n *negotiation) irrelevant(k *key) bool {
	switch k.when {
	case normalOnly:
		return n.discovery
	case rdmaOnly:
		return n.discovery || n.transport != ISER
	default:
		return false
	}
}

func (n *negotiation) boolean(id keyID, value string) string {
	b, err := text.ParseBool(value)
	if err != nil {
		return text.Reject
	}
	ours, theirs := n.limits.number(id, n.transport), bit(b)
	switch keyTable[id].rule {
	case ruleAnd:
		n.num[id] = ours & theirs
	case ruleOr:
		n.num[id] = ours | theirs
	case ruleNo:
		return text.No
	default: // ruleBoolean: declared, nothing to answer
		n.num[id] = theirs
		return ""
	}
	return text.Bool(n.num[id] == yes)
}

func (n *negotiation) number(id keyID, value string) string {
	k := &keyTable[id]
	x, err := text.ParseNumber(value, uint64(k.low), uint64(k.high))
	if err != nil {
		return text.Reject
	}
	ours, theirs := n.limits.number(id, n.transport), uint32(x)
	switch k.rule {
	case ruleMin:
		n.num[id] = min(ours, theirs)
		if id == keyFirstBurstLength {
			// "FirstBurstLength MUST NOT exceed MaxBurstLength", RFC 7143 §13.14.
			n.num[id] = min(n.num[id], n.num[keyMaxBurstLength])
		}
	case ruleMax:
		n.num[id] = max(ours, theirs)
	default: // ruleNumber: declared, nothing to answer
		n.num[id] = theirs
		return ""
	}
	return strconv.FormatUint(uint64(n.num[id]), 10)
}

// first takes the first offered value that we accept: "the responding party MUST
// respond with the first value from the list that it supports", RFC 7143 §6.2.1.
func (n *negotiation) first(id keyID, value string) string {
	list, err := text.ParseList(value)
	if err != nil {
		return text.Reject
	}
	accepted := n.limits.accepts(id, n.transport)
	for _, offered := range list {
		if slices.Contains(accepted, offered) {
			n.list[id] = offered
			return offered
		}
	}
	return text.Reject
}

// offered is one key=value pair of a request with its place in keyTable.
type offered struct {
	id    keyID
	known bool
	name  string
	value string
}

// answers appends the answers to all operational keys in list, in their order.
// MaxBurstLength is negotiated before FirstBurstLength, which depends on it,
// wherever the two stand.
func (n *negotiation) answers(dst []byte, list []offered) []byte {
	replies := make([]string, len(list))
	for pass := range 2 {
		for i, o := range list {
			if (o.id == keyFirstBurstLength) != (pass == 1) {
				continue
			}
			switch {
			case refused(o.value):
				// An answer, to a declaration of ours for example; answering an
				// answer would go on for ever. The key keeps its default.
			case !o.known:
				replies[i] = text.NotUnderstood
			case keyTable[o.id].use != useSecurity:
				replies[i] = n.answer(o.id, o.value)
			}
		}
	}
	for i, o := range list {
		if replies[i] != "" {
			dst = text.Append(dst, o.name, replies[i])
		}
	}
	return dst
}

// refused reports whether value is one of the reserved words with which a
// responder declines a key, RFC 7143 §6.2.
func refused(value string) bool {
	return value == text.Reject || value == text.Irrelevant || value == text.NotUnderstood
}

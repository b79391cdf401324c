package initiator

import (
	"fmt"
	"strconv"

	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

// This negotiation is written from RFC 7143 §13 by itself, not with the tables
// of package login: the target is tested with it, and a shared mistake would
// not show. It also has to send what a well-behaved initiator would not.

// offeredPairs returns the operational keys that o offers and declares.
func offeredPairs(o *Options) []text.Pair {
	pairs := []text.Pair{
		{Key: "HeaderDigest", Value: o.HeaderDigest},
		{Key: "DataDigest", Value: o.DataDigest},
		{Key: "MaxRecvDataSegmentLength", Value: strconv.Itoa(o.MaxRecvDataSegmentLength)},
		{Key: "DefaultTime2Wait", Value: strconv.Itoa(o.DefaultTime2Wait)},
		{Key: "DefaultTime2Retain", Value: strconv.Itoa(o.DefaultTime2Retain)},
		{Key: "ErrorRecoveryLevel", Value: strconv.Itoa(o.ErrorRecoveryLevel)},
	}
	if o.SessionType == DiscoverySession { // the rest is irrelevant there
		return pairs
	}
	return append(pairs,
		text.Pair{Key: "InitialR2T", Value: o.InitialR2T.or("No")},
		text.Pair{Key: "ImmediateData", Value: o.ImmediateData.or("Yes")},
		text.Pair{Key: "MaxBurstLength", Value: strconv.Itoa(o.MaxBurstLength)},
		text.Pair{Key: "FirstBurstLength", Value: strconv.Itoa(o.FirstBurstLength)},
		text.Pair{Key: "MaxOutstandingR2T", Value: strconv.Itoa(o.MaxOutstandingR2T)},
		text.Pair{Key: "MaxConnections", Value: strconv.Itoa(o.MaxConnections)},
		text.Pair{Key: "DataPDUInOrder", Value: "Yes"},
		text.Pair{Key: "DataSequenceInOrder", Value: "Yes"},
	)
}

// replies returns the answers that pairs of the target call for: none for
// answers to our offers and for declarations, NotUnderstood for the rest
// (§6.2: "Any key not understood by the acceptor" is to be answered so).
func replies(offer, got []text.Pair) []text.Pair {
	var out []text.Pair
	for _, p := range got {
		switch p.Key {
		case "TargetAlias", "TargetAddress", "TargetPortalGroupTag", "MaxRecvDataSegmentLength", "AuthMethod":
			continue
		case "IFMarker", "OFMarker":
			out = append(out, text.Pair{Key: p.Key, Value: "No"})
			continue
		}
		if lookup(offer, p.Key) == "" {
			out = append(out, text.Pair{Key: p.Key, Value: "NotUnderstood"})
		}
	}
	return out
}

// defaultParams are the values of keys that were not negotiated, §13.
func defaultParams() login.Params {
	return login.Params{
		MaxConnections: 1, InitialR2T: true, ImmediateData: true,
		MaxRecvDataSegmentLength: 8192, InitiatorMaxRecvDataSegmentLength: 8192,
		MaxBurstLength: 262144, FirstBurstLength: 65536,
		DefaultTime2Wait: 2, DefaultTime2Retain: 20, MaxOutstandingR2T: 1,
		DataPDUInOrder: true, DataSequenceInOrder: true,
		ISCSIProtocolLevel: 1, TaskReporting: "RFC3720",
		TargetRecvDataSegmentLength: 8192,
	}
}

// answers applies a target's answers, remembering the first error.
type answers struct {
	o   *Options
	p   login.Params
	err error
}

// applyAnswers computes the parameters from our offer and the target's
// answers. An answer that the result function of its key cannot give is an
// error.
func applyAnswers(o *Options, got []text.Pair) (login.Params, error) {
	a := answers{o: o, p: defaultParams()}
	a.p.InitiatorMaxRecvDataSegmentLength = o.MaxRecvDataSegmentLength
	for _, x := range got {
		if x.Value == "Irrelevant" || x.Value == "NotUnderstood" || x.Value == "Reject" {
			continue
		}
		a.apply(x.Key, x.Value)
	}
	a.p.FirstBurstLength = min(a.p.FirstBurstLength, a.p.MaxBurstLength)
	if a.p.RDMAExtensions { // RFC 7145 §6.4: it stands for MaxRecvDataSegmentLength, whatever the target says of that
		a.p.MaxRecvDataSegmentLength = a.p.TargetRecvDataSegmentLength
	}
	return a.p, a.err
}

func (a *answers) apply(key, v string) {
	o, p := a.o, &a.p
	switch key {
	case "HeaderDigest":
		p.HeaderDigest = a.digest(key, v, o.HeaderDigest)
	case "DataDigest":
		p.DataDigest = a.digest(key, v, o.DataDigest)
	case "MaxRecvDataSegmentLength":
		p.MaxRecvDataSegmentLength = a.number(key, v, 512, 1<<24-1)
	case "InitialR2T":
		p.InitialR2T = a.boolean(key, v)
	case "ImmediateData":
		p.ImmediateData = a.boolean(key, v)
	case "MaxBurstLength":
		p.MaxBurstLength = a.number(key, v, 512, o.MaxBurstLength)
	case "FirstBurstLength":
		p.FirstBurstLength = a.number(key, v, 512, o.FirstBurstLength)
	case "MaxOutstandingR2T":
		p.MaxOutstandingR2T = a.number(key, v, 1, o.MaxOutstandingR2T)
	case "MaxConnections":
		p.MaxConnections = a.number(key, v, 1, o.MaxConnections)
	case "ErrorRecoveryLevel":
		p.ErrorRecoveryLevel = a.number(key, v, 0, o.ErrorRecoveryLevel)
	case "DefaultTime2Wait":
		p.DefaultTime2Wait = a.number(key, v, o.DefaultTime2Wait, 3600)
	case "DefaultTime2Retain":
		p.DefaultTime2Retain = a.number(key, v, 0, o.DefaultTime2Retain)
	case "DataPDUInOrder":
		p.DataPDUInOrder = a.boolean(key, v)
	case "DataSequenceInOrder":
		p.DataSequenceInOrder = a.boolean(key, v)
	case "RDMAExtensions":
		p.RDMAExtensions = a.boolean(key, v)
	case "TargetRecvDataSegmentLength":
		p.TargetRecvDataSegmentLength = a.number(key, v, 512, 1<<24-1)
	default:
	}
}

func (a *answers) wrong(key, v string) {
	if a.err == nil {
		a.err = fmt.Errorf("initiator: target answers %s=%.64q", key, v)
	}
}

func (a *answers) digest(key, v, offered string) bool {
	if !inList(v, offered) || v != "CRC32C" && v != "None" {
		a.wrong(key, v)
	}
	return v == "CRC32C"
}

func (a *answers) number(key, v string, lo, hi int) int {
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil || int(n) < lo || int(n) > hi {
		a.wrong(key, v)
		return lo
	}
	return int(n)
}

func (a *answers) boolean(key, v string) bool {
	if v != "Yes" && v != "No" {
		a.wrong(key, v)
	}
	return v == "Yes"
}

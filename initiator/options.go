package initiator

import (
	"time"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/text"
)

// DefaultInitiatorName is what Options declares when no name is given.
const DefaultInitiatorName = "iqn.2026-11.io.github.iserd:initiator"

// SessionType is the SessionType key, RFC 7143 §13.21.
type SessionType uint8

// The session types of RFC 7143 §13.21.
const (
	NormalSession SessionType = iota
	DiscoverySession
)

// String returns the key's value as it is sent.
func (t SessionType) String() string {
	if t == DiscoverySession {
		return "Discovery"
	}
	return "Normal"
}

// YesNo is an offer for a boolean key; its zero value leaves the choice to
// this package.
type YesNo uint8

// Offers for boolean keys.
const (
	Unset YesNo = iota
	Yes
	No
)

// or returns the offer as the key's value, def when it is unset.
func (y YesNo) or(def string) string {
	switch y {
	case Yes:
		return "Yes"
	case No:
		return "No"
	default:
		return def
	}
}

// CHAP holds the credentials of RFC 7143 §12.1. The zero value offers
// AuthMethod=None only.
type CHAP struct {
	User   string // CHAP_N of the initiator; empty: no CHAP is offered
	Secret []byte

	// TargetSecret asks the target to authenticate itself as well (mutual
	// CHAP). TargetUser, when set, is the only CHAP_N accepted from it.
	TargetUser   string
	TargetSecret []byte

	// Algorithms is the CHAP_A offer, most wanted first; nil offers all that
	// package chap has.
	Algorithms []chap.Algorithm
}

// Options says what to offer and declare at login; names are those of the
// RFC 7143 §13 keys. The zero value with a TargetName is a good offer.
type Options struct {
	InitiatorName  string
	InitiatorAlias string
	TargetName     string
	SessionType    SessionType

	ISID pdu.ISID // zero: a random one (§11.12.5, format 10b)
	TSIH uint16
	CID  uint16

	CHAP CHAP

	HeaderDigest string // list such as "CRC32C,None"; empty: "None"
	DataDigest   string

	InitialR2T    YesNo // default No
	ImmediateData YesNo // default Yes

	MaxRecvDataSegmentLength int // bytes, our declaration; default 256 KiB
	MaxBurstLength           int // default 1 MiB
	FirstBurstLength         int // default 256 KiB
	MaxOutstandingR2T        int // default 1
	MaxConnections           int // default 1
	ErrorRecoveryLevel       int
	DefaultTime2Wait         int // seconds, default 2
	DefaultTime2Retain       int // seconds, default 0

	// Extra pairs are sent with the operational keys as they are, for keys
	// this package does not know and for values it would not send.
	Extra []text.Pair

	// Strict ends the session also for violations that well-known targets
	// commit and that do no harm: ExpDataSN (§11.4.8) that does not count the
	// PDUs sent.
	Strict bool

	// Timeout bounds the whole login; default 15 s.
	Timeout time.Duration

	// Async, when set, is called from the reader goroutine with each
	// Asynchronous Message (§11.9); it borrows data and must not block.
	Async func(m pdu.AsyncMessage, data []byte)

	// Reject, when set, is called from the reader goroutine with each Reject
	// (§11.17), also when a task fails because of it. It must not block.
	Reject func(e *RejectError)
}

// withDefaults returns o with every unset value filled in.
func (o Options) withDefaults() Options {
	if o.InitiatorName == "" {
		o.InitiatorName = DefaultInitiatorName
	}
	for _, d := range []struct {
		v   *int
		def int
	}{
		{&o.MaxRecvDataSegmentLength, 256 << 10},
		{&o.MaxBurstLength, 1 << 20},
		{&o.FirstBurstLength, 256 << 10},
		{&o.MaxOutstandingR2T, 1},
		{&o.MaxConnections, 1},
		{&o.DefaultTime2Wait, 2},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, s := range []*string{&o.HeaderDigest, &o.DataDigest} {
		if *s == "" {
			*s = "None"
		}
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	return o
}

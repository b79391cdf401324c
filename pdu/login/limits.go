package login

import (
	"errors"
	"fmt"
	"slices"
)

// Transport says what carries the connection; it changes what some keys mean.
type Transport uint8

const (
	// TCP is iSCSI over TCP, RFC 7143.
	TCP Transport = iota
	// ISER is iSCSI over RDMA, RFC 7145: no digests, RDMAExtensions=Yes.
	ISER
)

// String returns "tcp" or "iser".
func (t Transport) String() string {
	switch t {
	case TCP:
		return "tcp"
	case ISER:
		return "iser"
	}
	return fmt.Sprintf("Transport(%d)", uint8(t))
}

// Limits are our own bounds and preferences for the operational keys: what we
// bring into a negotiation, not what comes out of it. Fields are named after
// the keys of RFC 7143 §13 and RFC 7145 §6. Start from [DefaultLimits].
type Limits struct {
	// HeaderDigest and DataDigest list what we accept, "None" and "CRC32C"
	// (§13.1). A responder has to take the first value of the offered list that
	// it supports (§6.2.1), so the order counts only when we are the initiator.
	// Over iSER the answer is None whatever stands here (RFC 7145 §6.1).
	HeaderDigest []string
	DataDigest   []string

	MaxConnections int  // §13.2, connections per session: 1 to 65535
	InitialR2T     bool // §13.10, true: we insist on an R2T before any data
	ImmediateData  bool // §13.11, true: we take immediate data

	// InitialR2TOverISER replaces InitialR2T when the transport is ISER:
	// libiscsi miscounts unsolicited data there, so the default is true.
	InitialR2TOverISER bool

	MaxRecvDataSegmentLength int  // §13.12, what we declare, bytes: 512 to 2^24-1
	MaxBurstLength           int  // §13.13, bytes: 512 to 2^24-1
	FirstBurstLength         int  // §13.14, bytes: 512 to MaxBurstLength
	DefaultTime2Wait         int  // §13.15, seconds: 0 to 3600
	DefaultTime2Retain       int  // §13.16, seconds: 0 to 3600
	MaxOutstandingR2T        int  // §13.17, R2Ts per task: 1 to 65535
	DataPDUInOrder           bool // §13.18, true: we insist on order
	DataSequenceInOrder      bool // §13.19, true: we insist on order
	ErrorRecoveryLevel       int  // §13.20: 0 to 2

	TaskReporting      []string // §13.23, accepted values, "RFC3720" at least
	ISCSIProtocolLevel int      // §13.24: 0 to 31; 2 means RFC 7144

	TargetRecvDataSegmentLength    int // RFC 7145 §6.4, bytes: 512 to 2^24-1
	InitiatorRecvDataSegmentLength int // RFC 7145 §6.5, bytes: 512 to 2^24-1

	// CommandWindow is how many commands the final Login Response opens:
	// MaxCmdSN - ExpCmdSN + 1. Over iSER it must not exceed the receives posted.
	CommandWindow int
}

// DefaultLimits returns the bounds that a target starts from. The caller owns
// the slices.
func DefaultLimits() Limits {
	return Limits{
		HeaderDigest:                   []string{noneDigest, crc32cName},
		DataDigest:                     []string{noneDigest, crc32cName},
		MaxConnections:                 1,
		ImmediateData:                  true,
		InitialR2TOverISER:             true,
		MaxRecvDataSegmentLength:       256 << 10,
		MaxBurstLength:                 1 << 20,
		FirstBurstLength:               256 << 10,
		DefaultTime2Wait:               2,
		DefaultTime2Retain:             20,
		MaxOutstandingR2T:              16,
		DataPDUInOrder:                 true,
		DataSequenceInOrder:            true,
		TaskReporting:                  []string{rfc3720},
		ISCSIProtocolLevel:             2,
		TargetRecvDataSegmentLength:    defaultRecv,
		InitiatorRecvDataSegmentLength: 256 << 10,
		CommandWindow:                  128,
	}
}

// Validate returns all errors in l, joined: numbers outside the ranges of the
// standard, FirstBurstLength above MaxBurstLength (§13.14), unknown list values.
func (l Limits) Validate() error {
	var errs []error
	numbers := []struct {
		id keyID
		n  int
	}{
		{keyMaxConnections, l.MaxConnections},
		{keyMaxRecvDataSegmentLength, l.MaxRecvDataSegmentLength},
		{keyMaxBurstLength, l.MaxBurstLength},
		{keyFirstBurstLength, l.FirstBurstLength},
		{keyDefaultTime2Wait, l.DefaultTime2Wait},
		{keyDefaultTime2Retain, l.DefaultTime2Retain},
		{keyMaxOutstandingR2T, l.MaxOutstandingR2T},
		{keyErrorRecoveryLevel, l.ErrorRecoveryLevel},
		{keyISCSIProtocolLevel, l.ISCSIProtocolLevel},
		{keyTargetRecvDataSegmentLength, l.TargetRecvDataSegmentLength},
		{keyInitiatorRecvDataSegmentLength, l.InitiatorRecvDataSegmentLength},
	}
	for _, x := range numbers {
		k := &keyTable[x.id]
		if int64(x.n) < int64(k.low) || int64(x.n) > int64(k.high) {
			errs = append(errs, fmt.Errorf("login: %s is %d, want %d to %d", k.name, x.n, k.low, k.high))
		}
	}
	if l.FirstBurstLength > l.MaxBurstLength {
		errs = append(errs, fmt.Errorf("login: FirstBurstLength %d exceeds MaxBurstLength %d", l.FirstBurstLength, l.MaxBurstLength))
	}
	if l.CommandWindow < 1 || l.CommandWindow > 65535 {
		errs = append(errs, fmt.Errorf("login: CommandWindow is %d, want 1 to 65535", l.CommandWindow))
	}
	digests := []string{noneDigest, crc32cName}
	errs = append(errs,
		checkList("HeaderDigest", l.HeaderDigest, digests),
		checkList("DataDigest", l.DataDigest, digests),
		checkList("TaskReporting", l.TaskReporting, []string{rfc3720, "ResponseFence", "FastAbort"}))
	return errors.Join(errs...)
}

// checkList returns an error when list is empty or holds a value not in known.
func checkList(name string, list, known []string) error {
	if len(list) == 0 {
		return fmt.Errorf("login: %s accepts nothing", name)
	}
	for _, s := range list {
		if !slices.Contains(known, s) {
			return fmt.Errorf("login: %s does not know %q", name, s)
		}
	}
	return nil
}

// bit turns a boolean into its number in values.
func bit(b bool) uint32 {
	if b {
		return yes
	}
	return no
}

// number returns our side of a numeric or boolean key.
func (l *Limits) number(id keyID, t Transport) uint32 {
	switch id {
	case keyMaxConnections:
		return uint32(l.MaxConnections)
	case keyInitialR2T:
		if t == ISER {
			return bit(l.InitialR2TOverISER)
		}
		return bit(l.InitialR2T)
	case keyImmediateData:
		return bit(l.ImmediateData)
	case keyMaxRecvDataSegmentLength:
		return uint32(l.MaxRecvDataSegmentLength)
	case keyMaxBurstLength:
		return uint32(l.MaxBurstLength)
	case keyFirstBurstLength:
		return uint32(l.FirstBurstLength)
	case keyDefaultTime2Wait:
		return uint32(l.DefaultTime2Wait)
	case keyDefaultTime2Retain:
		return uint32(l.DefaultTime2Retain)
	case keyMaxOutstandingR2T:
		return uint32(l.MaxOutstandingR2T)
	case keyDataPDUInOrder:
		return bit(l.DataPDUInOrder)
	case keyDataSequenceInOrder:
		return bit(l.DataSequenceInOrder)
	case keyErrorRecoveryLevel:
		return uint32(l.ErrorRecoveryLevel)
	case keyISCSIProtocolLevel:
		return uint32(l.ISCSIProtocolLevel)
	case keyRDMAExtensions:
		return bit(t == ISER)
	case keyTargetRecvDataSegmentLength:
		return uint32(l.TargetRecvDataSegmentLength)
	case keyInitiatorRecvDataSegmentLength:
		return uint32(l.InitiatorRecvDataSegmentLength)
	default:
		return keyTable[id].initial
	}
}

// accepts returns our side of a list key.
func (l *Limits) accepts(id keyID, t Transport) []string {
	switch id {
	case keyHeaderDigest:
		if t == ISER {
			return []string{noneDigest} // RFC 7145 §6.1: the RNIC has its own CRC
		}
		return l.HeaderDigest
	case keyDataDigest:
		if t == ISER {
			return []string{noneDigest}
		}
		return l.DataDigest
	case keyTaskReporting:
		return l.TaskReporting
	default:
		return nil
	}
}

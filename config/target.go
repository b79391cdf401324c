package config

import "time"

// Target is one iSCSI target.
type Target struct {
	Source
	// Name is that of the target: `iqn.`, `eui.` or `naa.` form, lower case.
	Name string `hcl:"name,label" ref:"RFC 7143 §4.2.7"`
	// Alias is a description that initiators may show.
	Alias string `hcl:"alias,optional" maxlen:"255" ref:"RFC 7143 §13.7"`
	// Auth is the name of the auth block that admits initiators.
	Auth string `hcl:"auth,optional"`
	// PortalGroups are those through which the target is reached. They may be left
	// out when there is only one.
	PortalGroups []string `hcl:"portal_groups,optional"`
	// Insecure: admit everybody. A target without access control is refused
	// unless this says so.
	Insecure bool `hcl:"insecure,optional" default:"false"`
	// ALUA is asymmetric access to those LUNs that have no block of their own.
	ALUA *ALUA `hcl:"alua,block"`
	// AsyncEvents: tell initiators of LUNs that come and go and of changed sizes by
	// Asynchronous Messages, besides the unit attentions. Linux looks for new LUNs by
	// itself then.
	AsyncEvents bool `hcl:"async_events,optional" default:"false" ref:"RFC 7143 §11.9"`
	// Session holds the bounds for negotiation.
	Session Session `hcl:"session,block"`
	// Redirect is where logins to this target are sent. Sessions that are there go on.
	Redirect *Redirect `hcl:"redirect,block"`
	// LUNs of the target.
	LUNs []LUN `hcl:"lun,block"`
	// Initiators that may log in, and what they see. Without any, every
	// initiator that `auth` admits sees all LUNs.
	Initiators []Initiator `hcl:"initiator,block"`
}

// Session is the bounds for the negotiation of a session's parameters.
type Session struct {
	Source
	// MaxConnections is the number of connections in one session.
	MaxConnections int `hcl:"max_connections,optional" default:"1" min:"1" max:"1" ref:"RFC 7143 §13.2"`
	// InitialR2T: make initiators wait for an R2T before they send data. With
	// false the choice is theirs.
	InitialR2T bool `hcl:"initial_r2t,optional" default:"false" ref:"RFC 7143 §13.10"`
	// ImmediateData: admit data in the command's own PDU.
	ImmediateData bool `hcl:"immediate_data,optional" default:"true" ref:"RFC 7143 §13.11"`
	// MaxRecvDataSegmentLength is the longest data segment taken.
	MaxRecvDataSegmentLength int64 `hcl:"max_recv_data_segment_length,optional" kind:"size" default:"256KiB" min:"512B" max:"16777215B" ref:"RFC 7143 §13.12"`
	// MaxBurstLength is the most data in a sequence of data PDUs.
	MaxBurstLength int64 `hcl:"max_burst_length,optional" kind:"size" default:"1MiB" min:"512B" max:"16777215B" ref:"RFC 7143 §13.13"`
	// FirstBurstLength is the most data sent without an R2T; at most `max_burst_length`.
	FirstBurstLength int64 `hcl:"first_burst_length,optional" kind:"size" default:"256KiB" min:"512B" max:"16777215B" ref:"RFC 7143 §13.14"`
	// DefaultTime2Wait is the time before a reconnection in seconds.
	DefaultTime2Wait int `hcl:"default_time2wait,optional" default:"2" min:"0" max:"3600" ref:"RFC 7143 §13.15"`
	// DefaultTime2Retain is the time in seconds for which tasks are kept after a
	// connection is lost.
	DefaultTime2Retain int `hcl:"default_time2retain,optional" default:"20" min:"0" max:"3600" ref:"RFC 7143 §13.16"`
	// MaxOutstandingR2T is the number of R2Ts under way for one task.
	MaxOutstandingR2T int `hcl:"max_outstanding_r2t,optional" default:"16" min:"1" max:"65535" ref:"RFC 7143 §13.17"`
	// ErrorRecoveryLevel is that of the session.
	ErrorRecoveryLevel int `hcl:"error_recovery_level,optional" default:"0" min:"0" max:"0" ref:"RFC 7143 §13.20"`
	// HeaderDigest is the list of values admitted.
	HeaderDigest []string `hcl:"header_digest,optional" default:"None CRC32C" oneof:"None|CRC32C" ref:"RFC 7143 §13.1"`
	// DataDigest is the list of values admitted.
	DataDigest []string `hcl:"data_digest,optional" default:"None CRC32C" oneof:"None|CRC32C" ref:"RFC 7143 §13.1"`
}

// LUN is one logical unit of a target.
type LUN struct {
	Source
	// Label is the number of the logical unit, quoted: `lun "0"`.
	Label string `hcl:"number,label" ref:"SAM-5 4.7"`
	// Backend is what holds the data, a reference such as `backend.file.boot`.
	Backend BackendRef `hcl:"backend"`
	// BlockSize is the logical block length.
	BlockSize int64 `hcl:"block_size,optional" kind:"size" default:"512B" oneof:"512|4096" ref:"SBC-4 5.20"`
	// Serial is the unit serial number; derived from the target's name and the
	// number when it is left out.
	Serial string `hcl:"serial,optional" kind:"ascii" minlen:"1" maxlen:"32" ref:"SPC-5 7.7.19"`
	// NAA is the unit's identity, `naa.` and 16 hexadecimal digits, the first of
	// them 3 (locally assigned) or 5 (registered); derived like `serial`.
	NAA string `hcl:"naa,optional" kind:"naa" ref:"SPC-5 7.7.6.6"`
	// Vendor is the vendor identification.
	Vendor string `hcl:"vendor,optional" kind:"ascii" default:"ISERD" minlen:"1" maxlen:"8" ref:"SPC-5 6.6.2"`
	// Product is the product identification.
	Product string `hcl:"product,optional" kind:"ascii" default:"VIRTUAL-DISK" minlen:"1" maxlen:"16" ref:"SPC-5 6.6.2"`
	// Thin: announce thin provisioning: UNMAP and WRITE SAME with UNMAP.
	Thin bool `hcl:"thin,optional" default:"false" ref:"SBC-4 4.7"`
	// ThinThreshold is the part of the backend's store, in percent, whose use is
	// told to initiators, once each time it is reached: THIN PROVISIONING SOFT
	// THRESHOLD REACHED. For a file the store is its file system. 0 is none.
	ThinThreshold int `hcl:"thin_threshold,optional" default:"0" min:"0" max:"99" ref:"SBC-4 4.7.3.7"`
	// ReadOnly: refuse writes with DATA PROTECT.
	ReadOnly bool `hcl:"read_only,optional" default:"false" ref:"SBC-4 4.4.2"`
	// Removable: report a removable medium, which initiators can lock and eject.
	Removable bool `hcl:"removable,optional" default:"false" ref:"SPC-5 6.6.2"`
	// WriteCache: report a volatile cache (WCE). With false every write is durable
	// before it is answered.
	WriteCache bool `hcl:"write_cache,optional" default:"true" ref:"SBC-4 6.5.6"`
	// ALUA is asymmetric access to this logical unit, in place of the target's.
	ALUA *ALUA `hcl:"alua,block"`
	// Filters between the logical unit and its backend; the first is the
	// outermost.
	Filters []Filter `hcl:"filter,block"`

	// Number is Label in binary form.
	Number uint16
}

// FilterKind is the label of a filter block.
type FilterKind string

// The filter kinds.
const (
	FilterDelay FilterKind = "delay"
	FilterFault FilterKind = "fault"
	FilterStats FilterKind = "stats"
)

// Filter is a stage between a logical unit and its backend. Exactly one of
// Delay, Fault and Stats is set, as Kind says.
type Filter struct {
	Source
	// Kind is `delay`, `fault` or `stats`.
	Kind FilterKind `hcl:"kind,label"`

	Delay *DelayFilter
	Fault *FaultFilter
	Stats *StatsFilter
}

// body is as Backend.body.
func (f *Filter) body() (any, string) {
	switch f.Kind {
	case FilterDelay:
		f.Delay = new(DelayFilter)
		return f.Delay, "filter.delay"
	case FilterFault:
		f.Fault = new(FaultFilter)
		return f.Fault, "filter.fault"
	case FilterStats:
		f.Stats = new(StatsFilter)
		return f.Stats, "filter.stats"
	default:
		return nil, ""
	}
}

// DelayFilter is a store made slower: for tests of initiators.
type DelayFilter struct {
	Source
	// Read is the delay of every read.
	Read time.Duration `hcl:"read,optional" default:"0s" min:"0s" max:"10m"`
	// Write is the delay of every write.
	Write time.Duration `hcl:"write,optional" default:"0s" min:"0s" max:"10m"`
	// Flush is the delay of every flush.
	Flush time.Duration `hcl:"flush,optional" default:"0s" min:"0s" max:"10m"`
	// Random is the most that is added to each of these delays; how much is drawn
	// for each request.
	Random time.Duration `hcl:"random,optional" default:"0s" min:"0s" max:"10m"`
}

// FaultFilter is a store made to fail: for tests of initiators. Requests that
// fail do not reach the store.
type FaultFilter struct {
	Source
	// Operations are those that fail.
	Operations []string `hcl:"operations,optional" default:"read write" oneof:"read|write|flush|unmap|write_zeroes"`
	// Error is what they fail with.
	Error string `hcl:"error" oneof:"medium|no-space|read-only|transient|offline"`
	// Rate is the probability with which each of them fails.
	Rate float64 `hcl:"rate,optional" default:"1" min:"0" max:"1"`
	// Skip is the number of them that pass before the first can fail.
	Skip int64 `hcl:"skip,optional" default:"0" min:"0" max:"9223372036854775807"`
	// Count is the number of failures after which all pass again; 0 means that
	// there is no end.
	Count int64 `hcl:"count,optional" default:"0" min:"0" max:"9223372036854775807"`
	// Offset is the first byte of the range in which requests fail.
	Offset int64 `hcl:"offset,optional" kind:"size" default:"0B" min:"0B" max:"7EiB"`
	// Length is that of the range; 0 means everything.
	Length int64 `hcl:"length,optional" kind:"size" default:"0B" min:"0B" max:"7EiB"`
}

// StatsFilter is a count of requests, bytes, errors and latency, which is logged
// when the logical unit is closed.
type StatsFilter struct {
	Source
}

// Initiator is one initiator that is admitted, and the LUNs that it sees.
type Initiator struct {
	Source
	// Name is that of the initiator: `iqn.`, `eui.` or `naa.` form, lower case.
	Name string `hcl:"name,label" ref:"RFC 7143 §4.2.7"`
	// LUNs is the map from the number that the initiator sees to the target's LUN;
	// without it the initiator sees all of them under their own numbers.
	LUNs map[uint16]uint16 `hcl:"luns,optional"`
	// ReadOnly is the list of LUNs, as the initiator sees them, that it may not
	// write.
	ReadOnly []uint16 `hcl:"read_only,optional"`
}

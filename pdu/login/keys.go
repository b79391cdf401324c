package login

// keyID numbers the text keys of the login phase. It indexes keyTable and values.
type keyID uint8

const (
	keyAuthMethod keyID = iota
	keyCHAPA
	keyCHAPI
	keyCHAPC
	keyCHAPN
	keyCHAPR
	keyInitiatorName
	keyInitiatorAlias
	keyTargetName
	keyTargetAlias
	keyTargetAddress
	keyTargetPortalGroupTag
	keySessionType
	keySendTargets
	keyHeaderDigest
	keyDataDigest
	keyMaxConnections
	keyInitialR2T
	keyImmediateData
	keyMaxRecvDataSegmentLength
	keyMaxBurstLength
	keyFirstBurstLength
	keyDefaultTime2Wait
	keyDefaultTime2Retain
	keyMaxOutstandingR2T
	keyDataPDUInOrder
	keyDataSequenceInOrder
	keyErrorRecoveryLevel
	keyTaskReporting
	keyISCSIProtocolLevel
	keyNodeArchitecture
	keyIFMarker
	keyOFMarker
	keyIFMarkInt
	keyOFMarkInt
	keyRDMAExtensions
	keyTargetRecvDataSegmentLength
	keyInitiatorRecvDataSegmentLength
	keyMaxOutstandingUnexpectedPDUs
	keyMaxAHSLength
	keyTaggedBufferForSolicitedDataOnly
	keyISERHelloRequired
	keyCount
)

// rule is how the value of a key comes about: it fixes the syntax of the value
// and the result function, RFC 7143 §6.2.
type rule uint8

const (
	ruleText    rule = iota // a name or another text, used elsewhere
	ruleAnd                 // boolean, Yes when both say Yes
	ruleOr                  // boolean, Yes when one says Yes
	ruleMin                 // number, the smaller one
	ruleMax                 // number, the larger one
	ruleFirst               // list, the first one that the responder supports
	ruleNumber              // number, declared by each side for itself
	ruleBoolean             // boolean, declared
	ruleNo                  // obsolete key, answered with No
	ruleReject              // key that is answered with Reject whatever it says
)

// use says where a key may appear, the "Use:" line of RFC 7143 §13.
type use uint8

const (
	useSecurity use = iota // SecurityNegotiation stage only, RFC 7143 §12
	useInit                // IO: every connection, login only
	useLeading             // LO: the leading connection of a session, login only
	useAll                 // ALL: login and full feature phase
	useFull                // FFPO: full feature phase only
)

// condition says in which logins a key is irrelevant, the "Irrelevant when:"
// line of RFC 7143 §13 and RFC 7145 §6.
type condition uint8

const (
	always     condition = iota
	normalOnly           // irrelevant when SessionType=Discovery
	rdmaOnly             // irrelevant also when RDMAExtensions=No
)

// key is one row of the table: what the standards say about a text key.
type key struct {
	name    string
	rule    rule
	use     use
	when    condition
	low     uint32 // smallest number allowed
	high    uint32 // largest number allowed
	initial uint32 // default: the number, or 1 for Yes
	list    string // default of a list
}

const (
	maxSegment  = 1<<24 - 1   // largest DataSegmentLength
	maxUnsigned = 1<<32 - 1   // largest plain number
	yes         = uint32(1)   // the boolean Yes in values
	no          = uint32(0)   // the boolean No in values
	defaultRecv = 8192        // MaxRecvDataSegmentLength by default, RFC 7143 §13.12
	noneDigest  = "None"      // HeaderDigest and DataDigest, RFC 7143 §13.1
	crc32cName  = "CRC32C"    // likewise
	rfc3720     = "RFC3720"   // TaskReporting, RFC 7143 §13.23
	discovery   = "Discovery" // SessionType, RFC 7143 §13.21
)

// keyTable is the one place that knows the keys; both sides of a login and the
// tests read it, nobody writes it.
var keyTable = [keyCount]key{
	// RFC 7143 §12
	keyAuthMethod: {name: "AuthMethod", rule: ruleFirst, use: useSecurity, list: noneDigest},
	keyCHAPA:      {name: "CHAP_A", use: useSecurity},
	keyCHAPI:      {name: "CHAP_I", use: useSecurity},
	keyCHAPC:      {name: "CHAP_C", use: useSecurity},
	keyCHAPN:      {name: "CHAP_N", use: useSecurity},
	keyCHAPR:      {name: "CHAP_R", use: useSecurity},
	// RFC 7143 §13.3 to §13.9, §13.21
	keyInitiatorName:        {name: "InitiatorName", use: useInit},
	keyInitiatorAlias:       {name: "InitiatorAlias", use: useAll},
	keyTargetName:           {name: "TargetName", use: useInit},
	keyTargetAlias:          {name: "TargetAlias", rule: ruleReject, use: useAll},
	keyTargetAddress:        {name: "TargetAddress", rule: ruleReject, use: useAll},
	keyTargetPortalGroupTag: {name: "TargetPortalGroupTag", rule: ruleReject, use: useInit},
	keySessionType:          {name: "SessionType", use: useLeading, list: "Normal"},
	keySendTargets:          {name: "SendTargets", rule: ruleReject, use: useFull},
	// RFC 7143 §13.1, §13.2, §13.10 to §13.20
	keyHeaderDigest:             {name: "HeaderDigest", rule: ruleFirst, use: useInit, list: noneDigest},
	keyDataDigest:               {name: "DataDigest", rule: ruleFirst, use: useInit, list: noneDigest},
	keyMaxConnections:           {name: "MaxConnections", rule: ruleMin, use: useLeading, when: normalOnly, low: 1, high: 65535, initial: 1},
	keyInitialR2T:               {name: "InitialR2T", rule: ruleOr, use: useLeading, when: normalOnly, initial: yes},
	keyImmediateData:            {name: "ImmediateData", rule: ruleAnd, use: useLeading, when: normalOnly, initial: yes},
	keyMaxRecvDataSegmentLength: {name: "MaxRecvDataSegmentLength", rule: ruleNumber, use: useAll, low: 512, high: maxSegment, initial: defaultRecv},
	keyMaxBurstLength:           {name: "MaxBurstLength", rule: ruleMin, use: useLeading, when: normalOnly, low: 512, high: maxSegment, initial: 262144},
	keyFirstBurstLength:         {name: "FirstBurstLength", rule: ruleMin, use: useLeading, when: normalOnly, low: 512, high: maxSegment, initial: 65536},
	keyDefaultTime2Wait:         {name: "DefaultTime2Wait", rule: ruleMax, use: useLeading, high: 3600, initial: 2},
	keyDefaultTime2Retain:       {name: "DefaultTime2Retain", rule: ruleMin, use: useLeading, high: 3600, initial: 20},
	keyMaxOutstandingR2T:        {name: "MaxOutstandingR2T", rule: ruleMin, use: useLeading, when: normalOnly, low: 1, high: 65535, initial: 1},
	keyDataPDUInOrder:           {name: "DataPDUInOrder", rule: ruleOr, use: useLeading, when: normalOnly, initial: yes},
	keyDataSequenceInOrder:      {name: "DataSequenceInOrder", rule: ruleOr, use: useLeading, when: normalOnly, initial: yes},
	keyErrorRecoveryLevel:       {name: "ErrorRecoveryLevel", rule: ruleMin, use: useLeading, high: 2},
	// RFC 7143 §13.23, §13.24 (levels: RFC 7144 §4), §13.26
	keyTaskReporting:      {name: "TaskReporting", rule: ruleFirst, use: useLeading, when: normalOnly, list: rfc3720},
	keyISCSIProtocolLevel: {name: "iSCSIProtocolLevel", rule: ruleMin, use: useLeading, when: normalOnly, high: 31, initial: 1},
	keyNodeArchitecture:   {name: "X#NodeArchitecture", use: useLeading},
	// RFC 7143 §13.25: SHOULD Reject, MAY No for the markers; MUST Reject for the
	// intervals. No is what initiators that still send "IFMarker=No" expect.
	keyIFMarker:  {name: "IFMarker", rule: ruleNo, use: useInit},
	keyOFMarker:  {name: "OFMarker", rule: ruleNo, use: useInit},
	keyIFMarkInt: {name: "IFMarkInt", rule: ruleReject, use: useInit},
	keyOFMarkInt: {name: "OFMarkInt", rule: ruleReject, use: useInit},
	// RFC 7145 §6.3 to §6.10
	keyRDMAExtensions:                   {name: "RDMAExtensions", rule: ruleAnd, use: useLeading, when: normalOnly},
	keyTargetRecvDataSegmentLength:      {name: "TargetRecvDataSegmentLength", rule: ruleMin, use: useInit, when: rdmaOnly, low: 512, high: maxSegment, initial: defaultRecv},
	keyInitiatorRecvDataSegmentLength:   {name: "InitiatorRecvDataSegmentLength", rule: ruleMin, use: useInit, when: rdmaOnly, low: 512, high: maxSegment, initial: defaultRecv},
	keyMaxOutstandingUnexpectedPDUs:     {name: "MaxOutstandingUnexpectedPDUs", rule: ruleNumber, use: useLeading, when: rdmaOnly, high: maxUnsigned},
	keyMaxAHSLength:                     {name: "MaxAHSLength", rule: ruleNumber, use: useLeading, when: rdmaOnly, high: maxUnsigned, initial: 256},
	keyTaggedBufferForSolicitedDataOnly: {name: "TaggedBufferForSolicitedDataOnly", rule: ruleBoolean, use: useLeading, when: rdmaOnly},
	keyISERHelloRequired:                {name: "iSERHelloRequired", rule: ruleBoolean, use: useLeading, when: rdmaOnly},
}

// lookupKey finds a key by its name, which is case-sensitive (RFC 7143 §6.1).
// The table is short and a login is rare: no index.
func lookupKey(name string) (keyID, bool) {
	for id := range keyTable {
		if keyTable[id].name == name {
			return keyID(id), true
		}
	}
	return 0, false
}

// values holds the state of a negotiation: what each key stands at, and whether
// it has been offered (a key is negotiated once, RFC 7143 §6.3).
type values struct {
	num  [keyCount]uint32
	list [keyCount]string
	seen [keyCount]bool
}

// reset sets every key to its default.
func (v *values) reset() {
	for id := range keyTable {
		v.num[id] = keyTable[id].initial
		v.list[id] = keyTable[id].list
		v.seen[id] = false
	}
}

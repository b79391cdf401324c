package login

// iserMaxSend is how many bytes of data segment an initiator can receive in one
// iSER send of the full feature phase. The known initiators post buffers of
// that size whatever InitiatorRecvDataSegmentLength they negotiated.
const iserMaxSend = 128

// Params is the result of the operational negotiation, in the names of RFC 7143
// §13 and RFC 7145 §6. A key that was not negotiated has its default.
type Params struct {
	HeaderDigest bool // CRC32C
	DataDigest   bool // CRC32C

	MaxConnections int
	InitialR2T     bool
	ImmediateData  bool

	// MaxRecvDataSegmentLength is what the target declared, in bytes: the limit
	// for what the initiator sends. Over iSER it is TargetRecvDataSegmentLength.
	MaxRecvDataSegmentLength int
	// InitiatorMaxRecvDataSegmentLength is what the initiator declared, in
	// bytes: the limit for what the target sends. Over iSER, in a normal
	// session, it is 128 however large InitiatorRecvDataSegmentLength is: that
	// is what the receive buffers of the known initiators hold.
	InitiatorMaxRecvDataSegmentLength int

	MaxBurstLength      int
	FirstBurstLength    int // never above MaxBurstLength
	DefaultTime2Wait    int // seconds
	DefaultTime2Retain  int // seconds
	MaxOutstandingR2T   int
	DataPDUInOrder      bool
	DataSequenceInOrder bool
	ErrorRecoveryLevel  int

	ISCSIProtocolLevel int
	TaskReporting      string

	RDMAExtensions                   bool
	TargetRecvDataSegmentLength      int
	InitiatorRecvDataSegmentLength   int
	MaxOutstandingUnexpectedPDUs     uint32 // the initiator's declaration, 0: no limit
	MaxAHSLength                     uint32 // the initiator's declaration, 0: no limit
	TaggedBufferForSolicitedDataOnly bool   // the initiator's declaration
	ISERHelloRequired                bool   // the initiator's declaration
}

// params builds the result. ourRecv is what the target declared as its
// MaxRecvDataSegmentLength; the number in v is the initiator's.
func (v *values) params(ourRecv int) Params {
	n := func(id keyID) int { return int(v.num[id]) }
	is := func(id keyID) bool { return v.num[id] == yes }
	p := Params{
		HeaderDigest:                      v.list[keyHeaderDigest] == crc32cName,
		DataDigest:                        v.list[keyDataDigest] == crc32cName,
		MaxConnections:                    n(keyMaxConnections),
		InitialR2T:                        is(keyInitialR2T),
		ImmediateData:                     is(keyImmediateData),
		MaxRecvDataSegmentLength:          ourRecv,
		InitiatorMaxRecvDataSegmentLength: n(keyMaxRecvDataSegmentLength),
		MaxBurstLength:                    n(keyMaxBurstLength),
		FirstBurstLength:                  min(n(keyFirstBurstLength), n(keyMaxBurstLength)),
		DefaultTime2Wait:                  n(keyDefaultTime2Wait),
		DefaultTime2Retain:                n(keyDefaultTime2Retain),
		MaxOutstandingR2T:                 n(keyMaxOutstandingR2T),
		DataPDUInOrder:                    is(keyDataPDUInOrder),
		DataSequenceInOrder:               is(keyDataSequenceInOrder),
		ErrorRecoveryLevel:                n(keyErrorRecoveryLevel),
		ISCSIProtocolLevel:                n(keyISCSIProtocolLevel),
		TaskReporting:                     v.list[keyTaskReporting],
		RDMAExtensions:                    is(keyRDMAExtensions),
		TargetRecvDataSegmentLength:       n(keyTargetRecvDataSegmentLength),
		InitiatorRecvDataSegmentLength:    n(keyInitiatorRecvDataSegmentLength),
		MaxOutstandingUnexpectedPDUs:      v.num[keyMaxOutstandingUnexpectedPDUs],
		MaxAHSLength:                      v.num[keyMaxAHSLength],
		TaggedBufferForSolicitedDataOnly:  is(keyTaggedBufferForSolicitedDataOnly),
		ISERHelloRequired:                 is(keyISERHelloRequired),
	}
	if p.RDMAExtensions {
		p.MaxRecvDataSegmentLength = p.TargetRecvDataSegmentLength
		p.InitiatorMaxRecvDataSegmentLength = min(p.InitiatorRecvDataSegmentLength, iserMaxSend)
	}
	return p
}

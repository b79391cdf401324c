package softiwarp

import (
	"encoding/binary"
	"strconv"
)

// DDP segments with RDMAP control byte, RFC 5041 section 4 and RFC 5040
// section 4. Tagged:
//
//	+-+-+-------+---+---+---+-------+
//	|T|L| Rsvd  |DV | RV|Rsv|Opcode |  2 bytes
//	+-+-+-------+---+---+---+-------+
//	|              STag             |  4 bytes
//	|        Tagged Offset          |  8 bytes
//
// Untagged, after the same two bytes:
//
//	|  Invalidate STag or reserved  |  4 bytes
//	|         Queue Number          |  4 bytes
//	|   Message Sequence Number     |  4 bytes
//	|        Message Offset         |  4 bytes
const (
	ddpTagged  = 0x80 // T
	ddpLast    = 0x40 // L
	ddpVersion = 1    // DV, in the low two bits of the first byte

	rdmapVersion = 1 // RV, in the high two bits of the second byte

	taggedLen   = 14
	untaggedLen = 18
	readReqLen  = 28 // RFC 5040 section 4.4

	// largest of ours: ULPDU length, untagged header, Read Request.
	maxHeaderLen = fpduLenLen + untaggedLen + readReqLen
)

// Queue numbers of untagged segments, RFC 5040 section 4.2.
const (
	qnSend      = 0
	qnReadReq   = 1
	qnTerminate = 2
)

// opcode is an RDMAP opcode, RFC 5040 section 4.1.
type opcode uint8

const (
	opWrite        opcode = 0 // RDMA Write
	opReadRequest  opcode = 1 // RDMA Read Request
	opReadResponse opcode = 2 // RDMA Read Response
	opSend         opcode = 3
	opSendInv      opcode = 4 // Send with Invalidate
	opSendSE       opcode = 5 // Send with Solicited Event
	opSendSEInv    opcode = 6 // Send with Solicited Event and Invalidate
	opTerminate    opcode = 7
)

var opcodeNames = [...]string{
	"RDMA Write", "RDMA Read Request", "RDMA Read Response", "Send",
	"Send with Invalidate", "Send with SE", "Send with SE and Invalidate", "Terminate",
}

// String returns the opcode's name.
func (o opcode) String() string {
	if int(o) < len(opcodeNames) {
		return opcodeNames[o]
	}
	return "opcode(" + strconv.Itoa(int(o)) + ")"
}

func (o opcode) tagged() bool { return o == opWrite || o == opReadResponse }

func (o opcode) invalidates() bool { return o == opSendInv || o == opSendSEInv }

// segment is the header of a DDP segment.
type segment struct {
	op     opcode
	tagged bool
	last   bool
	dv, rv uint8
	stag   uint32 // tagged; untagged: STag to invalidate
	to     uint64 // tagged
	qn     uint32 // untagged from here
	msn    uint32
	mo     uint32
}

// headerLen is the length of the header that starts with first.
func headerLen(first byte) int {
	if first&ddpTagged != 0 {
		return taggedLen
	}
	return untaggedLen
}

// decode decodes the header at the front of b, which has all of it.
func (s *segment) decode(b []byte) {
	s.tagged, s.last = b[0]&ddpTagged != 0, b[0]&ddpLast != 0
	s.dv, s.rv, s.op = b[0]&3, b[1]>>6, opcode(b[1]&0xf)
	s.stag = binary.BigEndian.Uint32(b[2:])
	if s.tagged {
		s.to = binary.BigEndian.Uint64(b[6:])
		s.qn, s.msn, s.mo = 0, 0, 0
		return
	}
	s.to = 0
	s.qn = binary.BigEndian.Uint32(b[6:])
	s.msn = binary.BigEndian.Uint32(b[10:])
	s.mo = binary.BigEndian.Uint32(b[14:])
}

// encode writes the header to b and returns its length.
func (s *segment) encode(b []byte) int {
	b[0] = ddpVersion
	if s.last {
		b[0] |= ddpLast
	}
	b[1] = rdmapVersion<<6 | byte(s.op)
	binary.BigEndian.PutUint32(b[2:], s.stag)
	if s.tagged {
		b[0] |= ddpTagged
		binary.BigEndian.PutUint64(b[6:], s.to)
		return taggedLen
	}
	binary.BigEndian.PutUint32(b[6:], s.qn)
	binary.BigEndian.PutUint32(b[10:], s.msn)
	binary.BigEndian.PutUint32(b[14:], s.mo)
	return untaggedLen
}

// readRequest is the payload of a Read Request, RFC 5040 section 4.4.
type readRequest struct {
	sinkSTag uint32
	sinkTO   uint64
	size     uint32
	srcSTag  uint32
	srcTO    uint64
}

func (r *readRequest) decode(b []byte) {
	r.sinkSTag = binary.BigEndian.Uint32(b)
	r.sinkTO = binary.BigEndian.Uint64(b[4:])
	r.size = binary.BigEndian.Uint32(b[12:])
	r.srcSTag = binary.BigEndian.Uint32(b[16:])
	r.srcTO = binary.BigEndian.Uint64(b[20:])
}

func (r *readRequest) encode(b []byte) {
	binary.BigEndian.PutUint32(b, r.sinkSTag)
	binary.BigEndian.PutUint64(b[4:], r.sinkTO)
	binary.BigEndian.PutUint32(b[12:], r.size)
	binary.BigEndian.PutUint32(b[16:], r.srcSTag)
	binary.BigEndian.PutUint64(b[20:], r.srcTO)
}

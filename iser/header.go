package iser

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/iserd/iserd/pdu"
)

// HeaderLen is the length of the iSER header of a control-type PDU, RFC 7145
// §9.2, and of a Hello or HelloReply message.
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0| 0001|W|R|rsvd | Reserved                                      |
//	   4| Write STag                                                    |
//	   8| Write Base Offset                                             |
//	  16| Read STag                                                     |
//	  20| Read Base Offset                                              |
const HeaderLen = 28

// Opcode is the type of an iSER message, RFC 7145 §9.1.
type Opcode uint8

// Message types, RFC 7145 §9.1.
const (
	OpControl    Opcode = 1 // iSCSI control-type PDU
	OpHello      Opcode = 2
	OpHelloReply Opcode = 3
)

// String returns the name in RFC 7145, or the number.
func (o Opcode) String() string {
	switch o {
	case OpControl:
		return "iSCSI control-type"
	case OpHello:
		return "Hello"
	case OpHelloReply:
		return "HelloReply"
	}
	return fmt.Sprintf("Opcode(%d)", uint8(o))
}

const (
	flagWSV = 0x08 // Write STag is valid
	flagRSV = 0x04 // Read STag is valid
)

// Header is the iSER header of a control-type PDU, RFC 7145 §9.2. A tag without
// its flag is 0.
type Header struct {
	WSV, RSV  bool
	WriteSTag uint32 // the initiator's buffer for data-out: source of RDMA Reads
	WriteBase uint64
	ReadSTag  uint32 // for data-in: sink of RDMA Writes
	ReadBase  uint64
}

// Encode writes the header to b, of HeaderLen bytes.
func (h *Header) Encode(b []byte) {
	_ = b[HeaderLen-1]
	clear(b[:HeaderLen])
	b[0] = byte(OpControl) << 4
	if h.WSV {
		b[0] |= flagWSV
		binary.BigEndian.PutUint32(b[4:], h.WriteSTag)
		binary.BigEndian.PutUint64(b[8:], h.WriteBase)
	}
	if h.RSV {
		b[0] |= flagRSV
		binary.BigEndian.PutUint32(b[16:], h.ReadSTag)
		binary.BigEndian.PutUint64(b[20:], h.ReadBase)
	}
}

// Errors of a message. Each of them ends the connection: nothing in such a
// message can be believed.
var (
	ErrTruncated = errors.New("iser: message is shorter than its header")
	ErrOpcode    = errors.New("iser: unknown message type")
	ErrLength    = errors.New("iser: message is shorter than the PDU that it claims to carry")
)

// MessageOpcode returns the type of a message as received.
func MessageOpcode(b []byte) (Opcode, error) {
	if len(b) < HeaderLen {
		return 0, ErrTruncated
	}
	op := Opcode(b[0] >> 4)
	if op < OpControl || op > OpHelloReply {
		return 0, fmt.Errorf("%w %d", ErrOpcode, uint8(op))
	}
	return op, nil
}

// Message is a control-type PDU as received. BHS, AHS and Data are parts of the
// message.
type Message struct {
	Header Header
	BHS    *pdu.BHS
	AHS    []byte
	Data   []byte
}

// Decode takes a control-type message apart. b is as long as what the completion
// tells, so no length in it is believed beyond that. Padding may be missing or
// there (RFC 7145 §9.2); what follows it is ignored.
func (m *Message) Decode(b []byte) error {
	if len(b) < HeaderLen+pdu.BHSLen {
		return ErrTruncated
	}
	if op := Opcode(b[0] >> 4); op != OpControl {
		return fmt.Errorf("%w %d", ErrOpcode, uint8(op))
	}
	bhs := (*pdu.BHS)(b[HeaderLen:])
	ahs := HeaderLen + pdu.BHSLen
	data := ahs + bhs.TotalAHSLength()
	end := data + bhs.DataSegmentLength()
	if end > len(b) {
		return ErrLength
	}
	var h Header
	if h.WSV = b[0]&flagWSV != 0; h.WSV {
		h.WriteSTag, h.WriteBase = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
	}
	if h.RSV = b[0]&flagRSV != 0; h.RSV {
		h.ReadSTag, h.ReadBase = binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint64(b[20:])
	}
	*m = Message{Header: h, BHS: bhs, AHS: b[ahs:data:data], Data: b[data:end:end]}
	return nil
}

// Hello is the first message of an initiator that asks for the exchange of
// iSERHelloRequired=Yes, RFC 7145 §9.3.
type Hello struct {
	MaxVersion, MinVersion uint8
	IRD                    uint16 // RDMA Reads that the initiator answers at a time
}

// Decode takes a Hello message apart.
func (h *Hello) Decode(b []byte) error {
	if len(b) < HeaderLen {
		return ErrTruncated
	}
	*h = Hello{MaxVersion: b[1] >> 4, MinVersion: b[1] & 0xf, IRD: binary.BigEndian.Uint16(b[2:])}
	return nil
}

// Encode writes the message to b, of HeaderLen bytes.
func (h *Hello) Encode(b []byte) {
	clear(b[:HeaderLen])
	b[0] = byte(OpHello) << 4
	b[1] = h.MaxVersion<<4 | h.MinVersion&0xf
	binary.BigEndian.PutUint16(b[2:], h.IRD)
}

// version of the iSER protocol, RFC 7145 §9.3.
const version = 1

// HelloReply answers a Hello, RFC 7145 §9.4.
type HelloReply struct {
	Reject              bool // no common version
	MaxVersion, Version uint8
	ORD                 uint16 // RDMA Reads that the target has under way at a time
}

// Encode writes the message to b, of HeaderLen bytes.
func (r *HelloReply) Encode(b []byte) {
	clear(b[:HeaderLen])
	b[0] = byte(OpHelloReply) << 4
	if r.Reject {
		b[0] |= 1
	}
	b[1] = r.MaxVersion<<4 | r.Version&0xf
	binary.BigEndian.PutUint16(b[2:], r.ORD)
}

// Decode takes a HelloReply message apart.
func (r *HelloReply) Decode(b []byte) error {
	if len(b) < HeaderLen {
		return ErrTruncated
	}
	*r = HelloReply{Reject: b[0]&1 != 0, MaxVersion: b[1] >> 4, Version: b[1] & 0xf, ORD: binary.BigEndian.Uint16(b[2:])}
	return nil
}

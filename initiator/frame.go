package initiator

import (
	"github.com/iserd/iserd/pdu"
)

// Frame is one PDU cut into the parts it has on the wire (RFC 7143 §11.1), in
// order. A part that is not present is empty. Tests build a right one, spoil
// what they like and send it:
//
//	f := conn.Frame(&h, nil, data)
//	f.BHS.SetDataSegmentLength(1 << 20) // lie
//	f.Seal()                            // digests of the lie; leave out for bad digests
//	conn.WriteFrame(f)
type Frame struct {
	BHS          pdu.BHS
	AHS          []byte // multiple of 4 bytes
	HeaderDigest []byte // 4 bytes or none
	Data         []byte // borrowed from the caller until the frame is written
	Padding      []byte // 0 to 3 bytes
	DataDigest   []byte // 4 bytes or none
}

// Frame returns the PDU of header h with its lengths set for ahs and data and
// with the digests this connection uses. It borrows ahs and data.
func (c *Conn) Frame(h *pdu.BHS, ahs, data []byte) *Frame {
	f := &Frame{BHS: *h, AHS: ahs, Data: data}
	f.BHS.SetTotalAHSLength(len(ahs))
	f.BHS.SetDataSegmentLength(len(data))
	f.Padding = make([]byte, pdu.Pad(len(data)))
	if c.headerDigest {
		f.HeaderDigest = make([]byte, pdu.DigestLen)
	}
	if c.dataDigest && len(data) > 0 { // §11.1: no data segment, no data digest
		f.DataDigest = make([]byte, pdu.DigestLen)
	}
	f.Seal()
	return f
}

// Seal computes the digests that are present over the parts as they are now.
func (f *Frame) Seal() {
	if len(f.HeaderDigest) == pdu.DigestLen {
		crc := pdu.UpdateCRC32C(0, f.BHS[:])
		pdu.PutDigest(f.HeaderDigest, pdu.UpdateCRC32C(crc, f.AHS))
	}
	if len(f.DataDigest) == pdu.DigestLen {
		crc := pdu.UpdateCRC32C(0, f.Data)
		pdu.PutDigest(f.DataDigest, pdu.UpdateCRC32C(crc, f.Padding))
	}
}

// Append appends the frame's parts as they are to dst and returns it.
func (f *Frame) Append(dst []byte) []byte {
	dst = append(dst, f.BHS[:]...)
	dst = append(dst, f.AHS...)
	dst = append(dst, f.HeaderDigest...)
	dst = append(dst, f.Data...)
	dst = append(dst, f.Padding...)
	return append(dst, f.DataDigest...)
}

package iscsi

import "github.com/iserd/iserd/pdu"

// Tap sees the PDUs of a connection, in the connection's context.
type Tap interface {
	// PDU borrows all its arguments; ahs and data may be nil.
	PDU(h *pdu.BHS, ahs, data []byte, flags TapFlags)
}

// TapFlags say how a PDU moves.
type TapFlags uint8

// Flags of a PDU.
const (
	TapOut          TapFlags = 1 << iota // to the initiator
	TapHeaderDigest                      // there is a header digest
	TapDataDigest                        // there is a data digest, if there is data
	TapBadHeader                         // and it is wrong
	TapBadData                           // and it is wrong
	TapRDMA                              // its data moves by RDMA: there is no such PDU on the wire
)

// SetTap has t see every PDU from now on; nil ends it. It is for the connection's
// context.
func (c *Conn) SetTap(t Tap) { c.tap = t }

// Tap is what sees the PDUs, nil almost always. The datamover asks it for each.
func (c *Conn) Tap() Tap { return c.tap }

package tcp

import (
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// tapIn shows a received PDU to whoever looks.
func (c *Conn) tapIn(h *pdu.BHS, ahs, data []byte, flags iscsi.TapFlags) {
	if t := c.engine.Tap(); t != nil {
		t.PDU(h, ahs, data, flags|c.digests())
	}
}

// tapOut shows a PDU that is queued.
func (c *Conn) tapOut(h *pdu.BHS, data []byte) {
	c.engine.Tap().PDU(h, nil, data, iscsi.TapOut|c.digests())
}

func (c *Conn) digests() (f iscsi.TapFlags) {
	if c.headerDigest {
		f |= iscsi.TapHeaderDigest
	}
	if c.dataDigest {
		f |= iscsi.TapDataDigest
	}
	return f
}

package iser

import (
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// RFC 7145 7.3 has the Data-In, R2T and Data-Out PDUs of the iSCSI layer done by
// RDMA. Whoever looks at the connection sees them as if they had been sent.

// maxTapData is the data of one such PDU: DataSegmentLength has 24 bits.
const maxTapData = 1 << 20

// tapTag is the TargetTransferTag of an R2T that is only shown.
const tapTag = 1

func (c *Conn) tapDataIn(t *iscsi.Task, data []byte) {
	for off, sn := 0, uint32(0); off < len(data); sn++ {
		n := min(maxTapData, len(data)-off)
		d := pdu.DataIn{
			Final: off+n == len(data), LUN: t.LUN, InitiatorTaskTag: t.InitiatorTaskTag,
			TargetTransferTag: pdu.ReservedTag, DataSN: sn, BufferOffset: uint32(off), DataLen: n,
		}
		var h pdu.BHS
		d.Encode(&h)
		c.engine.StampWindow(&h)
		c.engine.Tap().PDU(&h, nil, data[off:off+n], iscsi.TapOut|iscsi.TapRDMA)
		off += n
	}
}

func (c *Conn) tapR2T(t *iscsi.Task, n int) {
	r := pdu.R2T{
		LUN: t.LUN, InitiatorTaskTag: t.InitiatorTaskTag, TargetTransferTag: tapTag, StatSN: c.engine.StatSN(),
		BufferOffset: uint32(t.Received()), DesiredDataTransferLength: uint32(n),
	}
	var h pdu.BHS
	r.Encode(&h)
	c.engine.StampWindow(&h)
	c.engine.Tap().PDU(&h, nil, nil, iscsi.TapOut|iscsi.TapRDMA)
}

func (c *Conn) tapDataOut(t *iscsi.Task, data []byte) {
	for off, sn := 0, uint32(0); off < len(data); sn++ {
		n := min(maxTapData, len(data)-off)
		d := pdu.DataOut{
			Final: off+n == len(data), LUN: t.LUN, InitiatorTaskTag: t.InitiatorTaskTag, TargetTransferTag: tapTag,
			ExpStatSN: c.engine.StatSN(), DataSN: sn, BufferOffset: uint32(t.Received() + off), DataLen: n,
		}
		var h pdu.BHS
		d.Encode(&h)
		c.engine.Tap().PDU(&h, nil, data[off:off+n], iscsi.TapRDMA)
		off += n
	}
}

package tcp

import (
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// maxOpenR2T bounds the R2Ts of one task that are open at once, whatever
// MaxOutstandingR2T allows.
const maxOpenR2T = 8

// transfer is a task whose data-out is being asked for, RFC 7143 §11.8: R2Ts
// in order of their offset, each answered by one burst of Data-Out PDUs.
type transfer struct {
	task  *iscsi.Task
	asked int // end of what was asked for
	open  [maxOpenR2T]openR2T
	n     int
}

type openR2T struct {
	tag   uint32 // TargetTransferTag
	burst iscsi.Burst
}

// transfers are those of one connection, by InitiatorTaskTag.
type transfers struct {
	byTag map[uint32]*transfer
	free  []*transfer
	tag   uint32
}

func (x *transfers) init() { x.byTag = make(map[uint32]*transfer) }

func (x *transfers) nextTag() uint32 {
	if x.tag++; x.tag == pdu.ReservedTag {
		x.tag = 1
	}
	return x.tag
}

func (x *transfers) end(t *transfer) {
	delete(x.byTag, t.task.InitiatorTaskTag)
	*t = transfer{}
	x.free = append(x.free, t)
}

// GetData implements iscsi.Datamover.
func (c *Conn) GetData(t *iscsi.Task) {
	x := &c.transfers
	var tr *transfer
	if n := len(x.free); n > 0 {
		tr, x.free = x.free[n-1], x.free[:n-1]
	} else {
		tr = &transfer{}
	}
	tr.task, tr.asked = t, t.Received()
	x.byTag[t.InitiatorTaskTag] = tr
	c.ask(tr)
}

// Forget implements iscsi.Datamover.
func (c *Conn) Forget(t *iscsi.Task) {
	if tr := c.transfers.byTag[t.InitiatorTaskTag]; tr != nil && tr.task == t {
		c.transfers.end(tr)
	}
}

// ask sends as many R2Ts as may be open.
func (c *Conn) ask(tr *transfer) {
	p := c.engine.Params()
	limit := min(p.MaxOutstandingR2T, maxOpenR2T)
	for tr.n < limit && tr.asked < tr.task.Expected() {
		n := min(p.MaxBurstLength, tr.task.Expected()-tr.asked)
		o := openR2T{tag: c.transfers.nextTag(), burst: iscsi.Burst{Next: tr.asked, End: tr.asked + n}}
		r := pdu.R2T{
			LUN: tr.task.LUN, InitiatorTaskTag: tr.task.InitiatorTaskTag, TargetTransferTag: o.tag,
			StatSN: c.engine.StatSN(), R2TSN: tr.task.DataSN,
			BufferOffset: uint32(tr.asked), DesiredDataTransferLength: uint32(n),
		}
		var h pdu.BHS
		r.Encode(&h)
		c.engine.StampWindow(&h)
		c.SendControl(&h, nil)
		tr.task.DataSN++
		tr.asked += n
		tr.open[tr.n] = o
		tr.n++
	}
}

// find returns the transfer that a solicited Data-Out PDU belongs to.
func (c *Conn) find(d *pdu.DataOut) *transfer {
	tr := c.transfers.byTag[d.InitiatorTaskTag]
	if tr == nil || tr.n == 0 || tr.open[0].tag != d.TargetTransferTag {
		return nil
	}
	return tr
}

// beginDataOut finds the place of a solicited Data-Out PDU that is still being
// received; nil means that the PDU will not be taken.
func (c *Conn) beginDataOut(h *pdu.BHS) []byte {
	var d pdu.DataOut
	if d.Decode(h) != nil {
		return nil
	}
	tr := c.find(&d)
	if tr == nil {
		return nil
	}
	b := tr.open[0].burst
	if !b.Accept(&d, false) {
		return nil
	}
	return tr.task.Place(int(d.BufferOffset), d.DataLen)
}

// dataOut takes a Data-Out PDU that answers an R2T, RFC 7143 §11.7.
func (c *Conn) dataOut(h *pdu.BHS, data []byte) error {
	if !c.engine.LoggedIn() {
		return c.engine.Receive(h, nil, data)
	}
	var d pdu.DataOut
	if err := d.Decode(h); err != nil {
		c.engine.Reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	tr := c.find(&d)
	if tr == nil || !tr.open[0].burst.Accept(&d, false) {
		return c.engine.StrayDataOut(h, &d)
	}
	t := tr.task
	t.Fill(int(d.BufferOffset), data)
	if d.Final {
		tr.n--
		copy(tr.open[:], tr.open[1:tr.n+1])
		if tr.asked < t.Expected() {
			c.ask(tr)
		}
		if tr.n == 0 {
			c.transfers.end(tr)
		}
	}
	t.Arrived(d.DataLen)
	return nil
}

package iser

import (
	"fmt"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu"
)

// slotBits: an InitiatorTaskTag has the slot in its low bits and a generation
// above.
const slotBits = 12

// fill queues all commands that depth, window and workload give.
func (p *Pipeline) fill(w initiator.Workload) error {
	var now time.Duration
	for len(p.free) > 0 && !pdu.SNLess(p.maxCmdSN, p.cmdSN) {
		s := &p.slots[p.free[len(p.free)-1]]
		if !w.Next(&s.io) {
			return nil
		}
		if now == 0 {
			now = time.Since(p.cfg.Origin)
		}
		p.free = p.free[:len(p.free)-1]
		if err := p.issue(s, now); err != nil {
			return err
		}
	}
	return nil
}

// issue queues one command with its immediate data. All other data is for the
// target to read: there is no unsolicited Data-Out.
func (p *Pipeline) issue(s *slot, now time.Duration) error {
	io := &s.io
	s.tag += 1 << slotBits
	if s.tag>>slotBits == 0xffffffff>>slotBits { // stay clear of the reserved tag
		s.tag = uint32(io.Slot)
	}
	s.busy = true
	io.Issued, io.Received, io.Sense = now, 0, nil
	io.Response, io.Status = pdu.ResponseCompleted, 0
	var ih iser.Header
	sge := p.sge[2*io.Slot : 2*io.Slot+1 : 2*io.Slot+2]
	immediate := 0
	if io.Length > 0 {
		g, err := p.regionOf(io)
		if err != nil {
			return err
		}
		if io.Write {
			immediate = min(io.Length, p.immediate)
			base := verbs.Addr(io.Data)
			if immediate > 0 {
				sge = append(sge, verbs.SGE{Addr: base, Len: uint32(immediate), LKey: g.lkey})
			}
			if immediate < io.Length {
				ih = iser.Header{WSV: true, WriteSTag: g.rkey, WriteBase: base + uint64(immediate)}
			}
		} else {
			ih = iser.Header{RSV: true, ReadSTag: g.rkey, ReadBase: g.base}
			if io.Data != nil {
				ih.ReadBase = verbs.Addr(io.Data)
			}
		}
	}
	p.encode(s, &ih, immediate)
	lkey, _ := p.c.pool.LKey(s.head)
	sge[0] = verbs.SGE{Addr: verbs.Addr(s.head), Len: headLen, LKey: lkey}
	p.wr = append(p.wr, verbs.SendWR{ID: pipeBit | uint64(io.Slot), Op: verbs.OpSend, SG: sge})
	return nil
}

// encode writes the message of a command.
func (p *Pipeline) encode(s *slot, ih *iser.Header, immediate int) {
	io := &s.io
	c := pdu.SCSICommand{
		Final: true, Read: !io.Write && io.Length > 0, Write: io.Write, Attr: pdu.AttrSimple,
		LUN: io.LUN, InitiatorTaskTag: s.tag, ExpectedDataTransferLength: uint32(io.Length),
		CmdSN: p.cmdSN, ExpStatSN: p.expStatSN, CDB: io.CDB, DataLen: immediate,
	}
	p.cmdSN++
	ih.Encode(s.head)
	c.Encode((*pdu.BHS)(s.head[iser.HeaderLen:]))
}

// handle does what one received PDU calls for.
func (p *Pipeline) handle(msg *iser.Message, w initiator.Workload, now time.Duration) error {
	h := msg.BHS
	if m := h.MaxCmdSN(); pdu.SNLess(p.maxCmdSN, m) {
		p.maxCmdSN = m
	}
	switch op := h.Opcode(); op {
	case pdu.OpSCSIResponse:
		return p.response(msg, w, now)
	case pdu.OpNOPIn:
		return p.answer(h, msg.Data)
	case pdu.OpAsyncMessage:
		p.expStatSN = h.StatSN() + 1
		return nil
	case pdu.OpReject:
		var rej pdu.Reject
		if err := rej.Decode(h); err != nil || len(msg.Data) < pdu.BHSLen {
			return fmt.Errorf("%w: bad Reject", errMessage)
		}
		return &initiator.RejectError{Reason: rej.Reason, Header: pdu.BHS(msg.Data[:pdu.BHSLen])}
	default:
		return fmt.Errorf("%w: unexpected %v", errMessage, op)
	}
}

// response ends a command.
func (p *Pipeline) response(msg *iser.Message, w initiator.Workload, now time.Duration) error {
	var r pdu.SCSIResponse
	if err := r.Decode(msg.BHS); err != nil {
		return err
	}
	i := int(r.InitiatorTaskTag & (1<<slotBits - 1))
	if i >= len(p.slots) || p.slots[i].tag != r.InitiatorTaskTag || !p.slots[i].busy {
		return fmt.Errorf("%w: response to InitiatorTaskTag %#x, which is not in flight", errMessage, r.InitiatorTaskTag)
	}
	s := &p.slots[i]
	io := &s.io
	io.Response, io.Status = r.Response, r.Status
	if len(msg.Data) > 2 {
		io.Sense = msg.Data[2:]
	}
	if !io.Write && r.Status == 0 {
		io.Received = io.Length
		if r.Underflow {
			io.Received = max(0, io.Length-int(r.ResidualCount))
		}
	}
	p.expStatSN++
	err := w.Done(io, now)
	s.busy = false
	p.free = append(p.free, i)
	return err
}

// answer answers a target's ping, RFC 7143 §11.19.
func (p *Pipeline) answer(in *pdu.BHS, data []byte) error {
	if in.TargetTransferTag() == pdu.ReservedTag {
		return nil
	}
	out := pdu.NOPOut{
		Immediate: true, LUN: in.LUN(), InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: in.TargetTransferTag(),
		CmdSN: p.cmdSN, ExpStatSN: p.expStatSN, DataLen: len(data),
	}
	if p.pong == nil {
		b, err := p.c.hold(Recv)
		if err != nil {
			return err
		}
		p.pong = b.B
	}
	mem := p.pong
	(&iser.Header{}).Encode(mem)
	out.Encode((*pdu.BHS)(mem[iser.HeaderLen:]))
	n := headLen + copy(mem[headLen:], data)
	lkey, _ := p.c.pool.LKey(mem)
	p.wr = append(p.wr, verbs.SendWR{
		ID: pipeBit, Op: verbs.OpSend, SG: []verbs.SGE{{Addr: verbs.Addr(mem), Len: uint32(n), LKey: lkey}},
	})
	return nil
}

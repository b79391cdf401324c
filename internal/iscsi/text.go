package iscsi

import (
	"strconv"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// textTag is the TargetTransferTag of text exchanges: there is one at a time.
const textTag uint32 = 0x54585400

// maxTextData bounds the data segment of a Text Response whatever the
// initiator takes.
const maxTextData = 8192

// textExchange is a Text Request with all its PDUs and the answer's, RFC 7143
// §11.10: a long request comes with the C bit, a long answer goes in pieces
// that the initiator asks for.
type textExchange struct {
	in  text.Collector
	out []byte
	own bool // out is being sent
}

func (c *Conn) textRequest(h *pdu.BHS, data []byte) error {
	var p pdu.TextRequest
	if err := p.Decode(h); err != nil || p.InitiatorTaskTag == pdu.ReservedTag || p.Final && p.Continue {
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	x := &c.text
	switch p.TargetTransferTag {
	case pdu.ReservedTag:
		*x = textExchange{} // a new exchange ends the old one
	case textTag:
		if x.own {
			c.textResponse(&p)
			return nil
		}
	default:
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	complete, err := x.in.Add(data, p.Continue)
	if err != nil {
		c.reject(h, pdu.RejectProtocolError)
		*x = textExchange{}
		return nil
	}
	if !complete {
		c.sendText(&p, nil, false, false)
		return nil
	}
	pairs, err := x.in.Pairs()
	if err != nil {
		c.reject(h, pdu.RejectProtocolError)
		*x = textExchange{}
		return nil
	}
	x.out = c.answerText(nil, pairs)
	x.own = true
	c.textResponse(&p)
	return nil
}

// textResponse sends the next piece of the answer.
func (c *Conn) textResponse(p *pdu.TextRequest) {
	x := &c.text
	n := min(len(x.out), c.params.InitiatorMaxRecvDataSegmentLength, maxTextData)
	piece := x.out[:n]
	x.out = x.out[n:]
	if more := len(x.out) > 0; more {
		c.sendText(p, piece, false, true)
		return
	}
	// The target may only say it is done where the initiator is: F answers F.
	c.sendText(p, piece, p.Final, false)
	if p.Final {
		*x = textExchange{}
	}
}

func (c *Conn) sendText(p *pdu.TextRequest, data []byte, final, more bool) {
	r := pdu.TextResponse{
		Final: final, Continue: more, LUN: p.LUN,
		InitiatorTaskTag: p.InitiatorTaskTag, TargetTransferTag: textTag, DataLen: len(data),
	}
	if final {
		r.TargetTransferTag = pdu.ReservedTag
	}
	var h pdu.BHS
	r.Encode(&h)
	c.stamp(&h)
	c.dm.SendControl(&h, data)
}

// answerText answers the keys that may come in the full feature phase.
func (c *Conn) answerText(dst []byte, pairs []text.Pair) []byte {
	for _, kv := range pairs {
		switch kv.Key {
		case "SendTargets":
			dst = c.sendTargets(dst, kv.Value)
		case "MaxRecvDataSegmentLength":
			// A declaration: nothing to answer, RFC 7143 §13.12.
			if n, err := strconv.Atoi(kv.Value); err == nil && n >= 512 && n <= 1<<24-1 {
				c.params.InitiatorMaxRecvDataSegmentLength = n
			} else {
				dst = text.Append(dst, kv.Key, "Reject")
			}
		case "InitiatorAlias", "InitiatorName":
		default:
			dst = text.Append(dst, kv.Key, "NotUnderstood")
		}
	}
	return dst
}

func (c *Conn) sendTargets(dst []byte, which string) []byte {
	s := c.session
	if which == "All" && !s.Discovery {
		// RFC 7143 appendix C: "All" is for discovery sessions.
		return text.Append(dst, "SendTargets", "Reject")
	}
	if which == "" && s.Discovery {
		return text.Append(dst, "SendTargets", "Reject")
	}
	for _, r := range c.env.SendTargets(s, which) {
		dst = text.Append(dst, "TargetName", r.Name)
		for _, a := range r.Addresses {
			dst = text.Append(dst, "TargetAddress", a)
		}
	}
	return dst
}

// pinger is the target's own NOP-In, RFC 7143 §11.19.
type pinger struct {
	tag  uint32
	open bool
}

// Ping asks the initiator for a sign of life. It reports false when the last
// one is still unanswered.
func (c *Conn) Ping() bool {
	if c.state != fullFeature {
		return true
	}
	if c.ping.open {
		return false
	}
	c.ping.tag = (c.ping.tag + 1) &^ 0x80000000
	c.ping.open = true
	p := pdu.NOPIn{InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: c.ping.tag, StatSN: c.statSN}
	var h pdu.BHS
	p.Encode(&h)
	c.StampWindow(&h) // no status: StatSN does not advance, §11.19.1
	c.dm.SendControl(&h, nil)
	return true
}

// PingOpen reports whether a Ping awaits its answer.
func (c *Conn) PingOpen() bool { return c.ping.open }

func (c *Conn) nopOut(h *pdu.BHS, data []byte) error {
	var p pdu.NOPOut
	if err := p.Decode(h); err != nil {
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	if p.TargetTransferTag == c.ping.tag {
		c.ping.open = false
	}
	if p.InitiatorTaskTag == pdu.ReservedTag {
		return nil // an answer, or a NOP-Out that wants none
	}
	data = data[:min(len(data), c.params.InitiatorMaxRecvDataSegmentLength)]
	r := pdu.NOPIn{LUN: p.LUN, InitiatorTaskTag: p.InitiatorTaskTag, TargetTransferTag: pdu.ReservedTag, DataLen: len(data)}
	var out pdu.BHS
	r.Encode(&out)
	c.stamp(&out)
	c.dm.SendControl(&out, data)
	return nil
}

// logout ends the connection and with it the session, RFC 7143 §11.14.
func (c *Conn) logout(h *pdu.BHS) error {
	var p pdu.LogoutRequest
	if err := p.Decode(h); err != nil || p.InitiatorTaskTag == pdu.ReservedTag {
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	r := pdu.LogoutResponse{
		InitiatorTaskTag: p.InitiatorTaskTag,
		Time2Wait:        uint16(c.params.DefaultTime2Wait),
		Time2Retain:      uint16(c.params.DefaultTime2Retain),
	}
	switch {
	case p.Reason == pdu.LogoutCloseSession:
	case p.Reason == pdu.LogoutCloseConnection && p.CID == c.session.Identity.CID:
	case p.Reason == pdu.LogoutCloseConnection:
		r.Response = pdu.LogoutCIDNotFound
	case p.Reason == pdu.LogoutRemoveConnectionRecovery:
		r.Response = pdu.LogoutRecoveryNotSupported
	default:
		c.reject(h, pdu.RejectInvalidPDUField)
		return nil
	}
	var out pdu.BHS
	r.Encode(&out)
	if r.Response != pdu.LogoutSuccess {
		c.stamp(&out)
		c.dm.SendControl(&out, nil)
		return nil
	}
	c.Abort(nil, ByNexus, func(int) {}) // the initiator gives up what is unanswered
	// What it had reserved is free when it hears that it is out.
	c.session.DetachAll()
	c.stamp(&out)
	c.dm.SendControl(&out, nil)
	c.state = loggedOut
	c.env.LoggedOut(p.Reason)
	return ErrLoggedOut
}

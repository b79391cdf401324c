package iscsi

import (
	"encoding/binary"
	"errors"

	"github.com/iserd/iserd/pdu"
)

// ErrDropped follows a Drop: send what is queued, then close.
var ErrDropped = errors.New("dropped")

// RequestLogout asks the initiator to log out within seconds, RFC 7143
// §11.9.1, event 1. It reports false when there is nobody to ask.
func (c *Conn) RequestLogout(seconds uint16) bool {
	return c.async(&pdu.AsyncMessage{Event: pdu.AsyncLogoutRequest, Parameter3: seconds}, nil)
}

// Drop tells the initiator what the target drops (RFC 7143 §11.9.1), the connection
// for a fault of it (event 2) or the session (event 3), and ends all tasks. Nothing
// more is taken: the connection is to be closed, and with it the session, which has
// no other. It returns ErrDropped, or nil when there is nobody to tell.
//
// Time2Retain is zero: at ErrorRecoveryLevel 0 nothing of a session is kept.
func (c *Conn) Drop(what pdu.AsyncEvent) error {
	if c.state != fullFeature {
		return nil
	}
	c.Abort(nil, ByNexus, func(int) {})
	m := pdu.AsyncMessage{Event: what, Parameter2: uint16(c.params.DefaultTime2Wait)}
	if what == pdu.AsyncDropConnection {
		m.Parameter1 = c.session.Identity.CID
	}
	c.async(&m, nil)
	c.state = loggedOut
	return ErrDropped
}

// SCSIEvent reports an event of a logical unit by its sense data, RFC 7143 §11.9.1,
// event 0. The unit attention condition stays.
func (c *Conn) SCSIEvent(lun pdu.LUN, sense []byte) {
	data := binary.BigEndian.AppendUint16(nil, uint16(len(sense))) // SenseLength, §11.9.4
	c.async(&pdu.AsyncMessage{Event: pdu.AsyncSCSI, LUN: lun}, append(data, sense...))
}

// async sends an Asynchronous Message in the full feature phase.
func (c *Conn) async(p *pdu.AsyncMessage, data []byte) bool {
	if c.state != fullFeature {
		return false
	}
	p.DataLen = len(data)
	var h pdu.BHS
	p.Encode(&h)
	c.stamp(&h)
	c.dm.SendControl(&h, data)
	return true
}

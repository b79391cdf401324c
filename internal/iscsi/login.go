package iscsi

import (
	"errors"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// receiveLogin hands a PDU to the login phase (RFC 7143 §6.3), which is a
// machine of its own and gone once the session is admitted.
func (c *Conn) receiveLogin(h *pdu.BHS, data []byte) error {
	return c.loginReply(c.login.Step(h, data))
}

func (c *Conn) loginReply(r login.Reply) error {
	switch r.State {
	case login.Admit:
		c.state = admitting
		c.env.Admit(c.login.Result())
		return nil
	case login.Failed:
		if c.refusal == nil {
			c.refusal = r.Err
			c.env.LoginFailed(r.Err)
		}
		if r.Send {
			c.sendLogin(&r)
		}
		return ErrLoginFailed
	default:
		if r.Send {
			c.sendLogin(&r)
		}
		return nil
	}
}

func (c *Conn) sendLogin(r *login.Reply) {
	var h pdu.BHS
	r.Response.Encode(&h)
	c.dm.SendControl(&h, r.Data)
}

// Admitted ends the login: the session is there. The response goes out with
// the parameters of the login phase; what follows uses the negotiated ones.
func (c *Conn) Admitted(s *Session) error {
	if c.state != admitting {
		return errors.New("session admitted outside of a login")
	}
	res := c.login.Result()
	r := c.login.Admitted(s.TSIH)
	if r.State == login.Failed {
		return c.loginReply(r)
	}
	c.session = s
	c.params = res.Params
	s.window.expCmdSN = res.ExpCmdSN
	if c.rdma != nil {
		s.window.depth = min(s.window.depth, uint32(c.rdma.CommandWindow(&c.params)))
	}
	r.Response.MaxCmdSN = s.window.maxCmdSN()
	c.statSN = c.login.Result().StatSN
	c.state = fullFeature
	c.sendLogin(&r)
	c.dm.EnableDatamover(&c.params)
	c.login = nil
	return nil
}

// Refused ends the login with a status and, for the log, its reason.
func (c *Conn) Refused(why *login.Refusal) error {
	if c.state != admitting {
		return errors.New("session refused outside of a login")
	}
	return c.loginReply(c.login.Refuse(why))
}

package actors

import (
	"time"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// LoginFailed implements iscsi.Env.
func (a *connActor) LoginFailed(why *login.Refusal) { a.logRefusal(why) }

// logRefusal records why a login failed: in the log once, in the list of
// refusals always. The peer is told no more than the status.
func (a *connActor) logRefusal(r *login.Refusal) {
	id := a.machine.Result().Identity
	if r.Status.Class() == pdu.ClassRedirection {
		a.n.logins.redirected(r.Status)
		a.log.Info("login redirected", "initiator", id.InitiatorName, "target", id.TargetName, "to", r.RedirectAddress)
		return
	}
	rec := LoginRefusal{
		Initiator: id.InitiatorName, Address: a.peer, Target: id.TargetName, Discovery: id.Discovery,
		Status: r.Status, Reason: r.Reason, Last: time.Now(),
	}
	if l := a.portal.listener; l != nil {
		rec.Portal = l.Addr().String()
	}
	say := a.log.Debug
	if a.n.logins.refused(rec) {
		say = a.log.Warn
	}
	say("login refused", "initiator", id.InitiatorName, "target", id.TargetName,
		"status", r.Status.String(), "reason", r.Reason)
}

// broken tells about a connection that ended by an error.
func (a *connActor) broken(err error) {
	inLogin := a.engine.Session() == nil && a.engine.Refusal() == nil
	switch {
	case inLogin && !ordinary(err):
		a.logRefusal(refuse(pdu.LoginInitiatorError, "the connection broke during the login: %v", err))
	case inLogin && a.machine.Result().Identity.InitiatorName != "":
		a.logRefusal(refuse(pdu.LoginInitiatorError, "the initiator closed the connection during the login"))
	case !ordinary(err):
		a.log.Warn("connection closed", "reason", err)
	}
}

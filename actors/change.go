package actors

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/iserd/iserd/pdu/login"
)

// dismissed has a target end the sessions that must not stay.
type dismissed struct {
	stays func(initiator string, peer netip.Addr) bool
}

// Replacement is a configuration of a target that took the place of another.
type Replacement struct {
	t        *Target
	old, now *TargetConfig
}

// Replace puts another configuration into force. The name stays. Sessions go on:
// their LUNs are mapped anew, what was negotiated stays as it is, and a changed
// secret counts from the next login. Settle or Undo follows.
func (t *Target) Replace(cfg TargetConfig) (*Replacement, error) {
	if cfg.Name != t.name {
		return nil, fmt.Errorf("target %s cannot become %s", t.name, cfg.Name)
	}
	if cfg.Session.MaxBurstLength == 0 {
		cfg.Session = login.DefaultLimits()
	}
	if err := cfg.Session.Validate(); err != nil {
		return nil, fmt.Errorf("target %s: %w", t.name, err)
	}
	r := &Replacement{t: t, now: &cfg, old: t.cfg.Swap(&cfg)}
	t.n.sys.Send(t.ref, lunMapChanged{})
	return r, nil
}

// Undo puts the earlier configuration back into force.
func (r *Replacement) Undo() {
	r.t.cfg.Store(r.old)
	r.t.n.sys.Send(r.t.ref, lunMapChanged{})
}

// Settle ends the sessions that the new configuration does not admit, and those
// whose right to write has changed: they come back with the new one.
func (r *Replacement) Settle() {
	r.t.n.sys.Send(r.t.ref, dismissed{func(initiator string, peer netip.Addr) bool {
		return r.now.admits(initiator, peer) == nil &&
			slices.Equal(r.old.Initiators[initiator].ReadOnly, r.now.Initiators[initiator].ReadOnly)
	}})
}

// SetOffline makes the target refuse logins and asks the initiators that are
// logged in to log out, and after Limits.LogoutTimeout drops those that have not; or
// makes it admit them again.
func (t *Target) SetOffline(offline bool) {
	t.offline.Store(offline)
	if offline {
		t.n.sys.Send(t.ref, logoutAll{})
	}
}

// Describe implements runtime.Describer.
func (a *targetActor) Describe() any {
	return map[string]any{
		"target": a.t.name, "offline": a.t.offline.Load(), "nexuses": len(a.nexuses),
		"task_management": len(a.running), "waiting_logins": len(a.waiting),
	}
}

// Describe implements runtime.Describer.
func (a *supervisor) Describe() any {
	return map[string]any{
		"connections": len(a.conns), "sessions": len(a.sessions), "not_logged_in": a.strange, "draining": len(a.draining) > 0,
	}
}

// Describe implements runtime.Describer.
func (a *sessionActor) Describe() any {
	id := &a.result.Identity
	return map[string]any{
		"tsih": a.tsih, "initiator": id.InitiatorName, "target": id.TargetName, "isid": id.ISID.String(), "user": a.result.User,
	}
}

// Describe implements runtime.Describer.
func (a *lunActor) Describe() any {
	d := map[string]any{"lun": a.l.name, "state": a.l.State()}
	if u := a.l.unit; u != nil {
		d["commands_in_backend"], d["blocks"], d["block_size"] = u.Inflight(), u.Capacity(), u.BlockSize()
	}
	return d
}

// Describe implements runtime.Describer.
func (a *connActor) Describe() any {
	d := map[string]any{"peer": a.peer.String(), "tasks": a.engine.Outstanding(), "closing": a.lingering}
	if s := a.engine.Session(); s != nil {
		d["tsih"], d["initiator"] = s.TSIH, s.Identity.InitiatorName
	}
	return d
}

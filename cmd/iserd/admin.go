package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/luns/scsi"
)

// admin shows and operates a running daemon: it implements api.Daemon.
type admin struct {
	*control
	started time.Time

	events eventLog

	hashMu sync.Mutex
	hashed *config.Config // what hash is of; configurations are replaced, never changed
	hash   string
}

var _ api.Daemon = (*admin)(nil)

func newAdmin(c *control) *admin {
	a := &admin{control: c, started: time.Now()}
	c.d.server.OnFault(func(f iserd.Fault) { a.events.publish("fault", faultJSON(&f)) })
	c.d.server.OnRefusal(func(r iserd.Refusal) { a.events.publish("refusal", refusalJSON(&r)) })
	return a
}

func (a *admin) inForce() (*config.Config, reloadResult, map[string]*config.Config) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running, a.last, a.made
}

func (a *admin) pendingNow() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending
}

func (a *admin) Status(ctx context.Context) (*api.Status, error) {
	c, last, _ := a.inForce()
	pending := a.pendingNow()
	sessions, err := a.d.server.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	s := &api.Status{
		Version: readVersion().Version, Node: c.Node.Name, PID: os.Getpid(), Started: a.started,
		Portals: len(a.d.server.Portals()), Sessions: len(sessions),
		BufferBytes: a.d.server.BuffersInUse(), BufferLimit: a.d.server.BufferLimit(),
		Faults: a.d.server.ActorTotals().Failures, Warnings: []string{},
		Config: api.Config{Hash: a.hashOf(c), Files: c.Files, Changed: last.at},
	}
	for _, t := range a.d.server.Targets() {
		s.Targets++
		for _, l := range t.Info().LUNs {
			s.LUNs++
			if l.State != "online" {
				s.Warnings = append(s.Warnings, fmt.Sprintf("LUN %d of %s is %s", l.Number, t.Name(), l.State))
			}
		}
	}
	for status, n := range a.d.server.LoginTotals() {
		if status == 0 {
			s.Logins = n
		} else {
			s.Refused += n
		}
	}
	if len(pending) > 0 {
		s.Warnings = append(s.Warnings, "waiting for a restart of the daemon: "+strings.Join(pending, ", "))
	}
	if last.err != nil {
		s.Config.LastError = last.err.Error()
		s.Warnings = append(s.Warnings, "the last change of the configuration was not applied")
	}
	return s, nil
}

// hashOf is the digest of a configuration in force. Pages ask again and again, and to
// print it takes longer than all else that they ask for.
func (a *admin) hashOf(c *config.Config) string {
	a.hashMu.Lock()
	defer a.hashMu.Unlock()
	if a.hashed != c {
		sum := sha256.Sum256(config.Print(c))
		a.hashed, a.hash = c, hex.EncodeToString(sum[:4])
	}
	return a.hash
}

func (a *admin) Portals(context.Context) ([]api.Portal, error) {
	out := []api.Portal{}
	for _, p := range a.d.server.Portals() {
		x := api.Portal{Address: p.Address, Group: p.Group, Tag: p.Tag, Transports: []string{}, Providers: p.ISER, Advertised: p.Advertised, Redirect: redirectText(p.Redirect)}
		if p.TCP {
			x.Transports = append(x.Transports, "tcp")
		}
		if len(p.ISER) > 0 {
			x.Transports = append(x.Transports, "iser")
		}
		out = append(out, x)
	}
	return out, nil
}

func redirectText(r *iserd.Redirect) string {
	if r == nil {
		return ""
	}
	return r.Address
}

func (a *admin) Targets(ctx context.Context) ([]api.Target, error) {
	c, _, made := a.inForce()
	sessions, err := a.d.server.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for i := range sessions {
		count[sessions[i].Target]++
	}
	out := []api.Target{}
	for _, t := range a.d.server.Targets() {
		i := t.Info()
		x := api.Target{
			Name: i.Name, Alias: i.Alias, Auth: i.Auth, Origin: "file", Offline: i.Offline,
			Redirect: redirectText(i.Redirect), Groups: list(i.Groups), Initiators: list(i.InitiatorNames), Sessions: count[i.Name], LUNs: []api.LUN{},
		}
		if made[i.Name] != nil {
			x.Origin = "api"
		}
		for k := range i.LUNs {
			l := lunJSON(&i.LUNs[k], lunOf(targetOf(c, i.Name), i.LUNs[k].Number))
			l.ALUA = aluaJSON(c, &i.LUNs[k].Ports)
			x.LUNs = append(x.LUNs, l)
		}
		out = append(out, x)
	}
	return out, nil
}

// list is s, but never null in JSON.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func lunJSON(i *iserd.LUNInfo, l *config.LUN) api.LUN {
	x := api.LUN{
		Number: i.Number, State: i.State, Size: int64(i.Blocks) * int64(i.BlockSize), BlockSize: i.BlockSize,
		ReadOnly: i.ReadOnly, Thin: i.Thin, Serial: i.Serial, NAA: fmt.Sprintf("naa.%016x", i.NAA),
		Stats: statsJSON(&i.Stats), Actor: i.ActorPath,
	}
	if l != nil {
		x.Backend = string(l.Backend.Kind) + "/" + l.Backend.Name
	}
	r := &i.Reservations
	if r.Type != 0 || r.Lost || len(r.Registrations) > 0 || r.Reserved != "" {
		x.Reservations = &api.Reservations{Generation: r.Generation, Lost: r.Lost, Reserved: r.Reserved, Registered: []api.Registrant{}}
		if r.Type != 0 {
			x.Reservations.Type = r.Type.String()
		}
		for _, g := range r.Registrations {
			x.Reservations.Registered = append(x.Reservations.Registered,
				api.Registrant{Initiator: g.InitiatorName, Key: fmt.Sprintf("%016x", g.Key), Holder: g.Holder})
		}
	}
	return x
}

func statsJSON(s *scsi.Stats) api.Stats {
	x := api.Stats{
		Ops: map[string]uint64{}, Read: s.BytesRead, Written: s.BytesWritten, InFlight: s.InFlight,
		Errors: map[string]uint64{}, Conflicts: s.Conflicts, Busy: s.Busy, Aborted: s.Aborted, Latency: []api.Latency{},
	}
	for op, n := range s.Ops {
		x.Ops[scsi.OpClass(op).String()] = n
	}
	for key, n := range s.Sense {
		if n > 0 {
			x.Errors[scsi.SenseKey(key).String()] = n
		}
	}
	for op := range s.Latency {
		for stage := range s.Latency[op] {
			if h := &s.Latency[op][stage]; h.Count() > 0 {
				x.Latency = append(x.Latency, api.Latency{
					Op: scsi.LatencyClass(op).String(), Stage: scsi.Stage(stage).String(),
					Counts: append([]uint64(nil), h.Counts[:]...), Nanoseconds: h.Nanoseconds,
				})
			}
		}
	}
	return x
}

func (a *admin) Sessions(ctx context.Context) ([]api.Session, error) {
	all, err := a.d.server.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Session{}
	for i := range all {
		s := &all[i]
		x := api.Session{
			TSIH: s.TSIH, ISID: s.ISID, Initiator: s.InitiatorName, Target: s.Target, User: s.User, Group: s.GroupTag,
			Transport: "tcp", Peer: s.Peer.String(), Since: s.Since, Actor: s.ActorPath,
			HeaderDigest: s.Params.HeaderDigest, DataDigest: s.Params.DataDigest, LUNs: []api.SessionLUN{},
		}
		if s.Params.RDMAExtensions {
			x.Transport = "iser"
		}
		for k := range s.LUNs {
			l := &s.LUNs[k]
			x.LUNs = append(x.LUNs, api.SessionLUN{LUN: l.LUN, Number: l.Number, ReadOnly: l.ReadOnly, Stats: statsJSON(&l.Stats)})
		}
		out = append(out, x)
	}
	return out, nil
}

func actorJSON(i *iserd.Actor) api.Actor {
	return api.Actor{
		Path: i.Path, Kind: i.Kind, Behaviour: i.Behaviour, State: i.State, Queued: i.Queued, MaxQueued: i.MaxQueued,
		Processed: i.Processed, Restarts: i.Restarts, Failures: i.Failures, LastMessage: i.LastMessage, Age: i.Age.Seconds(),
	}
}

func (a *admin) Actors(context.Context) ([]api.Actor, error) {
	out := []api.Actor{}
	for _, i := range a.d.server.Actors() {
		out = append(out, actorJSON(&i))
	}
	return out, nil
}

func (a *admin) Actor(ctx context.Context, path string) (*api.Actor, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	i, v, err := a.d.server.DescribeActor(ctx, path)
	if err != nil && i.Path == "" {
		return nil, kindOf(err)
	}
	x := actorJSON(&i)
	x.Details = v
	if err != nil {
		x.Silent = err.Error() // one that hangs or begins anew is shown all the same
	}
	for _, f := range a.d.server.Faults() {
		if f.Path == path {
			x.Faults = append(x.Faults, faultJSON(&f))
		}
	}
	return &x, nil
}

func (a *admin) ActorDo(_ context.Context, path, what string) error {
	switch what {
	case "restart":
		return kindOf(a.d.server.RestartActor(path))
	case "stop":
		return kindOf(a.d.server.StopActor(path))
	default:
		return api.Problemf(api.ErrInvalid, "do is restart, stop or inject, not %q", what)
	}
}

func (a *admin) Inject(_ context.Context, path, fault string, delay time.Duration) error {
	if c, _, _ := a.inForce(); !c.Console.FaultInjection {
		return api.Problemf(api.ErrForbidden, "faults can be injected only with console { fault_injection = true }, and after a restart of the daemon")
	}
	return kindOf(a.d.server.Inject(path, fault, delay))
}

func faultJSON(f *iserd.Fault) api.Fault {
	return api.Fault{
		Seq: f.Seq, Time: f.Time, Path: f.Path, Generation: f.Generation, Message: f.Message, Panic: f.Panic,
		Stack: f.Stack, Action: f.Action, Backoff: f.Backoff.Seconds(),
	}
}

func (a *admin) Faults(context.Context) ([]api.Fault, error) {
	out := []api.Fault{}
	for _, f := range a.d.server.Faults() {
		out = append(out, faultJSON(&f))
	}
	return out, nil
}

func refusalJSON(r *iserd.Refusal) api.Refusal {
	return api.Refusal{
		Initiator: r.Initiator, Address: r.Address.String(), Target: r.Target, Discovery: r.Discovery, Portal: r.Portal,
		Status: fmt.Sprintf("%04x", r.Status), Text: r.StatusText, Reason: r.Reason, First: r.First, Last: r.Last, Count: r.Count,
	}
}

func (a *admin) Refusals(context.Context) ([]api.Refusal, error) {
	out := []api.Refusal{}
	for _, r := range a.d.server.Refusals() {
		out = append(out, refusalJSON(&r))
	}
	return out, nil
}

func (a *admin) Logins(context.Context) (map[string]uint64, error) {
	out := map[string]uint64{"0000": 0, "0201": 0, "0202": 0} // what alarms look at is there from the beginning
	for status, n := range a.d.server.LoginTotals() {
		out[fmt.Sprintf("%04x", status)] = n
	}
	return out, nil
}

func (a *admin) Totals(ctx context.Context) (*api.Totals, error) {
	t, n := a.d.server.ActorTotals(), a.d.server.Traffic()
	pdus := make(map[api.PDUKind]uint64)
	for op, count := range n.PDUs {
		k := api.PDUKind{Opcode: op.String(), Dir: "in"}
		switch {
		case op.FromTarget():
			k.Dir = "out"
		case !op.FromInitiator():
			k.Opcode = "other" // whatever a peer thinks of: it shall not make labels
		}
		pdus[k] += count
	}
	devices, err := a.d.server.RDMADevices(ctx)
	if err != nil {
		return nil, err
	}
	var rdma []api.RDMADevice
	for _, d := range devices {
		rdma = append(rdma, api.RDMADevice(d))
	}
	return &api.Totals{
		PDUs: pdus, DigestErrors: map[string]uint64{"header": n.HeaderDigests, "data": n.DataDigests}, RDMA: rdma,
		ActorsSpawned: t.Spawned, ActorFailures: t.Failures, ActorRestarts: t.Restarts, ActorsGaveUp: t.GaveUp,
		BufferBytes: a.d.server.BuffersInUse(), BufferLimit: a.d.server.BufferLimit(),
	}, nil
}

func (a *admin) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return a.d.server.Ping(ctx)
}

// kindOf gives an error of the server its kind in the API.
func kindOf(err error) error {
	var e *exitError
	var invalid *errInvalid
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid), errors.Is(err, iserd.ErrInvalid):
		return api.Problemf(api.ErrInvalid, "%v", err)
	case errors.Is(err, iserd.ErrNotFound):
		return api.Problemf(api.ErrNotFound, "%v", err)
	case errors.Is(err, iserd.ErrForbidden):
		return api.Problemf(api.ErrForbidden, "%v", err)
	case errors.As(err, &e) && (e.code == exitBusy || e.code == exitNotFound):
		return api.Problemf(api.ErrConflict, "%v", err)
	default:
		return err
	}
}

func (a *admin) Logout(ctx context.Context, tsih uint16, force bool) error {
	return kindOf(a.d.server.LogoutSession(ctx, tsih, force))
}

func (a *admin) onTarget(name string, f func(*iserd.Target) error) error {
	t := a.d.server.Target(name)
	if t == nil {
		return api.Problemf(api.ErrNotFound, "there is no target %s", name)
	}
	return kindOf(f(t))
}

func (a *admin) SetTargetOffline(_ context.Context, target string, offline bool) error {
	return a.onTarget(target, func(t *iserd.Target) error { t.SetOffline(offline); return nil })
}

func (a *admin) SetLUNOffline(ctx context.Context, target string, lun uint16, offline bool) error {
	return a.onTarget(target, func(t *iserd.Target) error { return t.SetLUNOffline(ctx, lun, offline) })
}

func (a *admin) ClearReservations(_ context.Context, target string, lun uint16) error {
	return a.onTarget(target, func(t *iserd.Target) error { return t.ClearReservations(lun) })
}

func (a *admin) LogLevels(context.Context) (*api.LogLevels, error) {
	root, parts := a.levels.get()
	if parts == nil {
		parts = map[string]string{}
	}
	return &api.LogLevels{Level: root, Levels: parts}, nil
}

func (a *admin) SetLogLevels(_ context.Context, l *api.LogLevels) error {
	for _, level := range append([]string{l.Level}, valuesOf(l.Levels)...) {
		switch level {
		case "trace", "debug", "info", "warn", "error", "off":
		default:
			return api.Problemf(api.ErrInvalid, "level %q: it is trace, debug, info, warn, error or off", level)
		}
	}
	a.levels.set(l.Level, l.Levels)
	return nil
}

func valuesOf(m map[string]string) (out []string) {
	for v := range maps.Values(m) {
		out = append(out, v)
	}
	return out
}

func (a *admin) ConfigText(context.Context) ([]byte, error) {
	c, _, _ := a.inForce()
	return config.Print(c), nil
}

func (a *admin) Plan(context.Context) (*api.Plan, error) {
	changes, diags, err := a.plan()
	p := planJSON(changes, diags)
	p.Drift = changesJSON(a.drift())
	return p, kindOf(err)
}

func (a *admin) Reload(ctx context.Context) (*api.Plan, error) {
	changes, diags, err := a.reload(ctx)
	e := api.ConfigEvent{Time: time.Now(), Changes: len(changes)}
	if err != nil {
		e.Error = err.Error()
	}
	a.events.publish("config", &e)
	return planJSON(changes, diags), kindOf(err)
}

func planJSON(changes []config.Change, diags config.Diagnostics) *api.Plan {
	p := &api.Plan{Changes: changesJSON(changes), Drift: []api.Change{}, Diagnostics: []api.Diagnostic{}}
	for _, d := range diags.Entries() {
		p.Diagnostics = append(p.Diagnostics, api.Diagnostic(d))
	}
	return p
}

func changesJSON(changes []config.Change) []api.Change {
	out := []api.Change{}
	for i := range changes {
		c := &changes[i]
		x := api.Change{Action: c.Action.String(), Object: c.Object(), Effect: c.Effect(), Text: c.String(), Details: []api.Detail{}}
		for _, d := range c.Details {
			x.Details = append(x.Details, api.Detail(d))
		}
		out = append(out, x)
	}
	return out
}

// number is a LUN as a label.
func number(n uint16) string { return strconv.Itoa(int(n)) }

package console

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iserd/iserd/api"
)

// Source is where the screens get what they show, and what they operate. An
// *api.Client is one.
type Source interface {
	Status(ctx context.Context) (*api.Status, error)
	Targets(ctx context.Context) ([]api.Target, error)
	Sessions(ctx context.Context) ([]api.Session, error)
	Actors(ctx context.Context) ([]api.Actor, error)
	Actor(ctx context.Context, path string) (*api.Actor, error)
	Faults(ctx context.Context) ([]api.Fault, error)
	Refusals(ctx context.Context) ([]api.Refusal, error)
	ActorDo(ctx context.Context, path, what string) error
}

// snapshot is the daemon at one moment.
type snapshot struct {
	at       time.Time
	status   *api.Status
	targets  []api.Target
	sessions []api.Session
	actors   []api.Actor
	faults   []api.Fault
	refusals []api.Refusal
}

func look(ctx context.Context, s Source, now time.Time) (*snapshot, error) {
	x := &snapshot{at: now}
	var err error
	for _, step := range []func() error{
		func() error { x.status, err = s.Status(ctx); return err },
		func() error { x.targets, err = s.Targets(ctx); return err },
		func() error { x.sessions, err = s.Sessions(ctx); return err },
		func() error { x.actors, err = s.Actors(ctx); return err },
		func() error { x.faults, err = s.Faults(ctx); return err },
		func() error { x.refusals, err = s.Refusals(ctx); return err },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// flow is what went through one I_T_L nexus between two snapshots.
type flow struct {
	lun, backend, initiator, transport string
	reads, writes                      float64 // per second
	readBytes, writeBytes              float64 // per second
	depth                              float64 // commands in the target, on average
	p50, p99                           time.Duration
	wait                               string // stage that took most, and its part
}

func (f *flow) iops() float64 { return f.reads + f.writes }

// flows compares two snapshots; without an earlier one there are no rates.
func flows(old, now *snapshot) []flow {
	backends := map[string]string{}
	for i := range now.targets {
		for j := range now.targets[i].LUNs {
			l := &now.targets[i].LUNs[j]
			backends[key(now.targets[i].Name, l.Number)] = l.Backend
		}
	}
	before := map[string]*api.Stats{}
	seconds := 0.0
	if old != nil {
		seconds = now.at.Sub(old.at).Seconds()
		for i := range old.sessions {
			s := &old.sessions[i]
			for j := range s.LUNs {
				before[key(strconv.Itoa(int(s.TSIH)), s.LUNs[j].LUN)] = &s.LUNs[j].Stats
			}
		}
	}
	var out []flow
	for i := range now.sessions {
		s := &now.sessions[i]
		for j := range s.LUNs {
			l := &s.LUNs[j]
			f := flow{
				lun: short(s.Target) + "/" + strconv.Itoa(int(l.Number)), backend: backends[key(s.Target, l.Number)],
				initiator: short(s.Initiator), transport: s.Transport,
			}
			if was := before[key(strconv.Itoa(int(s.TSIH)), l.LUN)]; was != nil && seconds > 0 {
				d := l.Stats.Since(was)
				f.measure(&d, seconds)
			}
			out = append(out, f)
		}
	}
	return out
}

func (f *flow) measure(d *api.Stats, seconds float64) {
	f.reads, f.writes = float64(d.Ops["read"])/seconds, float64(d.Ops["write"])/seconds
	f.readBytes, f.writeBytes = float64(d.Read)/seconds, float64(d.Written)/seconds
	f.p50, f.p99 = d.Quantile(0.5), d.Quantile(0.99)
	time := map[string]float64{}
	for i := range d.Latency {
		time[d.Latency[i].Stage] += float64(d.Latency[i].Nanoseconds)
	}
	f.depth = time["total"] / 1e9 / seconds
	for _, stage := range []string{"backend", "queue", "wire"} {
		if part := time[stage] / max(time["total"], 1); part >= 0.5 {
			f.wait = stage + " " + strconv.Itoa(int(part*100)) + "%"
		}
	}
}

func key(name string, n uint16) string { return name + "/" + strconv.Itoa(int(n)) }

// short is the part of an iSCSI name that people give: what follows the last
// colon.
func short(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// order is what flows are sorted by.
type order int

const (
	byIOPS order = iota
	byBandwidth
	byLatency
	byName
	numOrders
)

func (o order) String() string { return [...]string{"iops", "bandwidth", "latency", "name"}[o] }

func sortFlows(all []flow, by order) {
	slices.SortStableFunc(all, func(a, b flow) int {
		switch by {
		case byIOPS:
			return cmp.Or(cmp.Compare(b.iops(), a.iops()), strings.Compare(a.lun, b.lun))
		case byBandwidth:
			return cmp.Or(cmp.Compare(b.readBytes+b.writeBytes, a.readBytes+a.writeBytes), strings.Compare(a.lun, b.lun))
		case byLatency:
			return cmp.Or(cmp.Compare(b.p99, a.p99), strings.Compare(a.lun, b.lun))
		default:
			return strings.Compare(a.lun+a.initiator, b.lun+b.initiator)
		}
	})
}

package api

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// metrics serves the Prometheus text format, version 0.0.4.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	nexuses, err := strconv.ParseBool(cmp.Or(r.URL.Query().Get("nexuses"), "false"))
	if err != nil {
		answer(w, 0, nil, problemf(ErrInvalid, "nexuses is true or false, not %q", r.URL.Query().Get("nexuses")))
		return
	}
	if err := writeMetrics(r.Context(), &b, s.d, nexuses); err != nil {
		answer(w, 0, nil, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, b.String())
}

// family writes the samples of one metric.
type family struct {
	w    io.Writer
	name string
}

func newFamily(w io.Writer, name, typ, help string) family {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, typ)
	return family{w, name}
}

// sample writes one sample; labels are pairs of name and value.
func (f family) sample(v float64, labels ...string) { f.suffixed("", v, labels...) }

func (f family) suffixed(suffix string, v float64, labels ...string) {
	fmt.Fprintf(f.w, "%s%s", f.name, suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(f.w, "%s%s=\"%s\"", sep, labels[i], escape.Replace(labels[i+1]))
	}
	if len(labels) > 1 {
		fmt.Fprint(f.w, "}")
	}
	fmt.Fprintf(f.w, " %s\n", strconv.FormatFloat(v, 'g', -1, 64))
}

var escape = strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "\n", "\\n")

// lunOf is a LUN with the labels of its metrics.
type labelled struct {
	LUN
	labels []string
}

func writeMetrics(ctx context.Context, w io.Writer, d Daemon, nexuses bool) error {
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	targets, err := d.Targets(ctx)
	if err != nil {
		return err
	}
	sessions, err := d.Sessions(ctx)
	if err != nil {
		return err
	}
	logins, err := d.Logins(ctx)
	if err != nil {
		return err
	}
	tot, err := d.Totals(ctx)
	if err != nil {
		return err
	}
	newFamily(w, "iserd_build_info", "gauge", "The version, as a label; always 1.").sample(1, "version", st.Version)
	newFamily(w, "iserd_start_time_seconds", "gauge", "When the daemon started.").sample(float64(st.Started.Unix()))
	lunMetrics(w, targets)
	aluaMetrics(w, targets)
	latencyMetrics(w, targets)
	sessionMetrics(w, targets, sessions)
	if nexuses {
		nexusMetrics(w, sessions)
	}
	f := newFamily(w, "iserd_login_total", "counter", "Logins by status class and detail, RFC 7143 11.13.5.")
	for _, k := range slices.Sorted(maps.Keys(logins)) {
		f.sample(float64(logins[k]), "result", k)
	}
	f = newFamily(w, "iserd_buffer_bytes", "gauge", "Data buffers in use, and how many there may be.")
	f.sample(float64(tot.BufferBytes), "state", "used")
	f.sample(float64(tot.BufferLimit), "state", "limit")
	trafficMetrics(w, tot)
	rdmaMetrics(w, tot.RDMA)
	newFamily(w, "iserd_actor_restarts_total", "counter", "Restarts of actors by their supervisor.").sample(float64(tot.ActorRestarts))
	newFamily(w, "iserd_actor_failures_total", "counter", "Panics of actors.").sample(float64(tot.ActorFailures))
	newFamily(w, "iserd_actor_gave_up_total", "counter", "Actors that failed too often and were stopped.").sample(float64(tot.ActorsGaveUp))
	return actorMetrics(ctx, w, d)
}

func trafficMetrics(w io.Writer, t *Totals) {
	f := newFamily(w, "iserd_pdu_total", "counter", "PDUs received whole, and sent, by RFC 7143 opcode; data that moves by RDMA is in none.")
	kinds := slices.SortedFunc(maps.Keys(t.PDUs), func(a, b PDUKind) int { return strings.Compare(a.Dir+a.Opcode, b.Dir+b.Opcode) })
	for _, k := range kinds {
		f.sample(float64(t.PDUs[k]), "opcode", k.Opcode, "dir", k.Dir)
	}
	f = newFamily(w, "iserd_digest_errors_total", "counter", "PDUs received with a wrong digest; each ends its connection.")
	for _, k := range slices.Sorted(maps.Keys(t.DigestErrors)) {
		f.sample(float64(t.DigestErrors[k]), "digest", k)
	}
}

func rdmaMetrics(w io.Writer, devices []RDMADevice) {
	each := func(name, typ, help string, v func(*RDMADevice) float64) {
		f := newFamily(w, name, typ, help)
		for i := range devices {
			f.sample(v(&devices[i]), "device", devices[i].Device)
		}
	}
	each("iserd_rdma_queue_pairs", "gauge", "Queue pairs, one for each connection.", func(d *RDMADevice) float64 { return float64(d.QueuePairs) })
	each("iserd_rdma_completion_queues", "gauge", "Completion queues, each with its thread.", func(d *RDMADevice) float64 { return float64(d.CompletionQueues) })
	each("iserd_rdma_memory_regions", "gauge", "Registered memory regions, of buffers and of LUNs.", func(d *RDMADevice) float64 { return float64(d.MemoryRegions) })
	f := newFamily(w, "iserd_rdma_buffer_bytes", "gauge", "Registered buffers, and how many of them are in use.")
	for i := range devices {
		f.sample(float64(devices[i].Registered), "device", devices[i].Device, "state", "registered")
		f.sample(float64(devices[i].InUse), "device", devices[i].Device, "state", "used")
	}
	each("iserd_rdma_completions_total", "counter", "Work completions polled.", func(d *RDMADevice) float64 { return float64(d.Completions) })
	f = newFamily(w, "iserd_rdma_failed_completions_total", "counter", "Work completions with an error, such as an exceeded retry count after RNR NAKs; flushed ones are not counted.")
	for i := range devices {
		for _, s := range slices.Sorted(maps.Keys(devices[i].Failed)) {
			f.sample(float64(devices[i].Failed[s]), "device", devices[i].Device, "status", s)
		}
	}
}

// aluaMetrics has one sample of 1 for each group, in its state.
func aluaMetrics(w io.Writer, targets []Target) {
	f := newFamily(w, "iserd_alua_state", "gauge", "1 for the asymmetric access state that a portal group is in.")
	eachLUN(targets, func(l *labelled) {
		if l.ALUA == nil {
			return
		}
		for _, g := range l.ALUA.Groups {
			f.sample(1, l.with("portal_group", g.PortalGroup, "state", g.State, "preferred", strconv.FormatBool(g.Preferred))...)
		}
	})
}

func actorMetrics(ctx context.Context, w io.Writer, d Daemon) error {
	actors, err := d.Actors(ctx)
	if err != nil {
		return err
	}
	depth, count := map[string]int{}, map[string]int{}
	for i := range actors {
		a := &actors[i]
		depth[a.Kind] = max(depth[a.Kind], a.Queued)
		count[a.Kind]++
	}
	f := newFamily(w, "iserd_actor_mailbox_depth", "gauge", "The longest mailbox of each kind of actor.")
	for _, k := range slices.Sorted(maps.Keys(depth)) {
		f.sample(float64(depth[k]), "kind", k)
	}
	f = newFamily(w, "iserd_actors", "gauge", "Living actors of each kind.")
	for _, k := range slices.Sorted(maps.Keys(count)) {
		f.sample(float64(count[k]), "kind", k)
	}
	return nil
}

func eachLUN(targets []Target, f func(*labelled)) {
	for i := range targets {
		for j := range targets[i].LUNs {
			l := labelled{LUN: targets[i].LUNs[j]}
			l.labels = []string{"target", targets[i].Name, "lun", strconv.Itoa(int(l.Number))}
			f(&l)
		}
	}
}

// with appends labels without changing those of others.
func (l *labelled) with(more ...string) []string { return append(slices.Clip(l.labels), more...) }

// watchedKeys are the sense keys that alarms look at: there is a sample of zero, so
// that the first one is an increase.
var watchedKeys = []string{"HARDWARE ERROR", "MEDIUM ERROR", "MISCOMPARE"}

func lunMetrics(w io.Writer, targets []Target) {
	f := newFamily(w, "iserd_lun_ops_total", "counter", "SCSI commands answered.")
	eachLUN(targets, func(l *labelled) {
		for _, op := range slices.Sorted(maps.Keys(l.Stats.Ops)) {
			f.sample(float64(l.Stats.Ops[op]), l.with("op", op)...)
		}
	})
	f = newFamily(w, "iserd_lun_bytes_total", "counter", "Data of READ and WRITE commands.")
	eachLUN(targets, func(l *labelled) {
		f.sample(float64(l.Stats.Read), l.with("dir", "read")...)
		f.sample(float64(l.Stats.Written), l.with("dir", "write")...)
	})
	f = newFamily(w, "iserd_lun_check_conditions_total", "counter", "CHECK CONDITION by sense key; a miscompare is one of COMPARE AND WRITE.")
	eachLUN(targets, func(l *labelled) {
		errors := map[string]uint64{}
		for _, k := range watchedKeys {
			errors[k] = 0
		}
		maps.Copy(errors, l.Stats.Errors)
		for _, k := range slices.Sorted(maps.Keys(errors)) {
			f.sample(float64(errors[k]), l.with("key", k)...)
		}
	})
	gauge := func(name, typ, help string, v func(*labelled) float64) {
		f := newFamily(w, name, typ, help)
		eachLUN(targets, func(l *labelled) { f.sample(v(l), l.labels...) })
	}
	gauge("iserd_pr_conflicts_total", "counter", "Commands refused with RESERVATION CONFLICT.", func(l *labelled) float64 { return float64(l.Stats.Conflicts) })
	gauge("iserd_pr_registrants", "gauge", "Registered I_T nexuses.", func(l *labelled) float64 {
		if l.Reservations == nil {
			return 0
		}
		return float64(len(l.Reservations.Registered))
	})
	gauge("iserd_lun_busy_total", "counter", "Commands answered with BUSY or TASK SET FULL.", func(l *labelled) float64 { return float64(l.Stats.Busy) })
	gauge("iserd_lun_aborted_total", "counter", "Commands aborted.", func(l *labelled) float64 { return float64(l.Stats.Aborted) })
	gauge("iserd_lun_inflight", "gauge", "Commands that wait for data or for a worker.", func(l *labelled) float64 { return float64(l.Stats.InFlight) })
	gauge("iserd_lun_size_bytes", "gauge", "Capacity; 0 while the LUN is not online.", func(l *labelled) float64 { return float64(l.Size) })
	gauge("iserd_lun_online", "gauge", "1 when the LUN serves.", func(l *labelled) float64 {
		if l.State == "online" {
			return 1
		}
		return 0
	})
}

func latencyMetrics(w io.Writer, targets []Target) {
	f := newFamily(w, "iserd_lun_latency_seconds", "histogram", "Time of commands in the target, by stage; estimated from a sample.")
	eachLUN(targets, func(l *labelled) { f.latencies(l.Stats.Latency, l.labels) })
}

// latencies writes histograms.
func (f family) latencies(all []Latency, labels []string) {
	for i := range all {
		h := &all[i]
		labels := append(slices.Clip(labels), "op", h.Op, "stage", h.Stage)
		var sum uint64
		for k, n := range h.Counts {
			sum += n
			if k == len(h.Counts)-1 {
				break // the last bucket has no bound
			}
			bound := strconv.FormatFloat(float64(uint64(1024)<<k)/1e9, 'g', -1, 64)
			f.suffixed("_bucket", float64(sum), append(slices.Clip(labels), "le", bound)...)
		}
		f.suffixed("_bucket", float64(sum), append(slices.Clip(labels), "le", "+Inf")...)
		f.suffixed("_sum", float64(h.Nanoseconds)/1e9, labels...)
		f.suffixed("_count", float64(sum), labels...)
	}
}

// nexusMetrics has what belongs to single I_T_L nexuses. It is written only where
// it is asked for: there may be many, and they come and go.
func nexusMetrics(w io.Writer, sessions []Session) {
	each := func(f func(s *SessionLUN, labels []string)) {
		for i := range sessions {
			x := &sessions[i]
			for j := range x.LUNs {
				f(&x.LUNs[j], []string{"initiator", x.Initiator, "isid", x.ISID, "target", x.Target, "lun", strconv.Itoa(int(x.LUNs[j].Number))})
			}
		}
	}
	f := newFamily(w, "iserd_nexus_ops_total", "counter", "SCSI commands answered, by I_T_L nexus.")
	each(func(s *SessionLUN, labels []string) {
		for _, op := range slices.Sorted(maps.Keys(s.Stats.Ops)) {
			f.sample(float64(s.Stats.Ops[op]), append(slices.Clip(labels), "op", op)...)
		}
	})
	f = newFamily(w, "iserd_nexus_bytes_total", "counter", "Data of READ and WRITE commands, by I_T_L nexus.")
	each(func(s *SessionLUN, labels []string) {
		f.sample(float64(s.Stats.Read), append(slices.Clip(labels), "dir", "read")...)
		f.sample(float64(s.Stats.Written), append(slices.Clip(labels), "dir", "write")...)
	})
	f = newFamily(w, "iserd_nexus_latency_seconds", "histogram", "Time of commands in the target, by I_T_L nexus and stage; estimated from a sample.")
	each(func(s *SessionLUN, labels []string) { f.latencies(s.Stats.Latency, labels) })
}

func sessionMetrics(w io.Writer, targets []Target, sessions []Session) {
	type key struct{ target, transport string }
	n := map[key]int{}
	for i := range targets {
		n[key{targets[i].Name, "tcp"}] = 0
	}
	for i := range sessions {
		n[key{sessions[i].Target, sessions[i].Transport}]++
	}
	keys := slices.SortedFunc(maps.Keys(n), func(a, b key) int { return strings.Compare(a.target+a.transport, b.target+b.transport) })
	f := newFamily(w, "iserd_sessions", "gauge", "Sessions; the target of a discovery session is empty.")
	for _, k := range keys {
		f.sample(float64(n[k]), "target", k.target, "transport", k.transport)
	}
	newFamily(w, "iserd_connections", "gauge", "Connections that are logged in.").sample(float64(len(sessions)))
}

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is the outcome of a run. Times are in microseconds.
type Report struct {
	URL        string `json:"url"`
	LUNs       int    `json:"luns"`
	Mode       string `json:"mode"`
	BlockSize  int    `json:"block_size_bytes"`
	QueueDepth int    `json:"queue_depth"`
	Sessions   int    `json:"sessions"`

	Seconds float64   `json:"seconds"`
	Total   Direction `json:"total"`
	Read    Direction `json:"read"`
	Write   Direction `json:"write"`

	// Fairness is the slowest session's rate as a share of the fastest one's.
	Fairness    float64 `json:"fairness"`
	SlowestIOPS float64 `json:"slowest_session_iops"`
	FastestIOPS float64 `json:"fastest_session_iops"`

	Server    *CPU `json:"server_cpu,omitempty"`
	Generator CPU  `json:"generator_cpu"`

	Verify *Verify `json:"verify,omitempty"`

	Negotiated Negotiated `json:"negotiated"`
}

// Direction is what was measured of reads, writes or both.
type Direction struct {
	IOs     uint64  `json:"ios"`
	IOPS    float64 `json:"iops"`
	MiBps   float64 `json:"mib_per_second"`
	Latency Latency `json:"latency_us"`
}

// Latency is a distribution in microseconds.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// CPU is the processor time a process used.
type CPU struct {
	PID     int     `json:"pid,omitempty"`
	PerIO   float64 `json:"us_per_io"`
	Percent float64 `json:"percent"` // 100: one CPU all the time
}

// Verify tells what verify mode did. A mismatch is an error of the run instead.
type Verify struct {
	CheckedReads   uint64 `json:"checked_reads"`
	UncheckedReads uint64 `json:"unchecked_reads"` // of places this run had not written yet
}

// Negotiated are the login results that matter for speed.
type Negotiated struct {
	HeaderDigest             bool `json:"header_digest"`
	DataDigest               bool `json:"data_digest"`
	ImmediateData            bool `json:"immediate_data"`
	InitialR2T               bool `json:"initial_r2t"`
	FirstBurstLength         int  `json:"first_burst_length"`
	MaxBurstLength           int  `json:"max_burst_length"`
	MaxRecvDataSegmentLength int  `json:"target_max_recv_data_segment_length"`
}

func (e *engine) report() *Report {
	o := &e.o
	seconds := (e.last.at - e.first.at).Seconds()
	if o.Count == 0 {
		seconds = o.Duration.Seconds() // what the workers counted in
	}
	r := &Report{
		URL: o.URL.String(), LUNs: len(e.luns), Mode: o.Mode.String(),
		BlockSize: o.BlockSize, QueueDepth: o.QueueDepth, Sessions: o.Sessions, Seconds: seconds,
	}
	var read, write, total stats
	for i, w := range e.workers {
		read.merge(&w.read)
		write.merge(&w.write)
		iops := float64(w.read.lat.Count()+w.write.lat.Count()) / seconds
		if i == 0 || iops < r.SlowestIOPS {
			r.SlowestIOPS = iops
		}
		r.FastestIOPS = max(r.FastestIOPS, iops)
	}
	total.merge(&read)
	total.merge(&write)
	r.Read, r.Write, r.Total = read.direction(seconds), write.direction(seconds), total.direction(seconds)
	if r.FastestIOPS > 0 {
		r.Fairness = r.SlowestIOPS / r.FastestIOPS
	}
	r.Generator = e.cpu(e.last.own - e.first.own)
	if o.PID != 0 {
		cpu := e.cpu(e.last.server - e.first.server)
		cpu.PID = o.PID
		r.Server = &cpu
	}
	if o.Verify {
		r.Verify = e.verified()
	}
	p := e.workers[0].pipe.Params()
	r.Negotiated = Negotiated{
		HeaderDigest: p.HeaderDigest, DataDigest: p.DataDigest, ImmediateData: p.ImmediateData, InitialR2T: p.InitialR2T,
		FirstBurstLength: p.FirstBurstLength, MaxBurstLength: p.MaxBurstLength, MaxRecvDataSegmentLength: p.MaxRecvDataSegmentLength,
	}
	return r
}

// cpu relates CPU time to the I/Os between the two samples.
func (e *engine) cpu(d time.Duration) CPU {
	var c CPU
	if n := e.last.ios - e.first.ios; n > 0 {
		c.PerIO = micros(d) / float64(n)
	}
	if wall := e.last.at - e.first.at; wall > 0 {
		c.Percent = 100 * float64(d) / float64(wall)
	}
	return c
}

func (e *engine) verified() *Verify {
	v := new(Verify)
	for _, w := range e.workers {
		v.CheckedReads += w.checked
		v.UncheckedReads += w.unwritten
	}
	return v
}

func (s *stats) merge(o *stats) {
	s.bytes += o.bytes
	s.lat.Merge(&o.lat)
}

func (s *stats) direction(seconds float64) Direction {
	return Direction{
		IOs: s.lat.Count(), IOPS: float64(s.lat.Count()) / seconds, MiBps: float64(s.bytes) / (1 << 20) / seconds,
		Latency: Latency{
			Mean: micros(s.lat.Mean()), P50: micros(s.lat.Quantile(0.5)), P90: micros(s.lat.Quantile(0.9)),
			P99: micros(s.lat.Quantile(0.99)), P999: micros(s.lat.Quantile(0.999)), Max: micros(s.lat.Max()),
		},
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format, args...) } // Flush has the error
	_, _ = fmt.Fprintf(w, "%s  %s, %s, queue depth %d, %d session(s), %d LUN(s), %.1f s\n\n",
		r.URL, r.Mode, sizeString(int64(r.BlockSize)), r.QueueDepth, r.Sessions, r.LUNs, r.Seconds)
	p("\tIOPS\tMiB/s\tmean µs\tp50\tp90\tp99\tp99.9\tmax\t\n")
	for _, d := range []struct {
		name string
		d    *Direction
	}{{"read", &r.Read}, {"write", &r.Write}, {"total", &r.Total}} {
		if d.d.IOs == 0 || d.name == "total" && (r.Read.IOs == 0 || r.Write.IOs == 0) {
			continue
		}
		l := &d.d.Latency
		p("%s\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", d.name, d.d.IOPS, d.d.MiBps, l.Mean, l.P50, l.P90, l.P99, l.P999, l.Max)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, args...)
		}
	}
	if r.Sessions > 1 {
		say("sessions   slowest %.0f IOPS, fastest %.0f IOPS, fairness %.2f\n", r.SlowestIOPS, r.FastestIOPS, r.Fairness)
	}
	if r.Server != nil {
		say("server     %.2f µs of CPU per I/O (%.0f %% of a CPU, pid %d)\n", r.Server.PerIO, r.Server.Percent, r.Server.PID)
	}
	say("generator  %.2f µs of CPU per I/O (%.0f %% of a CPU)\n", r.Generator.PerIO, r.Generator.Percent)
	if r.Verify != nil {
		say("verify     %d reads checked, %d of places not written yet, no mismatch\n", r.Verify.CheckedReads, r.Verify.UncheckedReads)
	}
	return err
}

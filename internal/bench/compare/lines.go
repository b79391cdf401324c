package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/iserd/iserd/internal/bench"
)

// bar is what a ratio of two peers, the second to the first, has to reach.
type bar struct {
	name   string
	limit  float64
	atMost bool // else at least
	figure func(r *bench.Report) float64
}

// line is one workload with its bars.
type line struct {
	name     string
	mode     bench.Mode
	block    int
	depth    int
	sessions int
	bars     []bar
	iser     bool // iserd over iSER against iserd over TCP, else iserd against tgt
}

// peers are the two that a line compares, the one that is measured last.
func (l *line) peers(p *peerSet) [2]*peer {
	if l.iser {
		return [2]*peer{p.iserd, p.iser}
	}
	return [2]*peer{p.tgt, p.iserd}
}

func iops(r *bench.Report) float64    { return r.Total.IOPS }
func cpu(r *bench.Report) float64     { return r.Server.PerIO }
func median1(r *bench.Report) float64 { return r.Total.Latency.P50 }
func mibps(r *bench.Report) float64   { return r.Total.MiBps }

func fairness(r *bench.Report) float64 { return r.Fairness }

// lines are the workloads the project is judged by.
func lines() []line {
	iopsBar := func(limit float64) bar { return bar{"IOPS", limit, false, iops} }
	cpuBar := bar{"server CPU µs/IO", 0.1, true, cpu}
	rate := func(limit float64) bar { return bar{"MiB/s", limit, false, mibps} }
	// Software iWARP is to be within a quarter of TCP.
	quarter := []bar{iopsBar(0.75), {"server CPU µs/IO", 1.25, true, cpu}}
	return []line{
		{"4 KiB random read, qd 32", bench.RandRead, 4096, 32, 1, []bar{iopsBar(10), cpuBar}, false},
		{"4 KiB random write, qd 32", bench.RandWrite, 4096, 32, 1, []bar{iopsBar(10), cpuBar}, false},
		{"4 KiB random read, qd 1", bench.RandRead, 4096, 1, 1, []bar{{"median latency µs", 0.5, true, median1}}, false},
		{"128 KiB sequential read, qd 16", bench.SeqRead, 128 << 10, 16, 1, []bar{rate(1.6)}, false},
		{"256 KiB sequential read, qd 16", bench.SeqRead, 256 << 10, 16, 1, []bar{rate(1.6)}, false},
		{"128 KiB sequential write, qd 16", bench.SeqWrite, 128 << 10, 16, 1, []bar{rate(2)}, false},
		{"256 KiB sequential write, qd 16", bench.SeqWrite, 256 << 10, 16, 1, []bar{rate(2)}, false},
		{"64 sessions, 4 KiB random read, qd 4 each", bench.RandRead, 4096, 4, 64, []bar{
			iopsBar(5), {"fairness slowest/fastest", 0.8, false, fairness},
		}, false},
		{"iSER, 4 KiB random read, qd 32", bench.RandRead, 4096, 32, 1, quarter, true},
		{"iSER, 4 KiB random write, qd 32", bench.RandWrite, 4096, 32, 1, quarter, true},
		{"iSER, 64 KiB sequential read, qd 16", bench.SeqRead, 64 << 10, 16, 1, quarter, true},
		{"iSER, 128 KiB sequential read, qd 16", bench.SeqRead, 128 << 10, 16, 1, quarter, true},
		{"iSER, 128 KiB sequential write, qd 16", bench.SeqWrite, 128 << 10, 16, 1, quarter, true},
	}
}

// absolute tells bars that look at what is measured alone.
func (b *bar) absolute() bool { return strings.HasPrefix(b.name, "fairness") }

func (b *bar) met(v float64) bool {
	if b.atMost {
		return v <= b.limit
	}
	return v >= b.limit
}

// result is everything that was measured.
type result struct {
	Fresh map[string]fresh `json:"fresh"`
	Rows  []row            `json:"rows"`
	Pass  bool             `json:"pass"`
}

// row is one bar of one line, for two peers; Values are medians by themselves,
// Ratio is the median of the rounds' ratios.
type row struct {
	Line   string     `json:"line"`
	Figure string     `json:"figure"`
	Peers  [2]string  `json:"peers"`
	Values [2]float64 `json:"values"`
	Ratio  float64    `json:"ratio"`
	Rounds []float64  `json:"ratios"`
	Bar    string     `json:"bar"`
	Pass   bool       `json:"pass"`
	// CPU of the generator in per cent: near 100 it is what limits the figure.
	Generator [2]float64 `json:"generator_cpu_percent"`
}

// pairs are the reports of one line, for the two peers, one per round.
type pairs [2][]*bench.Report

func (s *settings) measure(ctx context.Context, p *peerSet) (*result, error) {
	r := &result{Pass: true, Fresh: map[string]fresh{"tgt": p.tgt.fresh, "iserd": p.iserd.fresh}}
	for _, x := range []*peer{p.tgt, p.iserd} { // random reads shall find pages
		o := s.options(x, &line{mode: bench.SeqWrite, block: 256 << 10, depth: 8, sessions: 1})
		o.Count = uint64(s.size) / uint64(o.BlockSize)
		if _, err := bench.Run(ctx, o); err != nil {
			return nil, fmt.Errorf("%s: fill: %w", x.name, err)
		}
	}
	only, err := regexp.Compile(s.only)
	if err != nil {
		return nil, err
	}
	var todo []line
	for _, l := range lines() {
		if only.MatchString(l.name) {
			todo = append(todo, l)
		}
	}
	got := make([]pairs, len(todo))
	for round := range s.rounds {
		for i := range todo {
			if err := s.round(ctx, todo[i].peers(p), &todo[i], &got[i], round); err != nil {
				return nil, err
			}
		}
	}
	for i := range todo {
		for _, b := range todo[i].bars {
			x := todo[i].peers(p)
			row := makeRow(&todo[i], &b, &got[i])
			row.Peers = [2]string{x[0].name, x[1].name}
			if todo[i].iser {
				row.Peers = [2]string{"TCP", "iSER"}
			}
			r.Pass = r.Pass && row.Pass
			r.Rows = append(r.Rows, row)
		}
	}
	return r, nil
}

// round measures a line on two peers; who is first changes from round to round.
func (s *settings) round(ctx context.Context, p [2]*peer, l *line, got *pairs, round int) error {
	order := []int{0, 1}
	if round%2 == 1 {
		slices.Reverse(order)
	}
	for _, n := range order {
		r, err := bench.Run(ctx, s.options(p[n], l))
		if err != nil {
			return fmt.Errorf("%s: %s: %w", p[n].name, l.name, err)
		}
		got[n] = append(got[n], r)
		_, _ = fmt.Fprintf(s.log, "round %d  %-42s %-5s  %9.0f IOPS  %7.1f MiB/s  p50 %7.1f µs  server %6.2f µs/IO  generator %3.0f %%\n",
			round+1, l.name, p[n].name, r.Total.IOPS, r.Total.MiBps, r.Total.Latency.P50, r.Server.PerIO, r.Generator.Percent)
	}
	return nil
}

func (s *settings) options(x *peer, l *line) bench.Options {
	o := bench.DefaultOptions()
	o.URL, o.PID = x.url, x.pid
	o.Mode, o.BlockSize, o.QueueDepth, o.Sessions = l.mode, l.block, l.depth, l.sessions
	o.Size, o.Duration, o.Ramp = s.size, s.duration, 300*time.Millisecond
	if l.depth == 1 {
		o.Poll = s.poll
	}
	return o
}

func makeRow(l *line, b *bar, got *pairs) row {
	sign := "≥"
	if b.atMost {
		sign = "≤"
	}
	row := row{Line: l.name, Figure: b.name, Bar: fmt.Sprintf("%s %g", sign, b.limit)}
	var values, generator [2][]float64
	for n := range got[0] {
		for k := range got {
			values[k] = append(values[k], b.figure(got[k][n]))
			generator[k] = append(generator[k], got[k][n].Generator.Percent)
		}
		if b.absolute() {
			row.Rounds = append(row.Rounds, values[1][n])
		} else {
			row.Rounds = append(row.Rounds, values[1][n]/values[0][n])
		}
	}
	for k := range got {
		row.Values[k], row.Generator[k] = median(values[k]), median(generator[k])
	}
	row.Ratio = median(row.Rounds)
	row.Pass = b.met(row.Ratio)
	return row
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Clone(v)
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

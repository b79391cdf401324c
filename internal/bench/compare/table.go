package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// table prints the result for people.
func (r *result) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format, args...) } // Flush has the error
	var peers [2]string
	for i := range r.Rows {
		x := &r.Rows[i]
		if x.Peers != peers {
			if i > 0 {
				p("\n")
			}
			peers = x.Peers
			p("workload\tfigure\t%[1]s\t%[2]s\tratio\trounds\tbar\t\tgenerator CPU %[1]s, %[2]s\n", peers[0], peers[1])
		}
		verdict := "pass"
		if !x.Pass {
			verdict = "MISSED"
		}
		low, high := x.Rounds[0], x.Rounds[0]
		for _, v := range x.Rounds {
			low, high = min(low, v), max(high, v)
		}
		p("%s\t%s\t%.5g\t%.5g\t%.3g\t%.3g to %.3g\t%s\t%s\t%.0f %%, %.0f %%\n",
			x.Line, x.Figure, x.Values[0], x.Values[1], x.Ratio, low, high, x.Bar, verdict, x.Generator[0], x.Generator[1])
	}
	p("\n\t\ttgt\tiserd\n")
	a, b := r.Fresh["tgt"], r.Fresh["iserd"]
	p("fresh server\tstart to listening, ms\t%.1f\t%.1f\n", a.StartMillis, b.StartMillis)
	p("\tRSS with an unwritten 1 GiB LUN, MiB\t%.1f\t%.1f\n", a.RSSMiB, b.RSSMiB)
	p("\tidle CPU, %% of one\t%.3f\t%.3f\n", a.IdlePercent, b.IdlePercent)
	return t.Flush()
}

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
	p("workload\tfigure\ttgt\tiserd\tratio\trounds\tbar\t\tgenerator CPU tgt/iserd\n")
	for i := range r.Rows {
		x := &r.Rows[i]
		verdict := "pass"
		if !x.Pass {
			verdict = "MISSED"
		}
		low, high := x.Rounds[0], x.Rounds[0]
		for _, v := range x.Rounds {
			low, high = min(low, v), max(high, v)
		}
		p("%s\t%s\t%.5g\t%.5g\t%.3g\t%.3g to %.3g\t%s\t%s\t%.0f %% / %.0f %%\n",
			x.Line, x.Figure, x.Tgt, x.Iserd, x.Ratio, low, high, x.Bar, verdict, x.GeneratorTgt, x.GeneratorIserd)
	}
	p("\n")
	a, b := r.Fresh["tgt"], r.Fresh["iserd"]
	p("fresh server\tstart to listening, ms\t%.1f\t%.1f\n", a.StartMillis, b.StartMillis)
	p("\tRSS with an unwritten 1 GiB LUN, MiB\t%.1f\t%.1f\n", a.RSSMiB, b.RSSMiB)
	p("\tidle CPU, %% of one\t%.3f\t%.3f\n", a.IdlePercent, b.IdlePercent)
	return t.Flush()
}

package api

import "time"

// Quantile estimates the latency below which the part q (0 to 1) of reads and
// writes lies; 0 when there were none.
func (s *Stats) Quantile(q float64) time.Duration {
	var total []uint64
	for i := range s.Latency {
		l := &s.Latency[i]
		if l.Stage != "total" || l.Op == "other" {
			continue
		}
		if len(total) < len(l.Counts) {
			total = append(total, make([]uint64, len(l.Counts)-len(total))...)
		}
		for k, n := range l.Counts {
			total[k] += n
		}
	}
	return quantile(total, q)
}

// quantile interpolates in buckets of which the i-th ends at 1024 << i ns.
func quantile(counts []uint64, q float64) time.Duration {
	var all uint64
	for _, n := range counts {
		all += n
	}
	rank, below := q*float64(all), 0.0
	for i, n := range counts {
		if n > 0 && below+float64(n) >= rank {
			low := 0.0
			if i > 0 {
				low = float64(uint64(1024) << (i - 1))
			}
			return time.Duration(low + (float64(uint64(1024)<<i)-low)*max(rank-below, 0)/float64(n))
		}
		below += float64(n)
	}
	return 0
}

// Since returns what was counted after an earlier state of the same totals.
func (s *Stats) Since(old *Stats) Stats {
	d := Stats{
		Ops: since(s.Ops, old.Ops), Read: s.Read - old.Read, Written: s.Written - old.Written, InFlight: s.InFlight,
		Errors: since(s.Errors, old.Errors), Conflicts: s.Conflicts - old.Conflicts, Busy: s.Busy - old.Busy, Aborted: s.Aborted - old.Aborted,
	}
	for _, l := range s.Latency {
		l.Counts = append([]uint64(nil), l.Counts...)
		for _, o := range old.Latency {
			if o.Op == l.Op && o.Stage == l.Stage && len(o.Counts) == len(l.Counts) {
				l.Nanoseconds -= o.Nanoseconds
				for i := range l.Counts {
					l.Counts[i] -= o.Counts[i]
				}
			}
		}
		d.Latency = append(d.Latency, l)
	}
	return d
}

func since(now, old map[string]uint64) map[string]uint64 {
	d := make(map[string]uint64, len(now))
	for k, n := range now {
		d[k] = n - old[k]
	}
	return d
}

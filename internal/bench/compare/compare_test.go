package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/iserd/iserd/internal/bench"
)

func report(iops, cpu float64) *bench.Report {
	return &bench.Report{Total: bench.Direction{IOPS: iops}, Server: &bench.CPU{PerIO: cpu}, Fairness: 0.9}
}

func TestMakeRow(t *testing.T) {
	got := pairs{
		{report(100, 30), report(50, 40), report(100, 30)},
		{report(1000, 2), report(600, 3), report(900, 6)},
	}
	tests := []struct {
		name  string
		bar   bar
		ratio float64
		pass  bool
	}{
		{"at least, met", bar{"IOPS", 10, false, iops}, 10, true}, // ratios 10, 12, 9
		{"at least, missed", bar{"IOPS", 10.5, false, iops}, 10, false},
		{"at most, met", bar{"CPU", 0.1, true, cpu}, 0.075, true},
		{"at most, missed", bar{"CPU", 0.05, true, cpu}, 0.075, false},
		{"iserd alone", bar{"fairness", 0.8, false, fairness}, 0.9, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := makeRow(&line{name: "x"}, &tt.bar, &got)
			if x.Ratio != tt.ratio || x.Pass != tt.pass {
				t.Errorf("ratio %v, pass %v; want %v, %v", x.Ratio, x.Pass, tt.ratio, tt.pass)
			}
			x.Peers = [2]string{"tgt", "iserd"}
			var out bytes.Buffer
			if err := (&result{Rows: []row{x}}).table(&out); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), "MISSED") == tt.pass {
				t.Error(out.String())
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(tt.in); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.in, got, tt.want)
		}
	}
}

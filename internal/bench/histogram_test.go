package bench

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBuckets(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 129, 1000, 1 << 20, 1<<20 + 1<<14, 1 << 40, math.MaxInt64} {
		i := bucketOf(v)
		if i < last || i >= maxBuckets {
			t.Errorf("value %d is in bucket %d, after %d", v, i, last)
		}
		last = i
		if up := upperOf(i); up < v || float64(up-v) > float64(v)/subCount {
			t.Errorf("bucket of %d ends at %d", v, up)
		}
		if i > 0 && upperOf(i-1) >= v {
			t.Errorf("value %d fits the bucket below", v)
		}
	}
}

func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Minute)), 1, 200).Draw(t, "values")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		var a, b Histogram
		for i, v := range values {
			if i%2 == 0 {
				a.Add(time.Duration(v))
			} else {
				b.Add(time.Duration(v))
			}
		}
		a.Merge(&b)
		slices.Sort(values)
		want := values[max(int(math.Ceil(q*float64(len(values))))-1, 0)]
		got := int64(a.Quantile(q))
		if got < want || float64(got-want) > float64(want)/subCount+1 {
			t.Fatalf("quantile %v = %d, want %d", q, got, want)
		}
		if int64(a.Max()) != values[len(values)-1] || a.Count() != uint64(len(values)) {
			t.Fatalf("max %v, count %d", a.Max(), a.Count())
		}
	})
}

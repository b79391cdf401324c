package bench

import (
	"math/bits"
	"time"
)

const (
	subBits    = 6 // 64 steps per power of two: at most 1.6 % off
	subCount   = 1 << subBits
	maxBuckets = (64 - subBits) * subCount
)

// Histogram counts durations in log-linear buckets: exact below 64 ns, within
// 1.6 % above. The zero value is empty. It is for one goroutine.
type Histogram struct {
	n        uint64
	sum      uint64
	min, max uint64
	buckets  [maxBuckets]uint64
}

func bucketOf(v uint64) int {
	if v < subCount {
		return int(v)
	}
	exp := bits.Len64(v) - 1 - subBits
	return (exp+1)<<subBits + int(v>>exp) - subCount
}

// upperOf returns the largest value of bucket i.
func upperOf(i int) uint64 {
	if i < subCount {
		return uint64(i)
	}
	exp := i>>subBits - 1
	return (uint64(i&(subCount-1)+subCount)+1)<<exp - 1
}

// Add counts d; negative durations count as 0.
func (h *Histogram) Add(d time.Duration) {
	v := uint64(max(d, 0))
	if h.n == 0 || v < h.min {
		h.min = v
	}
	h.max = max(h.max, v)
	h.n++
	h.sum += v
	h.buckets[bucketOf(v)]++
}

// Merge adds all that o counted.
func (h *Histogram) Merge(o *Histogram) {
	if o.n == 0 {
		return
	}
	if h.n == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.n += o.n
	h.sum += o.sum
	for i, c := range o.buckets {
		h.buckets[i] += c
	}
}

// Count returns how many durations were added.
func (h *Histogram) Count() uint64 { return h.n }

// Mean returns the average, 0 when empty.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return time.Duration(h.sum / h.n)
}

// Max returns the largest duration added.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max) }

// Quantile returns the duration that a share q (0 to 1) of all does not exceed.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) || rank == 0 {
		rank++
	}
	var seen uint64
	for i, c := range h.buckets {
		if seen += c; seen >= rank {
			return time.Duration(min(max(upperOf(i), h.min), h.max))
		}
	}
	return h.Max()
}

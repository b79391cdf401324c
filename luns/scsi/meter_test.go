package scsi

import (
	"testing"
	"time"
)

func TestHistogramQuantile(t *testing.T) {
	var m meter
	for range 90 {
		m.observe(LatencyRead, StageTotal, 1500, 1) // 1.024 to 2.048 µs
	}
	for range 10 {
		m.observe(LatencyRead, StageTotal, int64(time.Millisecond), 1) // 0.524 to 1.049 ms
	}
	var s Stats
	m.snapshot(&s)
	h := s.Latency[LatencyRead][StageTotal]
	if n := h.Count(); n != 100 {
		t.Errorf("count = %d", n)
	}
	if p := h.Quantile(0.5); p < 1024 || p > 2048 {
		t.Errorf("p50 = %v", p)
	}
	if p := h.Quantile(0.99); p < 524*time.Microsecond || p > 1049*time.Microsecond {
		t.Errorf("p99 = %v", p)
	}
	if p := (&Histogram{}).Quantile(0.5); p != 0 {
		t.Errorf("empty: %v", p)
	}
}

func TestBuckets(t *testing.T) {
	for _, x := range []struct {
		ns   int64
		want int
	}{{-1, 0}, {0, 0}, {1023, 0}, {1024, 1}, {2047, 1}, {2048, 2}, {int64(time.Hour), NumBuckets - 1}} {
		if got := bucketOf(x.ns); got != x.want {
			t.Errorf("bucketOf(%d) = %d, want %d", x.ns, got, x.want)
		}
	}
}

func TestClassOf(t *testing.T) {
	for op, want := range map[byte]OpClass{
		0x28: OpRead, 0x8A: OpWrite, 0x35: OpFlush, 0x42: OpUnmap, 0x93: OpWriteSame,
		0x89: OpCompareAndWrite, 0x83: OpCopy, 0x5F: OpReserve, 0x12: OpOther,
	} {
		if got := ClassOf([]byte{op}); got != want {
			t.Errorf("%#x: %v, want %v", op, got, want)
		}
	}
	if ClassOf(nil) != OpOther {
		t.Error("no CDB")
	}
}

func TestMeter(t *testing.T) {
	p := NewPort()
	n := p.Attach(&ITNexus{})
	c := &Command{Nexus: n, CDB: []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}}
	var x, lost Meter
	x.Begin(c, 1000)
	lost.Begin(c, 1000)
	x.Wait()
	x.Wait()
	lost.Wait()
	if s := n.Stats(); s.InFlight != 2 {
		t.Errorf("in flight = %d", s.InFlight)
	}
	x.Ready(3000)
	c.started = 4000
	x.End(c, 9000, 512)
	x.Lost() // answered already
	lost.Lost()
	if s := p.Stats(); s.Ops[OpRead] != 0 {
		t.Errorf("before the end of the turn: %+v", s)
	}
	n.Publish()
	n.Publish() // nothing is counted twice
	s := p.Stats()
	if s.Ops[OpRead] != 1 || s.BytesRead != 512 || s.InFlight != 0 || s.Aborted != 1 {
		t.Errorf("%+v", s)
	}
	for st, want := range map[Stage]uint64{StageTotal: 8000, StageWire: 2000, StageQueue: 1000, StageBackend: 5000} {
		if got := s.Latency[LatencyRead][st].Nanoseconds; got != want {
			t.Errorf("%v: %d ns, want %d", st, got, want)
		}
	}
	n.Detach()
	if s := p.Stats(); s.Ops[OpRead] != 1 {
		t.Errorf("forgotten with the nexus: %+v", s)
	}
	n.Detach()
	if s := p.Stats(); s.Ops[OpRead] != 1 {
		t.Errorf("counted twice: %+v", s)
	}
}

// TestMeterSample: the histogram of commands that run inline has as many entries
// as there were commands.
func TestMeterSample(t *testing.T) {
	p := NewPort()
	n := p.Attach(&ITNexus{})
	c := &Command{Nexus: n, CDB: []byte{0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0}}
	for i := range 10 * sampleEvery {
		var x Meter
		x.Begin(c, Nanotime())
		if first := x.End(c, 0, 512); first != (i == 0) {
			t.Errorf("command %d: first of the turn: %v", i, first)
		}
	}
	n.Publish()
	s := n.Stats()
	if s.BytesWritten != 10*sampleEvery*512 {
		t.Errorf("%d bytes", s.BytesWritten)
	}
	if got := s.Latency[LatencyWrite][StageTotal].Count(); got != s.Ops[OpWrite] || got != 10*sampleEvery {
		t.Errorf("%d latencies of %d commands", got, s.Ops[OpWrite])
	}
}

func TestSenseKeyOf(t *testing.T) {
	fixed := make([]byte, 18)
	fixed[0], fixed[2] = 0x70, 0x03
	if k := senseKeyOf(fixed); k != MediumError {
		t.Error(k)
	}
	if k := senseKeyOf([]byte{0x72, 0x0E, 0, 0}); k != Miscompare {
		t.Error(k)
	}
}

func BenchmarkMeter(b *testing.B) {
	p := NewPort()
	n := p.Attach(&ITNexus{})
	c := &Command{Nexus: n, CDB: []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}}
	var x Meter
	b.ReportAllocs()
	for b.Loop() {
		x.Begin(c, 1)
		x.End(c, 1, 4096)
	}
}

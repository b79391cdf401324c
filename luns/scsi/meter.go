package scsi

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// OpClass groups commands for counting.
type OpClass uint8

// The classes of commands.
const (
	OpRead            OpClass = iota // READ (6, 10, 12, 16)
	OpWrite                          // WRITE and WRITE AND VERIFY
	OpFlush                          // SYNCHRONIZE CACHE
	OpUnmap                          // UNMAP
	OpWriteSame                      // WRITE SAME
	OpCompareAndWrite                // COMPARE AND WRITE
	OpCopy                           // EXTENDED COPY and RECEIVE COPY RESULTS
	OpReserve                        // PERSISTENT RESERVE IN and OUT, RESERVE, RELEASE
	OpOther                          // all others
	NumOpClasses
)

// String returns a lower-case name, as metrics have it.
func (o OpClass) String() string {
	names := [NumOpClasses]string{"read", "write", "flush", "unmap", "write_same", "compare_and_write", "copy", "reserve", "other"}
	if o < NumOpClasses {
		return names[o]
	}
	return "unknown"
}

// classes maps operation codes to OpClass + 1; zero stands for OpOther.
var classes = [256]OpClass{
	0x08: OpRead + 1, 0x28: OpRead + 1, 0xA8: OpRead + 1, 0x88: OpRead + 1,
	0x0A: OpWrite + 1, 0x2A: OpWrite + 1, 0xAA: OpWrite + 1, 0x8A: OpWrite + 1, 0x2E: OpWrite + 1, 0xAE: OpWrite + 1, 0x8E: OpWrite + 1,
	0x35: OpFlush + 1, 0x91: OpFlush + 1,
	0x42: OpUnmap + 1,
	0x41: OpWriteSame + 1, 0x93: OpWriteSame + 1,
	0x89: OpCompareAndWrite + 1,
	0x83: OpCopy + 1, 0x84: OpCopy + 1,
	0x5E: OpReserve + 1, 0x5F: OpReserve + 1, 0x16: OpReserve + 1, 0x17: OpReserve + 1, 0x56: OpReserve + 1, 0x57: OpReserve + 1,
}

// ClassOf returns the class of a CDB.
func ClassOf(cdb []byte) OpClass {
	if len(cdb) == 0 || classes[cdb[0]] == 0 {
		return OpOther
	}
	return classes[cdb[0]] - 1
}

// LatencyClass is what latencies are kept apart by.
type LatencyClass uint8

// The latency classes.
const (
	LatencyRead LatencyClass = iota
	LatencyWrite
	LatencyOther
	NumLatencyClasses
)

// String returns a lower-case name, as metrics have it.
func (l LatencyClass) String() string {
	return [...]string{"read", "write", "other", "unknown"}[min(l, NumLatencyClasses)]
}

// latencyClass returns where the latency of a class of commands is counted.
func (o OpClass) latencyClass() LatencyClass { return LatencyClass(min(o, OpFlush)) }

// Stage is a part of the time that a command takes in the target.
type Stage uint8

// The stages. Total is not the sum of the others in every command: the time in
// which a response waits in the socket belongs to none.
const (
	StageTotal   Stage = iota // from the command PDU to its response
	StageWire                 // waiting for data-out
	StageQueue                // waiting for commands before it, and for a worker
	StageBackend              // in the device server and the backend
	NumStages
)

// String returns a lower-case name, as metrics have it.
func (s Stage) String() string {
	return [...]string{"total", "wire", "queue", "backend", "unknown"}[min(s, NumStages)]
}

// NumBuckets is the number of buckets of a Histogram.
const NumBuckets = 26

// BucketBound is the upper bound of bucket i of a Histogram, exclusive: 1.024 µs
// for the first, twice as much for each next. The last has none.
func BucketBound(i int) time.Duration { return 1024 << i }

// bucketOf is the bucket of a latency in nanoseconds.
func bucketOf(ns int64) int { return min(bits.Len64(uint64(max(ns, 0))>>10), NumBuckets-1) }

// Histogram counts latencies in buckets of powers of two. It is an estimate of
// all commands from a sample of them.
type Histogram struct {
	Counts      [NumBuckets]uint64
	Nanoseconds uint64 // the sum
}

// Count is the number of latencies.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Add adds o to h.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o.Counts {
		h.Counts[i] += c
	}
	h.Nanoseconds += o.Nanoseconds
}

// Sub takes an earlier state of the same histogram from h.
func (h *Histogram) Sub(o *Histogram) {
	for i, c := range o.Counts {
		h.Counts[i] -= c
	}
	h.Nanoseconds -= o.Nanoseconds
}

// Quantile returns the latency below which the part q (0 to 1) lies, by linear
// interpolation in its bucket; 0 when there is nothing.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := q * float64(h.Count())
	below := 0.0
	for i, c := range h.Counts {
		if c > 0 && below+float64(c) >= rank {
			low := float64(0)
			if i > 0 {
				low = float64(BucketBound(i - 1))
			}
			return time.Duration(low + (float64(BucketBound(i))-low)*max(rank-below, 0)/float64(c))
		}
		below += float64(c)
	}
	return 0
}

// Stats are totals of an I_T_L nexus or of a logical unit.
type Stats struct {
	Ops                     [NumOpClasses]uint64 // commands answered
	BytesRead, BytesWritten uint64
	InFlight                int64      // waiting for data-out or a worker
	Sense                   [16]uint64 // CHECK CONDITION by sense key
	Conflicts               uint64     // RESERVATION CONFLICT
	Busy                    uint64     // BUSY and TASK SET FULL
	Aborted                 uint64     // ended without a response, or with TASK ABORTED
	Latency                 [NumLatencyClasses][NumStages]Histogram
}

// Add adds o to s.
func (s *Stats) Add(o *Stats) {
	for i := range s.Ops {
		s.Ops[i] += o.Ops[i]
	}
	for i := range s.Sense {
		s.Sense[i] += o.Sense[i]
	}
	s.BytesRead += o.BytesRead
	s.BytesWritten += o.BytesWritten
	s.InFlight += o.InFlight
	s.Conflicts += o.Conflicts
	s.Busy += o.Busy
	s.Aborted += o.Aborted
	for i := range s.Latency {
		for j := range s.Latency[i] {
			s.Latency[i][j].Add(&o.Latency[i][j])
		}
	}
}

// sampleEvery is how many commands share one measurement of latency, where a
// command runs inline and takes about as long as its measurement. Those that
// wait for a worker are all measured: they are the slow ones.
const sampleEvery = 16

// meter counts the commands of one I_T_L nexus. It is written by the nexus's
// connection, so that no cache line is shared with others, and read by anybody.
type meter struct {
	own struct { // the connection's alone
		seq                     uint8  // counts commands, for sampling
		dirty                   uint16 // has a bit for each class in ops, since the last Publish
		ops                     [NumOpClasses]uint32
		bytesRead, bytesWritten uint64
	}
	waiting                 atomic.Int64
	ops                     [NumOpClasses]atomic.Uint64
	bytesRead, bytesWritten atomic.Uint64
	sense                   [16]atomic.Uint64
	conflicts, busy, lost   atomic.Uint64
	latency                 [NumLatencyClasses][NumStages]struct {
		counts [NumBuckets]atomic.Uint64
		sum    atomic.Uint64
	}
}

// observe counts one latency as weight of them.
func (m *meter) observe(l LatencyClass, s Stage, ns int64, weight uint64) {
	h := &m.latency[l][s]
	h.counts[bucketOf(ns)].Add(weight)
	h.sum.Add(uint64(max(ns, 0)) * weight)
}

// snapshot copies the counters, one after the other.
func (m *meter) snapshot(s *Stats) {
	s.InFlight = m.waiting.Load()
	for i := range s.Ops {
		s.Ops[i] = m.ops[i].Load()
	}
	for i := range s.Sense {
		s.Sense[i] = m.sense[i].Load()
	}
	s.BytesRead, s.BytesWritten = m.bytesRead.Load(), m.bytesWritten.Load()
	s.Conflicts, s.Busy, s.Aborted = m.conflicts.Load(), m.busy.Load(), m.lost.Load()
	for i := range s.Latency {
		for j := range s.Latency[i] {
			h, from := &s.Latency[i][j], &m.latency[i][j]
			for k := range h.Counts {
				h.Counts[k] = from.counts[k].Load()
			}
			h.Nanoseconds = from.sum.Load()
		}
	}
}

// epoch is where Nanotime counts from.
var epoch = time.Now()

// Nanotime is a monotonic clock in nanoseconds, cheaper than time.Now.
func Nanotime() int64 { return int64(time.Since(epoch)) }

// Meter is the measurement of one command: its owner keeps it beside the
// Command. All times are of Nanotime. Its methods are called in the context of
// the one connection that the nexus belongs to.
type Meter struct {
	m       *meter
	arrived int64 // the command PDU was here
	ready   int64 // all data-out was here
	exec    int64 // the command began to run; 0 when it is not measured
	weight  uint8 // how many commands the measurement stands for
	class   OpClass
	waiting bool
}

// Begin starts the measurement of c, whose Nexus is set, in a batch of PDUs
// that came at batch.
func (x *Meter) Begin(c *Command, batch int64) {
	m := c.Nexus.meter.Load()
	if m == nil {
		m = new(meter)
		c.Nexus.meter.Store(m)
	}
	*x = Meter{m: m, arrived: batch, ready: batch, weight: sampleEvery, class: ClassOf(c.CDB)}
	if m.own.seq++; m.own.seq%sampleEvery == 0 {
		x.exec = Nanotime()
	}
}

// Measure has this command measured, whatever the sampling says: somebody wants
// to know its Times.
func (x *Meter) Measure() {
	if x.weight = 1; x.exec == 0 {
		x.exec = Nanotime()
	}
}

// Times are the stages of one command.
type Times [NumStages]time.Duration

// Times returns the stages of a command that is answered in this batch, zeros if
// it is not measured. It comes before End.
func (x *Meter) Times(c *Command, batch int64) (t Times) {
	exec, end := c.started, batch
	if exec == 0 {
		exec, end = x.exec, Nanotime()
	}
	if x.m == nil || exec == 0 {
		return t
	}
	t[StageTotal] = time.Duration(end - x.arrived)
	t[StageWire] = time.Duration(x.ready - x.arrived)
	t[StageQueue] = time.Duration(exec - x.ready)
	t[StageBackend] = time.Duration(end - exec)
	return t
}

// Running reports whether the command has neither been answered nor lost.
func (x *Meter) Running() bool { return x.m != nil }

// Wait counts the command as in flight: it waits for data-out or a worker.
func (x *Meter) Wait() {
	if x.m != nil && !x.waiting {
		x.waiting = true
		x.m.waiting.Add(1)
	}
}

// Ready notes that the data-out of the command became complete in this batch.
func (x *Meter) Ready(batch int64) {
	x.ready = batch
	if x.exec != 0 {
		x.exec = Nanotime()
	}
}

// End counts a command that is answered in this batch. Bytes is what it moved. If
// first is true, its nexus is to be published at the end of the turn.
func (x *Meter) End(c *Command, batch int64, bytes int) (first bool) {
	m := x.take()
	if m == nil {
		return false
	}
	first = m.own.dirty == 0
	m.own.dirty |= 1 << x.class
	m.own.ops[x.class]++
	switch x.class {
	case OpRead:
		m.own.bytesRead += uint64(bytes)
	case OpWrite:
		m.own.bytesWritten += uint64(bytes)
	default:
	}
	switch {
	case c.started != 0:
		x.observe(m, c.started, batch, 1)
	case x.exec != 0:
		x.observe(m, x.exec, Nanotime(), uint64(x.weight))
	}
	if c.Status != Good {
		m.failed(c)
	}
	return first
}

// Publish makes visible what was counted of the nexus, in the context of its
// connection: within a turn counting is plain arithmetic, and the atomic additions
// come once for each turn.
func (n *Nexus) Publish() {
	m := n.meter.Load()
	if m == nil {
		return
	}
	o := &m.own
	for d := o.dirty; d != 0; d &= d - 1 {
		i := bits.TrailingZeros16(d)
		m.ops[i].Add(uint64(o.ops[i]))
		o.ops[i] = 0
	}
	if o.bytesRead > 0 {
		m.bytesRead.Add(o.bytesRead)
	}
	if o.bytesWritten > 0 {
		m.bytesWritten.Add(o.bytesWritten)
	}
	o.dirty, o.bytesRead, o.bytesWritten = 0, 0, 0
}

func (x *Meter) observe(m *meter, exec, end int64, weight uint64) {
	l := x.class.latencyClass()
	m.observe(l, StageTotal, end-x.arrived, weight)
	m.observe(l, StageWire, x.ready-x.arrived, weight)
	m.observe(l, StageQueue, exec-x.ready, weight)
	m.observe(l, StageBackend, end-exec, weight)
}

// Lost counts a command that ends without an answer, unless it was answered.
func (x *Meter) Lost() {
	if m := x.take(); m != nil {
		m.lost.Add(1)
	}
}

// take ends the measurement; it returns nil when that has been done.
func (x *Meter) take() *meter {
	m := x.m
	x.m = nil
	if m != nil && x.waiting {
		m.waiting.Add(-1)
	}
	return m
}

func (m *meter) failed(c *Command) {
	switch c.Status {
	case CheckCondition:
		m.sense[senseKeyOf(c.Sense)].Add(1)
	case ReservationConflict:
		m.conflicts.Add(1)
	case Busy, TaskSetFull:
		m.busy.Add(1)
	case TaskAborted:
		m.lost.Add(1)
	default:
	}
}

// senseKeyOf returns the sense key of sense data in fixed or descriptor format,
// SPC-5 4.4.
func senseKeyOf(sense []byte) SenseKey {
	switch {
	case len(sense) > 2 && sense[0]&0x7E == 0x70:
		return SenseKey(sense[2] & 0x0F)
	case len(sense) > 1 && sense[0]&0x7E == 0x72:
		return SenseKey(sense[1] & 0x0F)
	}
	return NoSense
}

// Stats returns the totals of the nexus.
func (n *Nexus) Stats() (s Stats) {
	if m := n.meter.Load(); m != nil {
		m.snapshot(&s)
	}
	return s
}

// Stats returns the totals of the logical unit: of the nexuses that are
// attached, and of those that were.
func (p *Port) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := p.past
	for n := range p.nexuses {
		s := n.Stats()
		total.Add(&s)
	}
	return total
}

// keepStatsLocked adds the totals of a nexus that is detached. p.mu is held.
func (p *Port) keepStatsLocked(n *Nexus) {
	s := n.Stats()
	s.InFlight = 0
	p.past.Add(&s)
}

// Closed tells how the port answers while no unit is published.
func (p *Port) Closed() Closed { return Closed(p.closed.Load()) }

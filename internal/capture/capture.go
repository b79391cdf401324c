// Package capture records the PDUs of connections as packets that others' tools
// read: pcapng with IP and TCP headers made for them. Over RDMA there are no such
// packets, and of a TCP connection the segments are gone when a PDU is whole, so
// addresses and ports are true, sequence numbers count what is captured, and each
// PDU begins a segment.
//
// It does not decide which connections there are, and it does not read sockets:
// whoever moves PDUs gives them to a [Flow].
package capture

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/internal/pcapng"
)

// Defaults of Options.
const (
	defaultMemory = 16 << 20
	queueLength   = 8192
)

// Options say what is captured.
type Options struct {
	Filter
	Snaplen int   // bytes kept of each PDU; 0: all
	Secrets bool  // keep CHAP responses
	Memory  int64 // bytes of PDUs that wait for the reader at most; 0: 16 MiB
	Node    string
}

// Filter chooses connections. All that is set must hold.
type Filter struct {
	TSIH      uint16 // of the session; 0: any
	Initiator string // InitiatorName
	Target    string // TargetName; discovery sessions have none
}

func (f *Filter) any() bool { return *f == Filter{} }

func (f *Filter) match(tsih uint16, initiator, target string) bool {
	return (f.TSIH == 0 || f.TSIH == tsih) && (f.Initiator == "" || f.Initiator == initiator) && (f.Target == "" || f.Target == target)
}

// Capture is one recording. Flows feed it and Run writes it.
type Capture struct {
	o       Options
	queue   chan record
	waiting atomic.Int64 // bytes in queue
	over    atomic.Bool

	received [numInterfaces]atomic.Uint64 // PDUs that the filter let through
	dropped  [numInterfaces]atomic.Uint64 // of them lost
	missed   atomic.Uint64                // lost since the last record that was not
}

// New returns a capture that waits for Run.
func New(o Options) *Capture {
	if o.Memory <= 0 {
		o.Memory = defaultMemory
	}
	return &Capture{o: o, queue: make(chan record, queueLength)}
}

// The interfaces of a file: one for each transport.
const (
	ifTCP = iota
	ifISER
	numInterfaces
)

// record is one PDU, or an event of the connection.
type record struct {
	at      time.Time
	link    *link
	flags   uint8 // of the TCP header
	out     bool
	seq     uint32
	ack     uint32
	drops   uint64
	length  int    // of the PDU on the wire
	data    []byte // what was kept of it; owned
	comment string
}

// put queues a record without waiting. What does not fit is counted.
func (c *Capture) put(r record) {
	if c.over.Load() {
		return
	}
	n, count := int64(len(r.data)), uint64(0)
	if r.length > 0 {
		count = 1
	}
	c.received[r.link.iface].Add(count)
	if c.waiting.Add(n) <= c.o.Memory {
		r.drops = c.missed.Swap(0)
		select {
		case c.queue <- r:
			return
		default:
		}
		c.missed.Add(r.drops)
	}
	c.waiting.Add(-n)
	c.missed.Add(count)
	c.dropped[r.link.iface].Add(count)
}

// Stats are counts of PDUs.
type Stats struct{ Received, Dropped uint64 }

// Stats returns the counts so far.
func (c *Capture) Stats() (s Stats) {
	for i := range c.received {
		s.Received += c.received[i].Load()
		s.Dropped += c.dropped[i].Load()
	}
	return s
}

// flushBytes is how much is written at a time while more waits.
const flushBytes = 64 << 10

// Run writes the file to w until ctx ends, which is no error, or writing fails.
func (c *Capture) Run(ctx context.Context, w io.Writer) error {
	defer c.over.Store(true)
	buf := c.head(nil)
	stats := time.NewTicker(time.Second)
	defer stats.Stop()
	for {
		if _, err := w.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
		select {
		case <-ctx.Done():
			return c.finish(buf, w)
		case now := <-stats.C:
			buf = c.counts(buf, now)
		case r := <-c.queue:
			buf = c.batch(c.packets(buf, &r))
		}
	}
}

// batch appends what waits, up to a limit.
func (c *Capture) batch(buf []byte) []byte {
	for len(buf) < flushBytes {
		select {
		case r := <-c.queue:
			buf = c.packets(buf, &r)
		default:
			return buf
		}
	}
	return buf
}

// finish writes what waits and the counts.
func (c *Capture) finish(buf []byte, w io.Writer) error {
	c.over.Store(true)
	for {
		n := len(c.queue)
		for range n {
			r := <-c.queue
			buf = c.packets(buf, &r)
		}
		if n == 0 {
			buf = c.counts(buf, time.Now())
		}
		if _, err := w.Write(buf); err != nil || n == 0 {
			return err
		}
		buf = buf[:0]
	}
}

// head appends what a file begins with.
func (c *Capture) head(dst []byte) []byte {
	note := "PDUs as iserd had them; addresses are true, IP and TCP headers are made up, data digests are recomputed"
	if !c.o.Secrets {
		note += "; CHAP responses are blanked out"
	}
	dst = pcapng.AppendSection(dst, "iserd", note)
	node := ""
	if c.o.Node != "" {
		node = " of " + c.o.Node
	}
	for i, name := range [numInterfaces]string{ifTCP: "tcp", ifISER: "iser"} {
		d := fmt.Sprintf("iSCSI connections over TCP%s", node)
		if i == ifISER {
			d = fmt.Sprintf("iSER connections%s: PDUs of RFC 7145 without their iSER headers; data moved by RDMA is shown as Data-In, R2T and Data-Out PDUs", node)
		}
		snap := uint32(0)
		if c.o.Snaplen > 0 {
			snap = uint32(c.o.Snaplen) + maxHeaders
		}
		dst = pcapng.AppendInterface(dst, &pcapng.Interface{Name: name, Description: d, Link: pcapng.LinkRaw, Snaplen: snap})
	}
	return dst
}

func (c *Capture) counts(dst []byte, now time.Time) []byte {
	for i := range c.received {
		s := pcapng.Statistics{Interface: uint32(i), Time: now, Received: c.received[i].Load(), Dropped: c.dropped[i].Load()}
		dst = pcapng.AppendStatistics(dst, &s)
	}
	return dst
}

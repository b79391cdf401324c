package actors

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
)

// traceQueue is how many commands wait for the reader of a trace.
const traceQueue = 1024

// TraceOptions say which commands are shown. All that is set must hold.
type TraceOptions struct {
	TSIH       uint16 // of the session; 0: any
	Initiator  string
	Target     string
	LUN        int           // number in the target; -1: any
	SlowerThan time.Duration // from the command PDU to its response
	Errors     bool          // only what did not end with GOOD
	PerSecond  int           // commands shown in a second; 0: 1000
}

// TracedCommand is one command that was answered, or has ended without an answer.
type TracedCommand struct {
	Time             time.Time // of the end
	TSIH             uint16
	Initiator        string
	Target           string
	LUN              uint16 // as the initiator sees it
	Number           int    // of the target's LUN; -1: there is none
	InitiatorTaskTag uint32
	Name             string // in the standard; empty for an unknown operation code
	CDB              []byte
	LBA, Blocks      uint64
	Bytes            int
	Status           scsi.Status
	SenseKey         scsi.SenseKey
	ASC              scsi.ASC
	Aborted          bool
	Times            scsi.Times
}

// Trace calls f for each command that o lets through, until ctx ends, which is no
// error, or f fails. Missed is how many were not shown before it, because there
// were too many or f was too slow; c is nil when nothing but that is to be told.
func (n *Node) Trace(ctx context.Context, o TraceOptions, f func(c *TracedCommand, missed uint64) error) error {
	if o.PerSecond <= 0 {
		o.PerSecond = 1000
	}
	t := &traceObserver{o: o, queue: make(chan TracedCommand, traceQueue)}
	defer n.watching(t)()
	if err := f(nil, 0); err != nil { // the connections know of it
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case c := <-t.queue:
			err = f(&c, t.missed.Swap(0))
		case <-tick.C:
			if missed := t.missed.Swap(0); missed > 0 {
				err = f(nil, missed)
			}
		}
		if err != nil {
			return err
		}
	}
}

// traceObserver is one trace.
type traceObserver struct {
	o      TraceOptions
	queue  chan TracedCommand
	missed atomic.Uint64
	second atomic.Int64 // in which shown counts
	shown  atomic.Int64
}

// attach implements observer.
func (o *traceObserver) attach(a *connActor, _ bool) (iscsi.Tap, iscsi.Tracer) {
	return nil, &connTracer{o, a}
}

// admit reports whether one more may be shown in this second.
func (o *traceObserver) admit(now time.Time) bool {
	if s := now.Unix(); o.second.Swap(s) != s {
		o.shown.Store(0)
	}
	return o.shown.Add(1) <= int64(o.o.PerSecond)
}

// connTracer is one trace at one connection.
type connTracer struct {
	*traceObserver
	a *connActor
}

// Command implements iscsi.Tracer.
func (t *connTracer) Command(c *iscsi.Answered) {
	s := t.a.engine.Session()
	o := &t.o
	switch {
	case s == nil, o.TSIH != 0 && s.TSIH != o.TSIH,
		o.Initiator != "" && s.Identity.InitiatorName != o.Initiator,
		o.Target != "" && s.Identity.TargetName != o.Target,
		o.Errors && c.Status == scsi.Good && !c.Aborted,
		c.Times[scsi.StageTotal] < o.SlowerThan:
		return
	}
	number := t.number(c.Nexus)
	if o.LUN >= 0 && number != o.LUN {
		return
	}
	now := time.Now()
	if !t.admit(now) {
		t.missed.Add(1)
		return
	}
	lun, _ := c.LUN.Flat()
	x := TracedCommand{
		Time: now, TSIH: s.TSIH, Initiator: s.Identity.InitiatorName, Target: s.Identity.TargetName,
		LUN: lun, Number: number, InitiatorTaskTag: c.InitiatorTaskTag, Name: scsi.NameOf(c.CDB),
		CDB: append([]byte(nil), c.CDB...), LBA: c.LBA, Blocks: c.Blocks, Bytes: c.Bytes,
		Status: c.Status, Aborted: c.Aborted, Times: c.Times,
	}
	if c.Status == scsi.CheckCondition {
		x.SenseKey, x.ASC = scsi.SenseOf(c.Sense)
	}
	select {
	case t.queue <- x:
	default:
		t.missed.Add(1)
	}
}

// number is that of the target's LUN behind a nexus, -1 if there is none.
func (t *connTracer) number(n *scsi.Nexus) int {
	if n == nil || t.a.target == nil {
		return -1
	}
	for i, l := range *t.a.target.luns.Load() {
		if l.port == n.Port() {
			return int(i)
		}
	}
	return -1
}

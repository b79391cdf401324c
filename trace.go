package iserd

import (
	"context"
	"time"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/luns/scsi"
)

// TraceOptions say which commands a trace shows. All that is set must hold.
type TraceOptions struct {
	TSIH       uint16 // of the session; 0: any
	Initiator  string // InitiatorName; empty: any
	Target     string // TargetName; empty: any
	LUN        int    // number in the target; -1: any
	SlowerThan time.Duration
	Errors     bool // only what did not end with GOOD
	PerSecond  int  // commands shown in a second; 0: 1000
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
	LBA, Blocks      uint64 // of a command that addresses blocks
	Bytes            int    // moved
	Status           string // "GOOD", "CHECK CONDITION", …; "ABORTED": no answer
	Sense            string // "ILLEGAL REQUEST 24h/00h"; empty without sense data
	Total, Wire      time.Duration
	Queue, Backend   time.Duration
}

// Trace calls f for each command that o lets through, until ctx ends, which is no
// error, or f fails. Missed is how many were not shown before it, because there
// were too many or f was too slow; c is nil when nothing but that is to be told,
// as at the beginning. Commands never wait for f.
func (s *Server) Trace(ctx context.Context, o TraceOptions, f func(c *TracedCommand, missed uint64) error) error {
	return wrap(s.node.Trace(ctx, actors.TraceOptions(o), func(c *actors.TracedCommand, missed uint64) error {
		if c == nil {
			return f(nil, missed)
		}
		return f(traced(c), missed)
	}))
}

func traced(c *actors.TracedCommand) *TracedCommand {
	x := &TracedCommand{
		Time: c.Time, TSIH: c.TSIH, Initiator: c.Initiator, Target: c.Target, LUN: c.LUN, Number: c.Number,
		InitiatorTaskTag: c.InitiatorTaskTag, Name: c.Name, CDB: c.CDB, LBA: c.LBA, Blocks: c.Blocks, Bytes: c.Bytes,
		Status: c.Status.String(),
		Total:  c.Times[scsi.StageTotal], Wire: c.Times[scsi.StageWire],
		Queue: c.Times[scsi.StageQueue], Backend: c.Times[scsi.StageBackend],
	}
	if c.Aborted {
		x.Status = "ABORTED"
	}
	if c.SenseKey != 0 || c.ASC != 0 {
		x.Sense = c.SenseKey.String() + " " + c.ASC.String()
	}
	return x
}

package iscsi

import (
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// Tracer sees the commands of a connection as they are answered, in the
// connection's context.
type Tracer interface {
	// Command borrows its argument and all in it.
	Command(a *Answered)
}

// Answered is a command that is being answered, or ends without an answer.
type Answered struct {
	LUN              pdu.LUN
	InitiatorTaskTag uint32
	Nexus            *scsi.Nexus // nil: there is no such LUN
	CDB              []byte
	LBA, Blocks      uint64 // of a command that addresses blocks
	Bytes            int    // moved
	Status           scsi.Status
	Sense            []byte // of CHECK CONDITION
	Aborted          bool   // no answer
	Times            scsi.Times
}

// SetTracer has t see every command from now on; nil ends it. It is for the
// connection's context.
func (c *Conn) SetTracer(t Tracer) { c.tracer = t }

// trace shows a task to the tracer.
func (c *Conn) trace(t *Task, bytes int, aborted bool) {
	a := Answered{
		LUN: t.LUN, InitiatorTaskTag: t.InitiatorTaskTag, Nexus: t.Nexus, CDB: t.CDB, Bytes: bytes,
		Status: t.Status, Sense: t.Sense, Aborted: aborted, Times: t.meter.Times(&t.Command, c.batch),
	}
	a.LBA, a.Blocks = t.LBA()
	c.tracer.Command(&a)
}

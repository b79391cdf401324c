package actors

import (
	"maps"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// function is a task management function that concerns more than one session,
// RFC 7143 §11.5, or the abort of PREEMPT AND ABORT. It is answered "complete"
// only when every connection has said that no task of it can still touch the
// unit.
type function struct {
	m       *iscsi.Management // nil: preempt is set
	preempt *abortNexuses
	conn    runtime.Ref // who asked by m
	ports   []*scsi.Port
	left    map[runtime.Ref]struct{} // connections that have not answered
	other   []*scsi.Nexus            // nexuses of other initiators that lost tasks
}

// abortNexuses is the task manager's part of PREEMPT AND ABORT, see
// scsi.Port.AbortTasks.
type abortNexuses struct {
	port    *scsi.Port
	nexuses []*scsi.Nexus
	done    func()
}

// abortTasksOf is the hook of a LUN's port. A target that is gone has no tasks.
func (t *Target) abortTasksOf(p *scsi.Port) func([]*scsi.Nexus, func()) {
	return func(nexuses []*scsi.Nexus, done func()) {
		if !t.n.sys.Send(t.ref, abortNexuses{p, nexuses, done}) {
			done()
		}
	}
}

func (a *targetActor) manage(ctx runtime.Context, m manage) {
	f := &function{m: m.m, conn: m.conn}
	var port *scsi.Port
	if m.m.Nexus != nil {
		port = m.m.Nexus.Port()
		f.ports = []*scsi.Port{port}
	} else {
		for l := range maps.Values(*a.t.luns.Load()) {
			f.ports = append(f.ports, l.port)
		}
	}
	a.abort(ctx, f, abortTasks{port: port})
}

// preempt ends the tasks of nexuses whose registrations PREEMPT AND ABORT has
// removed.
func (a *targetActor) preempt(ctx runtime.Context, m abortNexuses) {
	a.abort(ctx, &function{preempt: &m, ports: []*scsi.Port{m.port}}, abortTasks{port: m.port, only: m.nexuses})
}

// abort has every connection end tasks for f.
func (a *targetActor) abort(ctx runtime.Context, f *function, what abortTasks) {
	f.left = make(map[runtime.Ref]struct{})
	a.running[f] = struct{}{}
	self := ctx.Self()
	for conn := range a.byConn {
		f.left[conn] = struct{}{}
		what.by = iscsi.ByOther
		if conn == f.conn {
			what.by = iscsi.ByNexus
		}
		what.done = func(n *scsi.Nexus) {
			a.n.sys.Send(self, tasksAborted{f: f, conn: conn, nexus: n})
		}
		if !ctx.Send(conn, what) {
			delete(f.left, conn)
		}
	}
	a.settle(ctx, f)
}

// aborted notes that conn has no task of f's any more; f nil means of none.
func (a *targetActor) aborted(ctx runtime.Context, conn runtime.Ref, lost *scsi.Nexus, f *function) {
	for g := range a.running {
		if f != nil && g != f {
			continue
		}
		if _, ok := g.left[conn]; !ok {
			continue
		}
		delete(g.left, conn)
		if lost != nil && conn != g.conn {
			g.other = append(g.other, lost)
		}
		a.settle(ctx, g)
	}
}

// settle goes on with f when all connections have answered: commands of
// connections that are gone may still be in the backend.
func (a *targetActor) settle(ctx runtime.Context, f *function) {
	if len(f.left) > 0 {
		return
	}
	delete(a.running, f)
	self := ctx.Self()
	a.n.orphans.Wait(f.ports, func() { a.n.sys.Send(self, settled{f}) })
}

// complete answers f: nothing of what it ends can happen any more.
func (a *targetActor) complete(ctx runtime.Context, f *function) {
	switch {
	case f.preempt != nil:
		f.tellOthers()
		f.preempt.done()
		return
	case f.m.Function == pdu.ClearTaskSet:
		f.tellOthers()
	default:
		for _, p := range f.ports {
			p.Reset()
		}
	}
	// RFC 7143 §11.5.1: a cold reset ends in dropping all connections, that of
	// the requester after its answer.
	cold := f.m.Function == pdu.TargetColdReset
	ctx.Send(f.conn, managed{m: f.m, response: pdu.FunctionComplete, last: cold})
	for ref, e := range a.bySess {
		if cold && e.conn != f.conn {
			ctx.Send(ref, endSession{why: "target cold reset"})
		}
	}
}

// tellOthers has the initiators that lost tasks know of it, unless each task ended
// with the status TASK ABORTED.
func (f *function) tellOthers() {
	for _, n := range f.other {
		if !n.Port().ReportsAborts() {
			n.Attention(scsi.AttentionCommandsCleared)
		}
	}
}

// release ends the wait of each PREEMPT AND ABORT, which has no time limit, when
// this incarnation ends. The connections have been told, and the device server
// still lets no command of these nexuses touch the medium after GOOD.
func (a *targetActor) release() {
	for f := range a.running {
		if f.preempt != nil {
			f.preempt.done()
		}
	}
}

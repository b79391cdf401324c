package actors

import (
	"maps"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// function is a task management function that concerns more than one session,
// RFC 7143 §11.5. It is answered "complete" only when every connection has said
// that no task of it can still touch the unit.
type function struct {
	m     *iscsi.Management
	conn  runtime.Ref // who asked
	ports []*scsi.Port
	left  map[runtime.Ref]struct{} // connections that have not answered
	other []*scsi.Nexus            // nexuses of other initiators that lost tasks
}

func (a *targetActor) manage(ctx runtime.Context, m manage) {
	f := &function{m: m.m, conn: m.conn, left: make(map[runtime.Ref]struct{})}
	var port *scsi.Port
	if m.m.Nexus != nil {
		port = m.m.Nexus.Port()
		f.ports = []*scsi.Port{port}
	} else {
		for l := range maps.Values(*a.t.luns.Load()) {
			f.ports = append(f.ports, l.port)
		}
	}
	a.running[f] = struct{}{}
	self := ctx.Self()
	for conn := range a.byConn {
		f.left[conn] = struct{}{}
		ok := ctx.Send(conn, abortTasks{port: port, done: func(n *scsi.Nexus) {
			a.n.sys.Send(self, tasksAborted{f: f, conn: conn, nexus: n})
		}})
		if !ok {
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
	switch f.m.Function {
	case pdu.ClearTaskSet:
		for _, n := range f.other {
			n.Attention(scsi.AttentionCommandsCleared)
		}
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

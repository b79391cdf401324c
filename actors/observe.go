package actors

import (
	"slices"
	"time"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// observer is somebody who looks at what goes over connections.
type observer interface {
	// attach begins to look at a connection, in its context. Both results are nil
	// if it is not of interest. Fresh is set when nothing has gone over it yet.
	attach(a *connActor, fresh bool) (iscsi.Tap, iscsi.Tracer)
}

// Messages to connections: an observer comes or goes.
type (
	observe struct {
		o    observer
		seen chan<- struct{} // holds one for each connection
	}
	unobserve struct{ o observer }
)

// observeTime is how long an observer waits until it sees all connections that
// there are: one that ends, or hangs, keeps it for so long.
const observeTime = time.Second

// watching lets o look at all connections that there are, from its return on, and
// that come, until stop.
func (n *Node) watching(o observer) (stop func()) {
	n.changeObservers(func(all []observer) []observer { return append(all, o) })
	conns := n.conns()
	seen := make(chan struct{}, len(conns))
	late := time.After(observeTime)
	for _, ref := range conns {
		if !n.sys.Send(ref, observe{o, seen}) {
			seen <- struct{}{}
		}
	}
	for range conns {
		select {
		case <-seen:
			continue
		case <-late:
		}
		break
	}
	return func() {
		n.changeObservers(func(all []observer) []observer {
			return slices.DeleteFunc(all, func(x observer) bool { return x == o })
		})
		for _, ref := range n.conns() {
			n.sys.Send(ref, unobserve{o})
		}
	}
}

func (n *Node) changeObservers(f func([]observer) []observer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []observer
	if p := n.observers.Load(); p != nil {
		all = slices.Clone(*p)
	}
	all = f(all)
	n.observers.Store(&all)
}

// conns are the actors of the connections that there are.
func (n *Node) conns() (out []runtime.Ref) {
	for _, i := range n.sys.Actors() {
		if i.Kind == "conn" {
			out = append(out, i.Ref)
		}
	}
	return out
}

// observed is who looks at one connection. The zero value is nobody.
type observed []struct {
	by     observer
	tap    iscsi.Tap
	tracer iscsi.Tracer
}

func (x observed) index(o observer) int {
	for i := range x {
		if x[i].by == o {
			return i
		}
	}
	return -1
}

// observeAll has all observers look at a new connection.
func (a *connActor) observeAll() {
	if p := a.n.observers.Load(); p != nil {
		for _, o := range *p {
			a.observe(o, true)
		}
	}
}

// observe has o look, unless it does already.
func (a *connActor) observe(o observer, fresh bool) {
	if a.observed.index(o) >= 0 {
		return
	}
	tap, tracer := o.attach(a, fresh)
	a.observed = append(a.observed, struct {
		by     observer
		tap    iscsi.Tap
		tracer iscsi.Tracer
	}{o, tap, tracer})
	a.shown()
}

func (a *connActor) unobserve(o observer) {
	if i := a.observed.index(o); i >= 0 {
		a.observed = slices.Delete(a.observed, i, i+1)
		a.shown()
	}
}

// shown gives the engine what looks now: nothing, one, or several.
func (a *connActor) shown() {
	var all taps
	var tr tracers
	for _, x := range a.observed {
		if x.tap != nil {
			all = append(all, x.tap)
		}
		if x.tracer != nil {
			tr = append(tr, x.tracer)
		}
	}
	a.engine.SetTap(nil)
	if len(all) > 0 {
		a.engine.SetTap(all)
	}
	a.engine.SetTracer(nil)
	if len(tr) > 0 {
		a.engine.SetTracer(tr)
	}
}

// taps are several that look at one connection.
type taps []iscsi.Tap

// PDU implements iscsi.Tap.
func (all taps) PDU(h *pdu.BHS, ahs, data []byte, flags iscsi.TapFlags) {
	for _, t := range all {
		t.PDU(h, ahs, data, flags)
	}
}

// tracers are several that look at the commands of one connection.
type tracers []iscsi.Tracer

// Command implements iscsi.Tracer.
func (all tracers) Command(c *iscsi.Answered) {
	for _, t := range all {
		t.Command(c)
	}
}

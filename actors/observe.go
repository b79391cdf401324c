package actors

import (
	"context"
	"io"
	"slices"

	"github.com/iserd/iserd/internal/capture"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// observer is somebody who looks at what goes over connections.
type observer interface {
	// attach begins to look at a connection, in its context; nil if it is not of
	// interest. Fresh is set when nothing has gone over it yet.
	attach(a *connActor, fresh bool) iscsi.Tap
}

// Messages to connections: an observer comes or goes.
type (
	observe   struct{ o observer }
	unobserve struct{ o observer }
)

// watching lets o look at all connections that there are and that come, until
// stop.
func (n *Node) watching(o observer) (stop func()) {
	n.changeObservers(func(all []observer) []observer { return append(all, o) })
	n.tellConns(observe{o})
	return func() {
		n.changeObservers(func(all []observer) []observer {
			return slices.DeleteFunc(all, func(x observer) bool { return x == o })
		})
		n.tellConns(unobserve{o})
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

func (n *Node) tellConns(msg any) {
	for _, i := range n.sys.Actors() {
		if i.Kind == "conn" {
			n.sys.Send(i.Ref, msg)
		}
	}
}

// observed is who looks at one connection. The zero value is nobody.
type observed struct {
	by   []observer
	taps []iscsi.Tap // of by; nil for those that are not interested
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
	if slices.Contains(a.observed.by, o) {
		return
	}
	a.observed.by = append(a.observed.by, o)
	a.observed.taps = append(a.observed.taps, o.attach(a, fresh))
	a.tap()
}

func (a *connActor) unobserve(o observer) {
	if i := slices.Index(a.observed.by, o); i >= 0 {
		a.observed.by = slices.Delete(a.observed.by, i, i+1)
		a.observed.taps = slices.Delete(a.observed.taps, i, i+1)
		a.tap()
	}
}

// tap gives the engine what looks now: nothing, one, or several.
func (a *connActor) tap() {
	var all taps
	for _, t := range a.observed.taps {
		if t != nil {
			all = append(all, t)
		}
	}
	switch len(all) {
	case 0:
		a.engine.SetTap(nil)
	case 1:
		a.engine.SetTap(all[0])
	default:
		a.engine.SetTap(all)
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

// Capture records the PDUs of connections to w, as pcapng, until ctx ends, which
// is no error, or writing fails. Connections never wait for w: what it is too
// slow for is left out and counted.
func (n *Node) Capture(ctx context.Context, o capture.Options, w io.Writer) error {
	c := capture.New(o)
	defer n.watching(&captureObserver{c})()
	return c.Run(ctx, w)
}

type captureObserver struct{ c *capture.Capture }

func (o *captureObserver) attach(a *connActor, fresh bool) iscsi.Tap {
	p := capture.Peers{
		Initiator: addrPort(a.mover.RemoteAddr()), Target: addrPort(a.mover.LocalAddr()),
		ISER: a.mover.kind() == login.ISER, Fresh: fresh,
	}
	if !fresh {
		if s := a.engine.Session(); s != nil {
			p.Known = known(s, a.user)
		}
	}
	if f := o.c.Flow(p); f != nil {
		return f
	}
	return nil
}

func known(s *iscsi.Session, user string) capture.Known {
	id := &s.Identity
	return capture.Known{TSIH: s.TSIH, InitiatorName: id.InitiatorName, TargetName: id.TargetName, ISID: id.ISID.String(), Authentication: user}
}

// describe tells those that record a connection who has logged in.
func (a *connActor) describe(s *iscsi.Session) {
	for _, t := range a.observed.taps {
		if f, ok := t.(*capture.Flow); ok {
			k := known(s, a.user)
			f.Describe(&k)
		}
	}
}

// endFlows tells those that record a connection that it is over.
func (a *connActor) endFlows() {
	for _, t := range a.observed.taps {
		if f, ok := t.(*capture.Flow); ok {
			f.End()
		}
	}
}

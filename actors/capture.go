package actors

import (
	"context"
	"io"

	"github.com/iserd/iserd/internal/capture"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu/login"
)

// Capture records the PDUs of connections to w, as pcapng, until ctx ends, which
// is no error, or writing fails. Connections never wait for w: what it is too
// slow for is left out and counted.
func (n *Node) Capture(ctx context.Context, o capture.Options, w io.Writer) error {
	c := capture.New(o)
	defer n.watching(&captureObserver{c})()
	return c.Run(ctx, w)
}

type captureObserver struct{ c *capture.Capture }

func (o *captureObserver) attach(a *connActor, fresh bool) (iscsi.Tap, iscsi.Tracer) {
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
		return f, nil
	}
	return nil, nil
}

func known(s *iscsi.Session, user string) capture.Known {
	id := &s.Identity
	return capture.Known{TSIH: s.TSIH, InitiatorName: id.InitiatorName, TargetName: id.TargetName, ISID: id.ISID.String(), Authentication: user}
}

// describe tells those that record a connection who has logged in.
func (a *connActor) describe(s *iscsi.Session) {
	for _, x := range a.observed {
		if f, ok := x.tap.(*capture.Flow); ok {
			k := known(s, a.user)
			f.Describe(&k)
		}
	}
}

// endFlows tells those that record a connection that it is over.
func (a *connActor) endFlows() {
	for _, x := range a.observed {
		if f, ok := x.tap.(*capture.Flow); ok {
			f.End()
		}
	}
}

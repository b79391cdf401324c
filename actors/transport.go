package actors

import (
	"errors"
	"net"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/tcp"
)

// transport is the datamover of one connection, as its actor sees it. All but
// serve belong to the actor's context.
type transport interface {
	iscsi.Datamover

	// serve has turns run by run until that reports false or the connection
	// ends. It may return before that.
	serve(run func(turn any) bool) error
	// turn does what a message of serve asks for. mine is false for any other
	// message; err ends the connection.
	turn(msg any) (mine bool, err error)
	// pool is the memory of tasks.
	pool() iscsi.Pool
	bind(e *iscsi.Conn)
	kind() login.Transport
	// Close gives back what the connection holds, or will when nothing is under
	// way any more. The engine is closed by then.
	Close()
	// abandon is Close for a transport whose serve was never called.
	abandon()
	// Shutdown ends the connection in order: what is queued goes out.
	Shutdown()
	Lingering() bool
	RemoteAddr() net.Addr
	LocalAddr() net.Addr
}

// link is a connection that has no actor yet.
type link interface {
	RemoteAddr() net.Addr
	// open makes the transport; when it fails, nothing is left of the link.
	open(n *Node, p *portal) (transport, error)
	// refuse drops the connection.
	refuse()
}

// tcpLink is a socket.
type tcpLink struct{ tcp.Socket }

func (l tcpLink) refuse() { l.Close() }

func (l tcpLink) open(n *Node, p *portal) (transport, error) {
	cfg := tcp.Config{Receive: n.rxPool, MaxLoginData: maxLoginData}
	if p.inlet != nil {
		cfg.Foreign = softiwarp.IsRequest
	}
	c, err := tcp.NewConn(l.Socket, cfg)
	if err != nil {
		l.Close()
		return nil, err
	}
	return tcpTransport{c, n, l.Socket}, nil
}

type tcpTransport struct {
	*tcp.Conn
	n    *Node
	sock tcp.Socket
}

func (t tcpTransport) abandon() {
	t.Close()
	t.sock.Close()
}

func (t tcpTransport) bind(e *iscsi.Conn)    { t.Bind(e) }
func (t tcpTransport) pool() iscsi.Pool      { return t.n.pool }
func (t tcpTransport) kind() login.Transport { return login.TCP }

func (t tcpTransport) turn(msg any) (bool, error) {
	m, ok := msg.(*tcp.Turn)
	if !ok {
		return false, nil
	}
	t.Turn(m)
	return true, m.Err
}

// serve owns the socket until the connection ends.
func (t tcpTransport) serve(run func(any) bool) error {
	return t.Serve(func(m *tcp.Turn) bool { return run(m) }, func(f func()) { t.n.sys.Go("flush", f) })
}

// iserLink is a request of the RDMA connection manager.
type iserLink struct{ *iser.Request }

func (l iserLink) refuse() { l.Refuse() }

func (l iserLink) open(_ *Node, p *portal) (transport, error) {
	l.NoInvalidate = p.iser.NoRemoteInvalidation
	c, err := l.Open()
	if err != nil {
		return nil, err
	}
	return iserTransport{c}, nil
}

type iserTransport struct{ *iser.Conn }

func (t iserTransport) abandon() { t.Close() }

func (t iserTransport) bind(e *iscsi.Conn)    { t.Bind(e) }
func (t iserTransport) pool() iscsi.Pool      { return t.Pool() }
func (t iserTransport) kind() login.Transport { return login.ISER }

func (t iserTransport) turn(msg any) (bool, error) {
	m, ok := msg.(*iser.Turn)
	if !ok {
		return false, nil
	}
	t.Turn(m)
	if errors.Is(m.Err, net.ErrClosed) {
		return true, nil
	}
	return true, m.Err
}

// serve leaves the connection to the pump of its device.
func (t iserTransport) serve(run func(any) bool) error {
	t.Start(func(m *iser.Turn) bool { return run(m) })
	return nil
}

// dataPath is what the iSCSI layer works with: the datamover itself, which may
// have more methods than a transport.
func dataPath(t transport) iscsi.Datamover {
	switch t := t.(type) {
	case tcpTransport:
		return t.Conn
	case iserTransport:
		return t.Conn
	}
	return t
}

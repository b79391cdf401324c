package verbs

import (
	"context"
	"net/netip"
	"syscall"
)

// CM manages connections: a queue of events, and the listeners and
// connections whose events come there. Service RDMA_PS_TCP (IBTA Annex A11),
// on iWARP MPA (RFC 5044, RFC 6581).
type CM interface {
	// Listen accepts connections to addr. An unspecified address means all
	// devices; port 0 means any free port. backlog bounds the requests that
	// were not given out by Next yet. The error wraps ErrNoDevice when no
	// device has the address. The listener is owned by the caller.
	Listen(addr netip.AddrPort, backlog int) (Listener, error)
	// Dial finds the device and the path to remote, from local unless that is
	// the zero Addr, and waits for the result until ctx is done. Nothing has
	// been sent to remote's service when it returns. The Conn is owned by the
	// caller, in the state before Connect.
	Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (Conn, error)
	// Next waits for the next event. It returns ctx's error, or an error that
	// wraps ErrClosed after Close. Events of a Conn or Listener that is closed
	// are not delivered. One caller at a time, which must not do anything
	// slow between calls: events of all connections pass here.
	Next(ctx context.Context) (Event, error)
	// Close ends Next. Listeners and connections must be closed before.
	Close() error
}

// Listener is an address that is listened on. It delivers
// EventConnectRequest, EventAddrChange and EventDeviceRemoval; after the
// latter two it accepts nothing more and is to be closed.
type Listener interface {
	// Addr is the address with the port in use.
	Addr() netip.AddrPort
	// Device that has the address; nil for an unspecified address.
	Device() Device
	// Close ends listening. Requests that were not given out are refused;
	// connections made from it stay.
	Close() error
}

// InletCM is a CM that also takes connections from ports that serve other
// protocols as well. That takes a transport of the system's own, so only iWARP
// in software has it.
type InletCM interface {
	CM
	// Inlet returns a listener without a port of its own, with at most backlog
	// requests in it that Next has not given out (0: 128). addr is what Addr
	// returns. Owned by the caller.
	Inlet(addr netip.AddrPort, backlog int) Inlet
}

// Inlet is a listener whose connections were accepted by somebody else.
type Inlet interface {
	Listener
	// Hand makes c, whose first bytes, read, were read already, a connection of
	// the inlet. It duplicates c's socket and borrows c; the caller closes c in
	// any case, without shutting it down. Any goroutine.
	Hand(c syscall.Conn, read []byte) error
}

// ConnParam is what the two sides tell each other when they connect. All of
// it is about the sender's side when given to Connect and Accept; in an Event
// all of it is as this side should use it.
type ConnParam struct {
	// Private data. In an event it is the event's own, and may be longer than
	// what the peer gave: InfiniBand and RoCE pad it with zeros to a fixed
	// length (56 bytes in a request, 196 in a reply), iWARP does not.
	Private []byte
	// ResponderResources is the number of RDMA Reads by the peer that this
	// side answers at a time (IRD), at most Caps.MaxRDAtom.
	ResponderResources uint8
	// InitiatorDepth is the number of RDMA Reads that this side has in flight
	// (ORD), at most Caps.MaxInitRDAtom. In an EventConnectRequest it is the
	// peer's ResponderResources, and Accept's must not be above it.
	InitiatorDepth uint8
	// RetryCount, 0 to 7, of Connect: how often the transport repeats, for
	// both sides. Ignored on iWARP.
	RetryCount uint8
	// RNRRetryCount, 0 to 7: how often the *peer* repeats when we have no
	// receive posted; 7 is forever. Ignored on iWARP.
	RNRRetryCount uint8
}

// Conn is one connection and its queue pair.
type Conn interface {
	// Device of the connection.
	Device() Device
	// Local and Peer address; of Peer the port may be the CM's choice.
	Local() netip.AddrPort
	Peer() netip.AddrPort
	// NewQP makes the connection's queue pair; once. It takes receives at
	// once, sends after EventEstablished. The Conn owns it: Close destroys it.
	NewQP(cfg QPConfig) (QP, error)
	// Accept answers the request; passive side, after NewQP. The outcome is
	// EventEstablished, EventConnectError, EventUnreachable, EventRejected or
	// EventDisconnected. On iWARP the passive side must not send before the
	// peer has: providers may hold its sends back until then.
	Accept(p ConnParam) error
	// Reject refuses the request, with at most Caps.MaxPrivateREJ bytes, and
	// leaves nothing but Close to be done; passive side, instead of Accept.
	Reject(private []byte) error
	// Connect asks the peer; active side, after NewQP. The outcome is one
	// event as for Accept.
	Connect(p ConnParam) error
	// CommEst tells the connection manager that data came in before
	// EventEstablished (rdma_notify with IBV_EVENT_COMM_EST). No error when it
	// is established already.
	CommEst() error
	// Disconnect ends the connection in good order: the queue pair goes to the
	// error state, so all work requests are flushed, and both sides get
	// EventDisconnected. Disconnecting again is no error.
	Disconnect() error
	// Close destroys the queue pair and the connection, in any state, and
	// returns when the device does not touch the memory of any work request
	// any more. Completions of it that were not polled may be gone or may
	// still come from Poll; the owner drains before (package comment). No
	// event of the connection is delivered after Close returns. An error means
	// that the device may still own the memory.
	Close() error
}

// Event is an event of connection management.
type Event struct {
	Kind EventKind
	// Conn that the event is about; nil for a listener's own events. With
	// EventConnectRequest it is a new one and the receiver owns it.
	Conn Conn
	// Listener of EventConnectRequest and of a listener's own events.
	Listener Listener
	// Status says why: a negative errno, or the reject reason (IBTA 12.6.7.2)
	// when positive.
	Status int
	// Param of EventConnectRequest and of the active side's EventEstablished;
	// Param.Private also of EventRejected and EventDisconnected. Owned by the
	// receiver.
	Param ConnParam
}

// EventKind is the kind of an event.
type EventKind uint8

// Events. After EventConnectError, EventUnreachable, EventRejected,
// EventDisconnected and EventDeviceRemoval the connection is over, and all of
// its work requests have been or will be flushed; more than one of them may
// come for a connection.
const (
	// EventConnectRequest: a peer asks; answer with Accept or Reject.
	EventConnectRequest EventKind = iota + 1
	// EventEstablished: connected; sends may be posted.
	EventEstablished
	// EventConnectError: connecting failed here.
	EventConnectError
	// EventUnreachable: the peer does not answer, or sent no RTU.
	EventUnreachable
	// EventRejected: the peer, or its connection manager, refuses.
	EventRejected
	// EventDisconnected: the connection has ended, by either side.
	EventDisconnected
	// EventDeviceRemoval: the device is gone. Everything that was made from
	// it is to be closed at once: the system waits for that.
	EventDeviceRemoval
	// EventAddrChange: the address has moved to other hardware.
	EventAddrChange
	// EventTimewaitExit: no packet of the connection can come any more. Not
	// delivered by iWARP.
	EventTimewaitExit
)

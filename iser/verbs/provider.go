package verbs

import (
	"context"
	"errors"
	"net/netip"
)

// Errors of all providers; they come wrapped with what was tried.
var (
	// ErrUnavailable: the provider cannot run here; the message says what is
	// missing and how to get it.
	ErrUnavailable = errors.New("RDMA is not available")
	// ErrNoDevice: the provider runs, but finds no device (for the address).
	ErrNoDevice = errors.New("no RDMA device")
	// ErrClosed: the object was closed before or during the call.
	ErrClosed = errors.New("closed")
	// ErrQueueFull: more work requests than the queue was made for. Never
	// wrapped.
	ErrQueueFull = errors.New("verbs: work queue is full")
)

// Provider is one way to do RDMA: adapters by the system's libraries, or a
// protocol in software.
type Provider interface {
	// Name of the provider, for messages: "native", "softiwarp".
	Name() string
	// Devices lists the devices that are there now. A device that stays is
	// the same Device in each list. The error wraps ErrUnavailable or
	// ErrNoDevice when there is nothing to list. The provider owns the
	// devices.
	Devices() ([]Device, error)
	// NewCM returns a connection manager, an event queue of its own. Owned by
	// the caller.
	NewCM() (CM, error)
	// Close frees what the provider holds. Everything made from it must be
	// closed before.
	Close() error
}

// Device is an RDMA adapter (IBTA: HCA; RFC 5040: RNIC), open for use.
type Device interface {
	// Name as the system calls it: "mlx5_0".
	Name() string
	// Caps are the device's limits; they do not change.
	Caps() Caps
	// CPUs are those near the device, on which whoever polls it should run; nil
	// when all are the same.
	CPUs() []int
	// Ports asks for the state of the ports as it is now.
	Ports() ([]Port, error)
	// Register gives the device access to mem and returns the region, owned
	// by the caller. mem is mapped memory, of any alignment, and may be a
	// part of a mapping or of another region: pages of mem alone are pinned,
	// unless acc has AccessOnDemand, which pins none and needs
	// Caps.OnDemandPaging. The region borrows mem until its Close.
	//
	// The sink of an RDMA Read needs AccessLocalWrite, and on iWARP also
	// AccessRemoteWrite: its STag goes on the wire (RFC 5040 5.2).
	Register(mem []byte, acc Access) (MR, error)
	// NewWindow returns an unbound memory window of type 2, owned by the
	// caller. The error wraps errors.ErrUnsupported without Caps.Windows.
	NewWindow() (Window, error)
	// NewCQ returns a completion queue for at least depth completions, owned
	// by the caller. Overrunning it breaks the queue pairs on it: depth is
	// the sum of the work requests that they can hold.
	NewCQ(depth int) (CQ, error)
	// NextEvent waits for the next asynchronous event. It returns ctx's error,
	// or an error that wraps ErrClosed after the provider's Close, and when a
	// device that was removed has been let go of. After DeviceFatal all that
	// was made from the device is to be closed at once: the system may wait
	// for that. Somebody should wait for the events of every device listed,
	// used or not: a device that is not known to be gone stays open.
	NextEvent(ctx context.Context) (DeviceEvent, error)
}

// Caps are a device's limits, after all layers have taken their part.
type Caps struct {
	Transport Transport

	// SendInv: PostSend accepts OpSendInv.
	SendInv bool
	// Windows: NewWindow works, so that a peer's Send with Invalidate can
	// name an RKey of ours.
	Windows bool
	// OnDemandPaging: Register accepts AccessOnDemand for what a reliable
	// connection does (Send, Receive, RDMA Write and Read).
	OnDemandPaging bool

	MaxWR         int    // work requests of one queue
	MaxSGE        int    // SGEs of a work request
	MaxReadSGE    int    // SGEs of an RDMA Read; 1 on most iWARP adapters
	MaxInitRDAtom int    // RDMA Reads that a QP can have in flight (ORD)
	MaxRDAtom     int    // RDMA Reads that a QP can answer at a time (IRD)
	MaxCQE        int    // completions of one CQ
	MaxQP         int    // queue pairs
	MaxCQ         int    // completion queues
	MaxMR         int    // memory regions
	MaxMRSize     uint64 // bytes of one region
	MaxMessage    uint32 // bytes of one Send, RDMA Write or RDMA Read
	MaxPrivateREQ int    // bytes of private data of Connect
	MaxPrivateREP int    // bytes of private data of Accept
	MaxPrivateREJ int    // bytes of private data of Reject

	VendorID     uint32
	VendorPartID uint32
	Firmware     string
	NodeGUID     uint64 // host order; 0 when there is none
}

// Access says what may be done to registered memory. The values are those of
// ibv_access_flags.
type Access uint32

// What a memory region or window allows. Local reads are always allowed.
const (
	AccessLocalWrite  Access = 1 << 0 // needed by receives and by RDMA Read
	AccessRemoteWrite Access = 1 << 1 // needs AccessLocalWrite
	AccessRemoteRead  Access = 1 << 2
	AccessBind        Access = 1 << 4 // windows may be bound to the region
	AccessOnDemand    Access = 1 << 6 // on-demand paging
)

// MR is registered memory (IBTA 10.6; RFC 5040: a Memory Region).
type MR interface {
	// LKey names the region in the SGEs of work requests.
	LKey() uint32
	// RKey names the region to the peer (RFC 5040: STag). Only regions with
	// remote access have a meaningful one.
	RKey() uint32
	// Mem is the memory as given to Register.
	Mem() []byte
	// Close deregisters the region. No work request may name it any more, and
	// no window may be bound to it. The memory is the caller's again.
	Close() error
}

// Window is a memory window of type 2: remote access to a part of a region
// for one connection, granted by QP.Bind and ended by the peer's Send with
// Invalidate or by OpLocalInv.
type Window interface {
	// Close frees the window and ends the access.
	Close() error
}

// Transport is the wire protocol family of a device.
type Transport uint8

// Transports.
const (
	TransportInfiniBand Transport = iota + 1 // InfiniBand and RoCE
	TransportIWARP                           // RFC 5040, 5041, 5044
)

// PortState is the logical state of a port (IBTA 14.2.5.6).
type PortState uint8

// States of a port. Only an active one carries data.
const (
	PortNop PortState = iota
	PortDown
	PortInit
	PortArmed
	PortActive
	PortActiveDefer
)

// LinkLayer is what is below the transport.
type LinkLayer uint8

// Link layers.
const (
	LinkUnspecified LinkLayer = iota
	LinkInfiniBand
	LinkEthernet
)

// Port is the state of a device's port.
type Port struct {
	Number    int // from 1
	State     PortState
	LinkLayer LinkLayer
	LID       uint16 // 0 on Ethernet
	ActiveMTU int    // path MTU in bytes; 0 when unknown
	Rate      string // as the system says it: "100 Gb/sec (4X EDR)"
	NetDev    string // network interface; "" when there is none
	GIDs      []GID  // in use, by index
}

// GIDType says what packets a GID stands for.
type GIDType uint8

// GID types.
const (
	GIDInfiniBand GIDType = iota + 1 // also iWARP's
	GIDRoCEv1
	GIDRoCEv2
)

// GID is a port's address (IBTA 4.1.1): on RoCE v2 an IPv6 or mapped IPv4
// address.
type GID struct {
	Index  int
	Addr   netip.Addr
	Type   GIDType
	NetDev string
}

// DeviceEvent is an asynchronous event (IBTA 11.6.3).
type DeviceEvent struct {
	Kind DeviceEventKind
	Port int    // of port events, else 0
	QPN  uint32 // of queue pair events, else 0
	CQ   CQ     // of DeviceCQError, else nil
}

// DeviceEventKind is the kind of an asynchronous event. The values are those
// of ibv_event_type.
type DeviceEventKind uint8

// Asynchronous events.
const (
	DeviceCQError          DeviceEventKind = 0 // overrun or fault: the CQ is lost
	DeviceQPFatal          DeviceEventKind = 1 // the QP is in error
	DeviceQPRequestError   DeviceEventKind = 2 // the peer's request was invalid
	DeviceQPAccessError    DeviceEventKind = 3 // the peer's access was refused
	DeviceCommEst          DeviceEventKind = 4 // data before the connection's last message
	DeviceSQDrained        DeviceEventKind = 5
	DevicePathMigrated     DeviceEventKind = 6
	DevicePathMigError     DeviceEventKind = 7
	DeviceFatal            DeviceEventKind = 8 // the device is lost
	DevicePortActive       DeviceEventKind = 9
	DevicePortDown         DeviceEventKind = 10
	DeviceLIDChange        DeviceEventKind = 11
	DevicePKeyChange       DeviceEventKind = 12
	DeviceSMChange         DeviceEventKind = 13
	DeviceClientReregister DeviceEventKind = 17
	DeviceGIDChange        DeviceEventKind = 18
)

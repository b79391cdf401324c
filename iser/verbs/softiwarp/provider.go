package softiwarp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// Config are the choices that a side may make. The zero Config is good.
type Config struct {
	// CRC asks for CRC32C in FPDUs. A peer that asks for it gets it in any
	// case (RFC 5044 section 7.1).
	CRC bool
	// MaxFPDU bounds the FPDUs that are sent, in bytes with length and CRC
	// fields, 0: one TCP segment of the path (TCP_MAXSEG).
	MaxFPDU int
	// PeerToPeer asks, on the active side, for the peer-to-peer model of RFC
	// 6581, so that the passive side may send first: this side sends a
	// zero-length RDMA Write when it is ready to receive.
	PeerToPeer bool
	// Revision1 makes the active side use MPA revision 1, which tells no IRD
	// and ORD, for peers that refuse revision 2.
	Revision1 bool
	// HandshakeTimeout bounds the time for connecting and for the peer's MPA
	// frame; 0: 10 seconds.
	HandshakeTimeout time.Duration
}

const defaultHandshakeTimeout = 10 * time.Second

// Limits of the device. They are generous: the memory for a queue is taken
// when it is made.
const (
	maxWR      = 1 << 15
	maxSGE     = 32
	maxRD      = 128
	maxCQE     = 1 << 20
	maxQP      = 1 << 16
	maxInline  = 1 << 10
	maxMessage = 1 << 30
)

// Provider is iWARP over the TCP of this system. It has one device, which has
// all addresses of the system.
type Provider struct {
	dev *Device
}

var _ verbs.Provider = (*Provider)(nil)

// New returns a provider. It takes no resources until it is used.
func New(cfg Config) *Provider {
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = defaultHandshakeTimeout
	}
	d := &Device{cfg: cfg, events: make(chan verbs.DeviceEvent, 64), done: make(chan struct{})}
	d.stags.init()
	d.nextQPN.Store(randomUint32() & 0xffff)
	return &Provider{dev: d}
}

// Name implements verbs.Provider.
func (p *Provider) Name() string { return "softiwarp" }

// Devices implements verbs.Provider.
func (p *Provider) Devices() ([]verbs.Device, error) { return []verbs.Device{p.dev}, nil }

// NewCM implements verbs.Provider. The CM is a *CM.
func (p *Provider) NewCM() (verbs.CM, error) { return newCM(p.dev) }

// Close implements verbs.Provider.
func (p *Provider) Close() error {
	p.dev.closeOnce.Do(func() { close(p.dev.done) })
	return nil
}

// Device is the device of a Provider. All methods may be called by any
// goroutine.
type Device struct {
	cfg     Config
	stags   stagTable
	nextQPN atomic.Uint32
	qps     atomic.Int32

	mu  sync.Mutex
	cqs map[*CQ]struct{} // for MR.Close

	events    chan verbs.DeviceEvent
	done      chan struct{}
	closeOnce sync.Once
}

var _ verbs.Device = (*Device)(nil)

// Name implements verbs.Device.
func (d *Device) Name() string { return "softiwarp0" }

// CPUs implements verbs.Device.
func (d *Device) CPUs() []int { return nil }

// Caps implements verbs.Device.
func (d *Device) Caps() verbs.Caps {
	return verbs.Caps{
		Transport:      verbs.TransportIWARP,
		SendInv:        true,
		Windows:        true,
		OnDemandPaging: true, // nothing is ever pinned
		MaxWR:          maxWR,
		MaxSGE:         maxSGE,
		MaxReadSGE:     maxSGE,
		MaxInitRDAtom:  maxRD,
		MaxRDAtom:      maxRD,
		MaxCQE:         maxCQE,
		MaxQP:          maxQP,
		MaxCQ:          maxQP,
		MaxMR:          1<<24 - 1,
		MaxMRSize:      1 << 62,
		MaxMessage:     maxMessage,
		MaxPrivateREQ:  mpaMaxPrivate,
		MaxPrivateREP:  mpaMaxPrivate,
		MaxPrivateREJ:  mpaMaxPrivate,
		Firmware:       "software",
	}
}

// Ports implements verbs.Device: one port for each network interface.
func (d *Device) Ports() ([]verbs.Port, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("softiwarp: list network interfaces: %w", err)
	}
	ports := make([]verbs.Port, 0, len(ifs))
	for i := range ifs {
		p := verbs.Port{
			Number: i + 1, State: verbs.PortDown, LinkLayer: verbs.LinkEthernet,
			ActiveMTU: ifs[i].MTU, NetDev: ifs[i].Name,
		}
		if ifs[i].Flags&net.FlagUp != 0 {
			p.State = verbs.PortActive
		}
		addrs, err := ifs[i].Addrs()
		if err != nil {
			return nil, fmt.Errorf("softiwarp: addresses of %s: %w", ifs[i].Name, err)
		}
		for j, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			p.GIDs = append(p.GIDs, verbs.GID{Index: j, Addr: prefix.Addr(), Type: verbs.GIDInfiniBand, NetDev: p.NetDev})
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// NextEvent implements verbs.Device. An event that nobody waits for is
// dropped when 64 are waiting.
func (d *Device) NextEvent(ctx context.Context) (verbs.DeviceEvent, error) {
	select {
	case e := <-d.events:
		return e, nil
	case <-ctx.Done():
		return verbs.DeviceEvent{}, ctx.Err()
	case <-d.done:
		return verbs.DeviceEvent{}, fmt.Errorf("softiwarp: %w", verbs.ErrClosed)
	}
}

func (d *Device) event(e verbs.DeviceEvent) {
	select {
	case d.events <- e:
	default:
	}
}

// eachCQ calls f for every CQ, with its lock held: when it returns, every Poll
// and every post that was running has ended.
func (d *Device) eachCQ(f func(*CQ)) {
	d.mu.Lock()
	cqs := make([]*CQ, 0, len(d.cqs))
	for c := range d.cqs {
		cqs = append(cqs, c)
	}
	d.mu.Unlock()
	for _, c := range cqs {
		c.locked(f)
	}
}

func (c *CQ) locked(f func(*CQ)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func randomUint32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.NativeEndian.Uint32(b[:])
}

func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, err := strconv.ParseUint(zone, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func zoneName(id uint32) string {
	if i, err := net.InterfaceByIndex(int(id)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(id), 10)
}

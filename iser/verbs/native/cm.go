//go:build linux && cgo && (amd64 || arm64)

package native

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/iserd/iserd/iser/verbs"
)

// cm is an event channel of librdmacm and the ids on it. An id's context is
// its key in ids: 0 is none.
type cm struct {
	p    *Provider
	ch   *C.struct_vs_event_channel
	file *eventFile
	ev   *C.struct_vs_cm // of Next

	// Taking an event makes the library change the queue pair of the event's
	// id: get keeps that apart from destroying it.
	get    sync.Mutex
	closed bool

	mu   sync.Mutex
	ids  map[uint64]any // *conn or *listener
	last uint64
}

// NewCM opens an event channel.
func (p *Provider) NewCM() (verbs.CM, error) {
	if err := p.load(); err != nil {
		return nil, err
	}
	return p.newCM()
}

func (p *Provider) newCM() (*cm, error) {
	c := &cm{p: p, ids: make(map[uint64]any)}
	if err := errno(C.vs_channel(p.lib, &c.ch)); err != nil {
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return nil, fmt.Errorf("native: event channel: %w", err)
		}
		return nil, diagnose(systemRoot, fmt.Errorf("event channel: %w", err))
	}
	file, err := newEventFile(int(c.ch.fd), "rdma_cm")
	if err != nil {
		C.vs_channel_close(p.lib, c.ch)
		return nil, fmt.Errorf("native: event channel: %w", err)
	}
	c.file = file
	c.ev = (*C.struct_vs_cm)(C.calloc(1, C.sizeof_struct_vs_cm))
	return c, nil
}

// Close ends Next and closes the channel.
func (c *cm) Close() error {
	c.mu.Lock()
	left := len(c.ids)
	c.mu.Unlock()
	if left > 0 {
		return fmt.Errorf("native: connection manager: %d listeners and connections are open", left)
	}
	c.get.Lock()
	defer c.get.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.file.close()
	C.vs_channel_close(c.p.lib, c.ch)
	C.free(unsafe.Pointer(c.ev))
	return nil
}

// add gives obj a key.
func (c *cm) add(obj any) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.ids[c.last] = obj
	return c.last
}

func (c *cm) remove(key uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ids, key)
}

func (c *cm) find(key uint64) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[key]
}

// Next waits for the next event.
func (c *cm) Next(ctx context.Context) (verbs.Event, error) {
	for {
		if err := c.take(ctx); err != nil {
			return verbs.Event{}, fmt.Errorf("native: connection manager: %w", err)
		}
		if ev, ok := c.event(); ok {
			return ev, nil
		}
	}
}

// take waits for an event and puts it into c.ev.
func (c *cm) take(ctx context.Context) error {
	return c.file.wait(ctx, func() error {
		c.get.Lock()
		defer c.get.Unlock()
		if c.closed {
			return verbs.ErrClosed
		}
		return errno(C.vs_cm_event_get(c.p.lib, c.ch, c.ev))
	})
}

var kinds = map[C.int]verbs.EventKind{
	C.VS_CM_CONNECT_REQUEST: verbs.EventConnectRequest,
	C.VS_CM_CONNECT_ERROR:   verbs.EventConnectError,
	C.VS_CM_UNREACHABLE:     verbs.EventUnreachable,
	C.VS_CM_REJECTED:        verbs.EventRejected,
	C.VS_CM_ESTABLISHED:     verbs.EventEstablished,
	C.VS_CM_DISCONNECTED:    verbs.EventDisconnected,
	C.VS_CM_DEVICE_REMOVAL:  verbs.EventDeviceRemoval,
	C.VS_CM_ADDR_CHANGE:     verbs.EventAddrChange,
	C.VS_CM_TIMEWAIT_EXIT:   verbs.EventTimewaitExit,
}

// event makes an event of c.ev, unless it concerns nobody any more.
func (c *cm) event() (verbs.Event, bool) {
	ev := verbs.Event{Kind: kinds[c.ev.kind], Status: int(c.ev.status)}
	if c.ev.private_len > 0 {
		ev.Param.Private = C.GoBytes(unsafe.Pointer(&c.ev.private_data[0]), c.ev.private_len)
	}
	if ev.Kind == verbs.EventConnectRequest || ev.Kind == verbs.EventEstablished {
		ev.Param.InitiatorDepth = uint8(c.ev.initiator_depth)
		ev.Param.ResponderResources = uint8(c.ev.responder_resources)
		ev.Param.RetryCount = uint8(c.ev.retry_count)
		ev.Param.RNRRetryCount = uint8(c.ev.rnr_retry_count)
	}
	if ev.Kind == verbs.EventConnectRequest {
		return ev, c.request(&ev)
	}
	switch obj := c.find(uint64(c.ev.context)).(type) {
	case *listener:
		ev.Listener = obj
		if ev.Kind == verbs.EventDeviceRemoval && obj.d != nil {
			obj.d.removed()
		}
	case *conn:
		ev.Conn = obj
		if ev.Kind == verbs.EventDeviceRemoval {
			obj.d.removed()
		}
	default:
		return ev, false
	}
	return ev, ev.Kind != 0
}

// request makes a conn of the new id in c.ev.
func (c *cm) request(ev *verbs.Event) bool {
	id := c.ev.id
	id.context = 0
	l, ok := c.find(uint64(c.ev.listen_context)).(*listener)
	if !ok {
		C.vs_id_destroy(c.p.lib, id) // which refuses
		return false
	}
	conn, err := c.newConn(id)
	if err != nil {
		C.vs_id_destroy(c.p.lib, id)
		return false
	}
	ev.Conn, ev.Listener = conn, l
	return true
}

// listener is an id that listens.
type listener struct {
	c   *cm
	d   *device // nil for all devices
	key uint64

	mu   sync.Mutex
	id   *C.struct_vs_cm_id // nil when closed
	addr netip.AddrPort
}

// Listen makes a listening id.
func (c *cm) Listen(at netip.AddrPort, backlog int) (verbs.Listener, error) {
	l := &listener{c: c}
	l.key = c.add(l)
	if err := l.open(at, backlog); err != nil {
		c.remove(l.key)
		return nil, fmt.Errorf("native: listen on %v: %w", at, noDevice(err))
	}
	return l, nil
}

func (l *listener) open(at netip.AddrPort, backlog int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sa sockaddr
	sa.set(at)
	lib := l.c.p.lib
	if err := errno(C.vs_id(lib, l.c.ch, C.uint64_t(l.key), &l.id)); err != nil {
		return err
	}
	err := errno(C.vs_bind_listen(lib, l.id, unsafe.Pointer(&sa), C.int(backlog)))
	if err == nil && !at.Addr().IsUnspecified() {
		l.d, err = l.c.p.hold(l.id)
	}
	if err != nil {
		C.vs_id_destroy(lib, l.id)
		l.id = nil
		return err
	}
	l.addr = sourceAddr(l.id)
	return nil
}

func (l *listener) Addr() netip.AddrPort { return l.addr }

// Device is nil, not a nil *device, for all devices.
func (l *listener) Device() verbs.Device {
	if l.d == nil {
		return nil
	}
	return l.d
}

// Close destroys the id; the kernel refuses the requests that wait.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == nil {
		return nil
	}
	l.c.remove(l.key)
	err := errno(C.vs_id_destroy(l.c.p.lib, l.id))
	l.id = nil
	if l.d != nil {
		l.d.put()
	}
	if err != nil {
		return fmt.Errorf("native: close listener on %v: %w", l.addr, err)
	}
	return nil
}

// dialLimit bounds Dial when its context does not: ARP, and the subnet
// manager, answer sooner or not at all. The kernel can miss that the address
// was found until its own time is over, so it gets little, and several times.
const (
	dialLimit = 10 * time.Second
	tryLimit  = time.Second
)

// Dial resolves the address and the route on an event channel of its own, and
// then moves the id to c's.
func (c *cm) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (verbs.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := c.dial(ctx, local, remote)
	if err != nil {
		return nil, fmt.Errorf("native: dial %v: %w", remote, err)
	}
	return conn, nil
}

func (c *cm) dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (*conn, error) {
	own, err := c.p.newCM()
	if err != nil {
		return nil, err
	}
	defer func() { _ = own.Close() }()
	var id *C.struct_vs_cm_id
	if err := errno(C.vs_id(c.p.lib, own.ch, 0, &id)); err != nil {
		return nil, err
	}
	err = own.resolve(ctx, id, local, remote)
	var conn *conn
	if err == nil {
		conn, err = c.newConn(id)
	}
	if err != nil {
		C.vs_id_destroy(c.p.lib, id)
		return nil, err
	}
	if err := errno(C.vs_id_migrate(c.p.lib, id, c.ch)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// resolve finds device, address and route of id, which is the only one on c.
func (c *cm) resolve(ctx context.Context, id *C.struct_vs_cm_id, local netip.Addr, remote netip.AddrPort) error {
	const ms = C.int(tryLimit / time.Millisecond)
	var src, dst sockaddr
	dst.set(remote)
	from := unsafe.Pointer(nil)
	if local.IsValid() {
		src.set(netip.AddrPortFrom(local, 0))
		from = unsafe.Pointer(&src)
	}
	err := c.retry(ctx, C.VS_CM_ADDR_RESOLVED, func() C.int {
		return C.vs_resolve_addr(c.p.lib, id, from, unsafe.Pointer(&dst), ms)
	})
	if err != nil {
		return fmt.Errorf("address: %w", noDevice(err))
	}
	err = c.retry(ctx, C.VS_CM_ROUTE_RESOLVED, func() C.int {
		return C.vs_resolve_route(c.p.lib, id, ms)
	})
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	return nil
}

// retry calls f, and waits for the event of this kind, until that does not
// time out.
func (c *cm) retry(ctx context.Context, kind C.int, f func() C.int) error {
	for {
		err := errno(f())
		if err == nil {
			err = c.expect(ctx, kind)
		}
		if !errors.Is(err, syscall.ETIMEDOUT) {
			return err
		}
	}
}

// expect waits for an event, which must be of this kind.
func (c *cm) expect(ctx context.Context, kind C.int) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	if c.ev.kind == kind && c.ev.status == 0 {
		return nil
	}
	if err := errno(c.ev.status); err != nil {
		return err
	}
	return fmt.Errorf("event %d, status %d", c.ev.kind, c.ev.status)
}

// noDevice adds verbs.ErrNoDevice to the kernel's words for it.
func noDevice(err error) error {
	if errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("%w has the address: %w", verbs.ErrNoDevice, err)
	}
	return err
}

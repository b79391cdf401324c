//go:build linux && cgo && (amd64 || arm64)

package native

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"github.com/iserd/iserd/iser/verbs"
)

// conn is an id of librdmacm that is bound to a device.
type conn struct {
	c           *cm
	d           *device // held
	key         uint64
	local, peer netip.AddrPort

	mu sync.Mutex
	id *C.struct_vs_cm_id // nil when closed
	qp *qp                // nil before NewQP
}

// hold returns the device that id is bound to, held.
func (p *Provider) hold(id *C.struct_vs_cm_id) (*device, error) {
	if id.verbs == nil {
		return nil, verbs.ErrNoDevice
	}
	d, err := p.device(id.verbs)
	if err == nil {
		err = d.hold()
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// newConn takes id, unless it fails.
func (c *cm) newConn(id *C.struct_vs_cm_id) (*conn, error) {
	d, err := c.p.hold(id)
	if err != nil {
		return nil, err
	}
	n := &conn{c: c, d: d, id: id, local: sourceAddr(id), peer: destinationAddr(id)}
	n.key = c.add(n)
	id.context = C.uint64_t(n.key)
	return n, nil
}

func (n *conn) Device() verbs.Device  { return n.d }
func (n *conn) Local() netip.AddrPort { return n.local }
func (n *conn) Peer() netip.AddrPort  { return n.peer }

// do calls f with the id, unless the connection is closed.
func (n *conn) do(what string, f func() C.int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.id == nil {
		return fmt.Errorf("native: %s: %w", what, verbs.ErrClosed)
	}
	if err := errno(f()); err != nil {
		return fmt.Errorf("native: %s %v: %w", what, n.peer, err)
	}
	return nil
}

// NewQP makes the queue pair.
func (n *conn) NewQP(cfg verbs.QPConfig) (verbs.QP, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.id == nil {
		return nil, fmt.Errorf("native: queue pair: %w", verbs.ErrClosed)
	}
	if n.qp != nil {
		return nil, errors.New("native: the connection has a queue pair")
	}
	q, err := n.newQP(cfg)
	if err != nil {
		return nil, err
	}
	n.qp = q
	return q, nil
}

// Accept answers the request.
func (n *conn) Accept(p verbs.ConnParam) error {
	return n.connect("accept", C.VS_ACCEPT, n.d.caps.MaxPrivateREP, p)
}

// Connect asks the peer.
func (n *conn) Connect(p verbs.ConnParam) error {
	return n.connect("connect to", C.VS_CONNECT, n.d.caps.MaxPrivateREQ, p)
}

func (n *conn) connect(what string, how C.int, limit int, p verbs.ConnParam) error {
	if len(p.Private) > limit {
		return fmt.Errorf("native: %s %v: %d bytes of private data, at most %d go", what, n.peer, len(p.Private), limit)
	}
	return n.do(what, func() C.int {
		return C.vs_connect(n.d.p.lib, n.id, how, unsafe.Pointer(unsafe.SliceData(p.Private)), C.int(len(p.Private)),
			C.int(p.ResponderResources), C.int(p.InitiatorDepth), C.int(p.RetryCount), C.int(p.RNRRetryCount))
	})
}

// Reject refuses the request.
func (n *conn) Reject(private []byte) error {
	if len(private) > n.d.caps.MaxPrivateREJ {
		return fmt.Errorf("native: reject %v: %d bytes of private data, at most %d go", n.peer, len(private), n.d.caps.MaxPrivateREJ)
	}
	return n.do("reject", func() C.int {
		return C.vs_reject(n.d.p.lib, n.id, unsafe.Pointer(unsafe.SliceData(private)), C.int(len(private)))
	})
}

// CommEst tells the connection manager that the peer has sent.
func (n *conn) CommEst() error {
	err := n.do("notify", func() C.int { return C.vs_notify(n.d.p.lib, n.id) })
	if errors.Is(err, syscall.EISCONN) {
		return nil
	}
	return err
}

// Disconnect ends the connection.
func (n *conn) Disconnect() error {
	err := n.do("disconnect", func() C.int { return C.vs_disconnect(n.d.p.lib, n.id) })
	// What the kernel says of a connection, or a device, that is not, or no
	// longer, there.
	for _, no := range []syscall.Errno{syscall.EINVAL, syscall.ENOTCONN, syscall.ENXIO, syscall.ENODEV} {
		if errors.Is(err, no) {
			return nil
		}
	}
	return err
}

// Close destroys queue pair and id. A request that was not answered is
// refused by that.
func (n *conn) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.id == nil {
		return nil
	}
	if n.qp != nil {
		n.qp.gone.Store(true)
		n.c.get.Lock()
		err := errno(C.vs_destroy_qp(n.d.p.lib, n.id))
		n.c.get.Unlock()
		if err != nil {
			return fmt.Errorf("native: %s: destroy queue pair: %w", n.d.name, err)
		}
		n.qp.free()
	}
	n.c.remove(n.key)
	err := errno(C.vs_id_destroy(n.d.p.lib, n.id))
	n.id = nil
	n.d.put()
	if err != nil {
		return fmt.Errorf("native: close connection to %v: %w", n.peer, err)
	}
	return nil
}

// sockaddr is a struct sockaddr_storage.
type sockaddr [128]byte

// set makes s a sockaddr_in or sockaddr_in6.
func (s *sockaddr) set(a netip.AddrPort) {
	ip := a.Addr().Unmap()
	binary.BigEndian.PutUint16(s[2:], a.Port())
	if ip.Is4() {
		binary.NativeEndian.PutUint16(s[0:], syscall.AF_INET)
		b := ip.As4()
		copy(s[4:], b[:])
		return
	}
	binary.NativeEndian.PutUint16(s[0:], syscall.AF_INET6)
	b := ip.As16()
	copy(s[8:], b[:])
	if zone := ip.Zone(); zone != "" {
		index, err := strconv.Atoi(zone)
		if ifi, ierr := net.InterfaceByName(zone); err != nil && ierr == nil {
			index = ifi.Index
		}
		binary.NativeEndian.PutUint32(s[24:], uint32(index))
	}
}

// addrPort is the zero AddrPort for families other than IP.
func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s[2:])
	switch binary.NativeEndian.Uint16(s[0:]) {
	case syscall.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port)
	case syscall.AF_INET6:
		ip := netip.AddrFrom16([16]byte(s[8:24]))
		if scope := binary.NativeEndian.Uint32(s[24:]); scope != 0 {
			ip = ip.WithZone(strconv.Itoa(int(scope)))
		}
		return netip.AddrPortFrom(ip, port)
	}
	return netip.AddrPort{}
}

func sourceAddr(id *C.struct_vs_cm_id) netip.AddrPort {
	return (*sockaddr)(unsafe.Pointer(&id.src_addr)).addrPort()
}

func destinationAddr(id *C.struct_vs_cm_id) netip.AddrPort {
	return (*sockaddr)(unsafe.Pointer(&id.dst_addr)).addrPort()
}

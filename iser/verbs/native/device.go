//go:build linux && cgo && (amd64 || arm64)

package native

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/iserd/iserd/iser/verbs"
)

const sizePointer = unsafe.Sizeof(uintptr(0))

// pointer is for C.free.
func pointer[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

// device is an adapter. It holds one of librdmacm's references to ctx, so that
// ctx stays open until free, which is when the device is dead and nothing that
// was made from it is left.
type device struct {
	p     *Provider
	ctx   *C.struct_vs_context
	name  string
	sysfs string // exists while the device does
	caps  verbs.Caps
	ports int
	async *eventFile

	// invFlags are the completion flags that mean WCWithInv.
	invFlags C.uint32_t

	// get keeps NextEvent's look at ctx apart from free.
	get   sync.Mutex
	freed bool
	told  bool // NextEvent has returned DeviceFatal; it alone uses this

	mu    sync.Mutex
	ended bool // not listed any more
	lost  bool // the adapter is gone, or going
	refs  int
	pd    *C.struct_vs_pd // nil before it is needed
	cqs   map[*C.struct_vs_cq]*cq
}

// newDevice takes a reference to ctx, unless it fails.
func newDevice(p *Provider, ctx *C.struct_vs_context) (*device, error) {
	d := &device{p: p, ctx: ctx, name: C.GoString(C.vs_device_name(ctx)), cqs: make(map[*C.struct_vs_cq]*cq)}
	if err := d.query(); err != nil {
		return nil, fmt.Errorf("native: %s: %w", d.name, err)
	}
	d.sysfs = filepath.Join(systemRoot, "sys/class/infiniband_verbs", C.GoString(C.vs_device_uverbs(ctx)))
	async, err := newEventFile(int(ctx.async_fd), d.name)
	if err != nil {
		return nil, fmt.Errorf("native: %s: %w", d.name, err)
	}
	d.async = async
	return d, nil
}

// vendorRXE is the vendor ID of soft-RoCE. It reports a Send with Invalidate
// with the kernel's flag instead of the library's, and does not say which key
// it was (Linux 6.1).
const vendorRXE = 0xffffff

// query fills caps and ports.
func (d *device) query() error {
	var a C.struct_vs_device_attr
	if err := errno(C.vs_query_device(d.p.lib, d.ctx, &a)); err != nil {
		return err
	}
	d.ports = int(a.phys_port_cnt)
	c := verbs.Caps{
		Transport:     verbs.TransportInfiniBand,
		SendInv:       a.device_cap_flags&C.VS_CAP_MEM_MGT_EXTENSIONS != 0,
		Windows:       a.device_cap_flags&(C.VS_CAP_MEM_WINDOW_TYPE_2A|C.VS_CAP_MEM_WINDOW_TYPE_2B) != 0,
		MaxWR:         int(a.max_qp_wr),
		MaxSGE:        int(a.max_sge),
		MaxReadSGE:    int(a.max_sge_rd),
		MaxInitRDAtom: int(a.max_qp_init_rd_atom),
		MaxRDAtom:     int(a.max_qp_rd_atom),
		MaxCQE:        int(a.max_cqe),
		MaxQP:         int(a.max_qp),
		MaxCQ:         int(a.max_cq),
		MaxMR:         int(a.max_mr),
		MaxMRSize:     uint64(a.max_mr_size),
		MaxMessage:    1 << 30,
		MaxPrivateREQ: 56, // IBTA 12.6.5: 92 bytes, of which Annex A11 takes 36
		MaxPrivateREP: 196,
		MaxPrivateREJ: 148,
		VendorID:      uint32(a.vendor_id),
		VendorPartID:  uint32(a.vendor_part_id),
		Firmware:      strings.TrimRight(C.GoStringN(&a.fw_ver[0], C.int(len(a.fw_ver))), "\x00"),
		NodeGUID:      bits.ReverseBytes64(uint64(a.node_guid)),
	}
	c.OnDemandPaging = a.odp_general_caps&C.VS_ODP_SUPPORT != 0 &&
		a.odp_rc_caps&C.VS_ODP_SEND_RECV_WRITE_READ == C.VS_ODP_SEND_RECV_WRITE_READ
	if C.vs_device_transport(d.ctx) == C.VS_TRANSPORT_IWARP {
		c.Transport, c.SendInv = verbs.TransportIWARP, true
		// RFC 5044 7.1.1 allows 512; the kernel takes 256 with RFC 6581's words.
		c.MaxPrivateREQ, c.MaxPrivateREP, c.MaxPrivateREJ = 248, 248, 248
	}
	if c.MaxReadSGE == 0 {
		c.MaxReadSGE = c.MaxSGE
		if c.Transport == verbs.TransportIWARP {
			c.MaxReadSGE = 1
		}
	}
	var port C.struct_vs_port_attr
	if C.vs_query_port(d.p.lib, d.ctx, 1, &port) == 0 && port.max_msg_sz != 0 {
		c.MaxMessage = uint32(port.max_msg_sz)
	}
	d.caps = c
	d.invFlags = C.VS_WC_WITH_INV
	if c.VendorID == vendorRXE {
		d.invFlags |= C.VS_WC_WITH_INV_RXE
	}
	return nil
}

func (d *device) Name() string     { return d.name }
func (d *device) Caps() verbs.Caps { return d.caps }

// CPUs are those of the adapter's NUMA node, as the kernel has it, or those that
// take what comes in for an adapter in software.
func (d *device) CPUs() []int { return sysfsCPUs(systemRoot, d.name, runtime.NumCPU()) }

// Ports asks the adapter, and sysfs for what it does not tell.
func (d *device) Ports() ([]verbs.Port, error) {
	if err := d.hold(); err != nil {
		return nil, err
	}
	defer d.put()
	var out []verbs.Port
	for n := 1; n <= d.ports; n++ {
		var a C.struct_vs_port_attr
		if err := errno(C.vs_query_port(d.p.lib, d.ctx, C.int(n), &a)); err != nil {
			return nil, fmt.Errorf("native: %s: port %d: %w", d.name, n, err)
		}
		port := verbs.Port{
			Number:    n,
			State:     verbs.PortState(a.state),
			LinkLayer: verbs.LinkLayer(a.link_layer),
			LID:       uint16(a.lid),
		}
		if a.active_mtu >= 1 && a.active_mtu <= 5 { // enum ibv_mtu
			port.ActiveMTU = 128 << a.active_mtu
		}
		sysfsPort(systemRoot, d.name, d.caps.Transport, &port)
		out = append(out, port)
	}
	return out, nil
}

// present reports whether the kernel has the adapter still.
func (d *device) present() bool {
	_, err := os.Stat(d.sysfs)
	return err == nil
}

// usable reports whether the device is to be listed.
func (d *device) usable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.ended
}

// end takes the device off the list, because it is lost or because the provider
// ends, and reports whether nothing uses it.
func (d *device) end(lost bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended, d.lost = true, d.lost || lost
	return d.refs == 0
}

// removed is what to do when the adapter goes, for those who do not hold
// Provider.mu.
func (d *device) removed() {
	if d.end(true) {
		d.p.mu.Lock()
		d.p.forget(d)
		d.p.mu.Unlock()
	}
}

// hold keeps the device open until put, and gives it a protection domain.
func (d *device) hold() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return fmt.Errorf("native: %s: %w: removed", d.name, verbs.ErrNoDevice)
	}
	if d.pd == nil {
		if err := errno(C.vs_alloc_pd(d.p.lib, d.ctx, &d.pd)); err != nil {
			d.pd = nil
			return fmt.Errorf("native: %s: protection domain: %w", d.name, err)
		}
	}
	d.refs++
	return nil
}

// put ends a hold.
func (d *device) put() {
	d.mu.Lock()
	d.refs--
	last := d.refs == 0 && d.ended
	d.mu.Unlock()
	if last {
		d.p.mu.Lock()
		d.p.forget(d)
		d.p.mu.Unlock()
	}
}

// free gives back what the device holds. Nobody else knows it any more.
func (d *device) free() {
	d.async.close()
	d.get.Lock()
	defer d.get.Unlock()
	d.freed = true
	if d.pd != nil {
		C.vs_dealloc_pd(d.p.lib, d.pd)
	}
	// Not present: the kernel takes the file away after it has told of the
	// removal and all connections are closed.
	if d.lost {
		C.vs_device_let_go(d.ctx)
	}
	C.vs_device_put(d.p.lib, d.ctx)
}

// lookAgain is how often to look whether a device is still there: not every
// driver says when it goes (soft-RoCE of Linux 6.1 does not).
const lookAgain = time.Second

// NextEvent waits for the next asynchronous event.
func (d *device) NextEvent(ctx context.Context) (verbs.DeviceEvent, error) {
	ev := (*C.struct_vs_event)(C.calloc(1, C.sizeof_struct_vs_event))
	defer C.free(pointer(ev))
	for {
		err := d.event(ctx, ev)
		if err == nil {
			return d.convert(ev), nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return verbs.DeviceEvent{}, fmt.Errorf("native: %s: %w", d.name, err)
		}
		if !d.told && !d.present() {
			ev._type = C.int(verbs.DeviceFatal)
			return d.convert(ev), nil
		}
	}
}

// event waits for an event until it is time to look again.
func (d *device) event(ctx context.Context, ev *C.struct_vs_event) error {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	return d.async.wait(ctx, func() error {
		d.get.Lock()
		defer d.get.Unlock()
		if d.freed {
			return verbs.ErrClosed
		}
		return errno(C.vs_async_event(d.p.lib, d.ctx, ev))
	})
}

func (d *device) convert(ev *C.struct_vs_event) verbs.DeviceEvent {
	out := verbs.DeviceEvent{Kind: verbs.DeviceEventKind(ev._type), Port: int(ev.port), QPN: uint32(ev.qp_num)}
	if ev.cq != nil {
		d.mu.Lock()
		if c := d.cqs[ev.cq]; c != nil {
			out.CQ = c
		}
		d.mu.Unlock()
	}
	if out.Kind == verbs.DeviceFatal {
		d.told = true
		d.removed()
	}
	return out
}

// mr is registered memory.
type mr struct {
	d   *device
	mr  *C.struct_vs_mr
	mem []byte
}

// Register pins mem and tells the adapter.
func (d *device) Register(mem []byte, acc verbs.Access) (verbs.MR, error) {
	if len(mem) == 0 {
		return nil, fmt.Errorf("native: %s: register: no memory", d.name)
	}
	if acc&verbs.AccessOnDemand != 0 && !d.caps.OnDemandPaging {
		return nil, fmt.Errorf("native: %s: on-demand paging: %w", d.name, errors.ErrUnsupported)
	}
	if err := d.hold(); err != nil {
		return nil, err
	}
	m := &mr{d: d, mem: mem}
	err := errno(C.vs_reg_mr(d.p.lib, d.pd, unsafe.Pointer(unsafe.SliceData(mem)), C.size_t(len(mem)), C.int(acc), &m.mr))
	if err == nil {
		return m, nil
	}
	d.put()
	if errors.Is(err, syscall.ENOMEM) {
		return nil, fmt.Errorf("native: %s: register %d bytes: %w (does RLIMIT_MEMLOCK allow it?)", d.name, len(mem), err)
	}
	return nil, fmt.Errorf("native: %s: register %d bytes: %w", d.name, len(mem), err)
}

func (m *mr) LKey() uint32 { return uint32(m.mr.lkey) }
func (m *mr) RKey() uint32 { return uint32(m.mr.rkey) }
func (m *mr) Mem() []byte  { return m.mem }

// Close unpins the memory.
func (m *mr) Close() error {
	if m.mr == nil {
		return nil
	}
	if err := errno(C.vs_dereg_mr(m.d.p.lib, m.mr)); err != nil {
		return fmt.Errorf("native: %s: deregister: %w", m.d.name, err)
	}
	m.mr = nil
	m.d.put()
	return nil
}

// window is a memory window.
type window struct {
	d  *device
	mw *C.struct_vs_mw
}

// NewWindow allocates a memory window.
func (d *device) NewWindow() (verbs.Window, error) {
	if !d.caps.Windows {
		return nil, fmt.Errorf("native: %s: memory window: %w", d.name, errors.ErrUnsupported)
	}
	if err := d.hold(); err != nil {
		return nil, err
	}
	w := &window{d: d}
	if err := errno(C.vs_alloc_mw(d.ctx, d.pd, &w.mw)); err != nil {
		d.put()
		return nil, fmt.Errorf("native: %s: memory window: %w", d.name, err)
	}
	return w, nil
}

// Close frees the window.
func (w *window) Close() error {
	if w.mw == nil {
		return nil
	}
	if err := errno(C.vs_dealloc_mw(w.mw)); err != nil {
		return fmt.Errorf("native: %s: free memory window: %w", w.d.name, err)
	}
	w.mw = nil
	w.d.put()
	return nil
}

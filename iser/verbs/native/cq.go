//go:build linux && cgo && (amd64 || arm64)

package native

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/iserd/iserd/iser/verbs"
)

// batch is how many completions or work requests pass in one call.
const batch = 64

// cq is a completion queue with a completion channel of its own.
type cq struct {
	d  *device
	cq *C.struct_vs_cq
	fd int
	wc *[batch]C.struct_vs_wc // C's memory
}

// NewCQ makes a completion queue.
func (d *device) NewCQ(depth int) (verbs.CQ, error) {
	if depth < 1 || depth > d.caps.MaxCQE {
		return nil, fmt.Errorf("native: %s: completion queue of %d: the device has 1 to %d", d.name, depth, d.caps.MaxCQE)
	}
	if err := d.hold(); err != nil {
		return nil, err
	}
	c := &cq{d: d}
	if err := errno(C.vs_create_cq(d.p.lib, d.ctx, C.int(depth), &c.cq)); err != nil {
		d.put()
		return nil, fmt.Errorf("native: %s: completion queue of %d: %w", d.name, depth, err)
	}
	c.fd = int(c.cq.channel.fd)
	c.wc = (*[batch]C.struct_vs_wc)(C.calloc(batch, C.sizeof_struct_vs_wc))
	d.mu.Lock()
	d.cqs[c.cq] = c
	d.mu.Unlock()
	return c, nil
}

func (c *cq) Fd() int    { return c.fd }
func (c *cq) Depth() int { return int(c.cq.cqe) }

// Poll takes up to 64 completions in one call.
func (c *cq) Poll(wc []verbs.WC) (int, error) {
	return c.took(wc, C.vs_poll(addr(c.cq), addr(&c.wc[0]), C.int(min(len(wc), batch))))
}

// PollWait implements verbs.Waiter in one call.
func (c *cq) PollWait(wc []verbs.WC, wake, ms int) (int, error) {
	lib := C.uint64_t(uintptr(unsafe.Pointer(c.d.p.lib)))
	return c.took(wc, C.vs_wait(lib, addr(c.cq), addr(&c.wc[0]), C.int(min(len(wc), batch)), C.int(wake), C.int(ms)))
}

// took hands on n completions, or the error that it stands for.
func (c *cq) took(wc []verbs.WC, n C.int) (int, error) {
	if n < 0 {
		return 0, fmt.Errorf("native: %s: completion queue: %w", c.d.name, errno(n))
	}
	for i := range c.wc[:n] {
		convert(&wc[i], &c.wc[i], c.d.invFlags)
	}
	return int(n), nil
}

func convert(out *verbs.WC, in *C.struct_vs_wc, invFlags C.uint32_t) {
	*out = verbs.WC{
		ID:        uint64(in.wr_id),
		QPN:       uint32(in.qp_num),
		VendorErr: uint32(in.vendor_err),
		Status:    verbs.Status(in.status),
	}
	if in.status != 0 {
		return
	}
	switch in.opcode {
	case C.VS_WC_SEND:
		out.Op = verbs.OpSend
	case C.VS_WC_RDMA_WRITE:
		out.Op = verbs.OpWrite
	case C.VS_WC_RDMA_READ:
		out.Op, out.Len = verbs.OpRead, uint32(in.byte_len)
	case C.VS_WC_BIND_MW:
		out.Op = verbs.OpBind
	case C.VS_WC_LOCAL_INV:
		out.Op = verbs.OpLocalInv
	case C.VS_WC_RECV:
		out.Op, out.Len = verbs.OpRecv, uint32(in.byte_len)
		if in.wc_flags&invFlags != 0 {
			out.Flags, out.InvKey = verbs.WCWithInv, uint32(in.invalidated_rkey)
		}
	}
}

// Arm takes the notification that came and asks for the next.
func (c *cq) Arm() error {
	if n := C.vs_arm(c.d.p.lib, c.cq); n != 0 {
		return fmt.Errorf("native: %s: completion channel: %w", c.d.name, errno(n))
	}
	return nil
}

// Close destroys the queue and its channel.
func (c *cq) Close() error {
	if c.cq == nil {
		return nil
	}
	c.d.mu.Lock()
	delete(c.d.cqs, c.cq)
	c.d.mu.Unlock()
	if err := errno(C.vs_destroy_cq(c.d.p.lib, c.cq)); err != nil {
		return fmt.Errorf("native: %s: destroy completion queue: %w", c.d.name, err)
	}
	C.free(unsafe.Pointer(c.wc))
	c.cq = nil
	c.d.put()
	return nil
}

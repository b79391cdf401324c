//go:build linux && cgo && (amd64 || arm64)

package native

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/iserd/iserd/iser/verbs"
)

// qp is the queue pair of a conn.
type qp struct {
	c    *conn
	qp   *C.struct_vs_qp
	num  uint32
	cap  verbs.QPCap
	gone atomic.Bool

	// Work requests as the library wants them, in C's memory: lists of up to
	// batch elements, linked for the time of a call, each with room for its
	// SGEs.
	send *[batch]C.struct_vs_send_wr
	recv *[batch]C.struct_vs_recv_wr
	sges []C.struct_vs_sge
	wide int // SGEs of each
}

var (
	errGone    = fmt.Errorf("native: queue pair: %w", verbs.ErrClosed)
	errRequest = fmt.Errorf("native: work request: unknown operation or too many SGEs: %w", syscall.EINVAL)
)

func (c *conn) newQP(cfg verbs.QPConfig) (*qp, error) {
	send, ok1 := cfg.SendCQ.(*cq)
	recv, ok2 := cfg.RecvCQ.(*cq)
	if !ok1 || !ok2 || send.d != c.d || recv.d != c.d {
		return nil, errors.New("native: queue pair: completion queue is not of the connection's device")
	}
	attr := C.struct_vs_qp_init_attr{
		send_cq:         send.cq,
		recv_cq:         recv.cq,
		max_send_wr:     C.uint32_t(cfg.MaxSendWR),
		max_recv_wr:     C.uint32_t(cfg.MaxRecvWR),
		max_send_sge:    C.uint32_t(cfg.MaxSendSGE),
		max_recv_sge:    C.uint32_t(cfg.MaxRecvSGE),
		max_inline_data: C.uint32_t(cfg.MaxInline),
		qp_type:         C.VS_QPT_RC,
	}
	// The structure holds pointers, to C's memory: C gets a copy that is C's.
	in := (*C.struct_vs_qp_init_attr)(C.calloc(1, C.sizeof_struct_vs_qp_init_attr))
	defer C.free(unsafe.Pointer(in))
	*in = attr
	if err := errno(C.vs_create_qp(c.d.p.lib, c.id, c.d.pd, in)); err != nil {
		return nil, fmt.Errorf("native: %s: queue pair: %w", c.d.name, err)
	}
	q := &qp{c: c, qp: c.id.qp, num: uint32(c.id.qp.qp_num), cap: verbs.QPCap{
		MaxSendWR:  int(in.max_send_wr),
		MaxRecvWR:  int(in.max_recv_wr),
		MaxSendSGE: int(in.max_send_sge),
		MaxRecvSGE: int(in.max_recv_sge),
		MaxInline:  int(in.max_inline_data),
	}}
	q.wide = max(q.cap.MaxSendSGE, q.cap.MaxRecvSGE, 1)
	q.send = (*[batch]C.struct_vs_send_wr)(C.calloc(batch, C.sizeof_struct_vs_send_wr))
	q.recv = (*[batch]C.struct_vs_recv_wr)(C.calloc(batch, C.sizeof_struct_vs_recv_wr))
	sges := C.calloc(C.size_t(batch*q.wide), C.sizeof_struct_vs_sge)
	q.sges = unsafe.Slice((*C.struct_vs_sge)(sges), batch*q.wide)
	return q, nil
}

// free gives back the memory, when the queue pair is destroyed.
func (q *qp) free() {
	C.free(unsafe.Pointer(q.send))
	C.free(unsafe.Pointer(q.recv))
	C.free(unsafe.Pointer(&q.sges[0]))
}

func (q *qp) Num() uint32      { return q.num }
func (q *qp) Cap() verbs.QPCap { return q.cap }

// ToError moves the queue pair to the error state.
func (q *qp) ToError() error {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	if q.gone.Load() {
		return errGone
	}
	if err := errno(C.vs_qp_error(q.c.d.p.lib, q.qp)); err != nil {
		return fmt.Errorf("native: %s: queue pair to error state: %w", q.c.d.name, err)
	}
	return nil
}

// addr is the address of C's memory as the library's structures and the shim have it.
func addr[T any](p *T) C.uint64_t { return C.uint64_t(uintptr(unsafe.Pointer(p))) }

// fillSG copies sg to the i-th request's SGEs and returns their address.
func (q *qp) fillSG(i int, sg []verbs.SGE) C.uint64_t {
	if len(sg) == 0 {
		return 0
	}
	// verbs.SGE is laid out as vs_sge: a test says so.
	to := q.sges[i*q.wide : i*q.wide+len(sg)]
	copy(to, unsafe.Slice((*C.struct_vs_sge)(unsafe.Pointer(&sg[0])), len(sg)))
	return addr(&to[0])
}

var opcodes = [...]C.uint32_t{
	verbs.OpSend:     C.VS_WR_SEND,
	verbs.OpSendInv:  C.VS_WR_SEND_WITH_INV,
	verbs.OpWrite:    C.VS_WR_RDMA_WRITE,
	verbs.OpRead:     C.VS_WR_RDMA_READ,
	verbs.OpLocalInv: C.VS_WR_LOCAL_INV,
}

// PostSend posts up to 64 work requests in one call.
func (q *qp) PostSend(wr []verbs.SendWR) (int, error) {
	if q.gone.Load() {
		return 0, errGone
	}
	for done := 0; done < len(wr); {
		n, err := 0, error(nil)
		for ; n < batch && done+n < len(wr); n++ {
			w := &wr[done+n]
			if len(w.SG) > q.cap.MaxSendSGE || w.Op < verbs.OpSend || w.Op > verbs.OpLocalInv {
				err = errRequest
				break
			}
			c := &q.send[n]
			c.wr_id = C.uint64_t(w.ID)
			c.next = addr(&q.send[(n+1)%batch])
			c.sg_list, c.num_sge = q.fillSG(n, w.SG), C.int32_t(len(w.SG))
			c.opcode = opcodes[w.Op]
			c.send_flags = C.uint32_t(w.Flags)
			c.invalidate_rkey = C.uint32_t(w.InvKey)
			c.remote_addr, c.rkey = C.uint64_t(w.RAddr), C.uint32_t(w.RKey)
		}
		if n > 0 {
			q.send[n-1].next = 0
			if ret := C.vs_post_send(addr(q.qp), addr(&q.send[0])); ret != 0 {
				return done + int(uint32(ret)), postError(int64(ret))
			}
		}
		done += n
		if err != nil {
			return done, err
		}
	}
	return len(wr), nil
}

// PostRecv posts up to 64 receives in one call.
func (q *qp) PostRecv(wr []verbs.RecvWR) (int, error) {
	if q.gone.Load() {
		return 0, errGone
	}
	for done := 0; done < len(wr); {
		n, err := 0, error(nil)
		for ; n < batch && done+n < len(wr); n++ {
			w := &wr[done+n]
			if len(w.SG) > q.cap.MaxRecvSGE {
				err = errRequest
				break
			}
			c := &q.recv[n]
			c.wr_id = C.uint64_t(w.ID)
			c.next = addr(&q.recv[(n+1)%batch])
			c.sg_list, c.num_sge = q.fillSG(n, w.SG), C.int32_t(len(w.SG))
		}
		if n > 0 {
			q.recv[n-1].next = 0
			if ret := C.vs_post_recv(addr(q.qp), addr(&q.recv[0])); ret != 0 {
				return done + int(uint32(ret)), postError(int64(ret))
			}
		}
		done += n
		if err != nil {
			return done, err
		}
	}
	return len(wr), nil
}

// postError is the error of a vs_post function.
func postError(ret int64) error {
	no := syscall.Errno(ret >> 32)
	if no == syscall.ENOMEM || no == syscall.EAGAIN || no == syscall.ENOSPC {
		return verbs.ErrQueueFull
	}
	return fmt.Errorf("native: post: %w", no)
}

// Bind posts the binding of a window. The key's low 8 bits are ours to choose
// (IBTA 10.6.7.2.4): each binding gets the next.
func (q *qp) Bind(w verbs.Window, m verbs.MR, mem []byte, acc verbs.Access, id uint64, flags verbs.SendFlags) (uint32, error) {
	win, ok1 := w.(*window)
	reg, ok2 := m.(*mr)
	if !ok1 || !ok2 || win.mw == nil || reg.mr == nil {
		return 0, fmt.Errorf("native: bind: window or region: %w", verbs.ErrClosed)
	}
	if q.gone.Load() {
		return 0, errGone
	}
	old := uint32(win.mw.rkey)
	key := old&^0xff | (old+1)&0xff
	c := &q.send[0]
	*c = C.struct_vs_send_wr{
		wr_id:      C.uint64_t(id),
		opcode:     C.VS_WR_BIND_MW,
		send_flags: C.uint32_t(flags),
		mw:         addr(win.mw),
		mw_rkey:    C.uint32_t(key),
		mw_mr:      addr(reg.mr),
		mw_addr:    C.uint64_t(verbs.Addr(mem)),
		mw_length:  C.uint64_t(len(mem)),
		mw_access:  C.uint32_t(acc),
	}
	if ret := C.vs_post_send(addr(q.qp), addr(c)); ret != 0 {
		return 0, postError(int64(ret))
	}
	// The library leaves it to us to remember which key is bound.
	win.mw.rkey = C.uint32_t(key)
	return key, nil
}

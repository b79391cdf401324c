package softiwarp

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/iser/verbs"
)

func (r *raw) terminateWith(f fault, read []byte) []byte {
	term := terminate{fault: f}
	if read != nil {
		term.header, term.read = make([]byte, untaggedLen), read
	}
	var b [maxTerminateLen]byte
	return r.fpdu(segment{op: opTerminate, last: true, qn: qnTerminate, msn: 1}, b[:term.encode(b[:])])
}

// A Terminate in any state ends the connection it comes on, and nothing else.
func TestTerminateStates(t *testing.T) {
	cases := map[string]func(v *victim, r *raw){
		"first": func(v *victim, r *raw) {},
		"after a message": func(v *victim, r *raw) {
			r.write(r.fpdu(segment{op: opSend, msn: 1, last: true}, []byte("x")))
			v.wait(nil, 1)
		},
		"in a message": func(v *victim, r *raw) {
			r.write(r.fpdu(segment{op: opSend, msn: 1}, []byte("x")))
		},
		"in a Write": func(v *victim, r *raw) {
			r.write(r.fpdu(segment{op: opWrite, tagged: true, stag: v.mr.RKey(), to: v.addr(guardLo)}, []byte("x")))
		},
		"answering a Read": func(v *victim, r *raw) {
			b := make([]byte, readReqLen)
			(&readRequest{size: 512 << 10, srcSTag: v.mr.RKey(), srcTO: v.addr(0)}).encode(b)
			r.write(r.fpdu(segment{op: opReadRequest, msn: 1, qn: qnReadReq, last: true}, b))
			for range 3 {
				v.poll()
			}
		},
		"socket full": func(v *victim, r *raw) {
			r.write(r.fpdu(segment{op: opSend, msn: 1, last: true}, nil))
			v.wait(nil, 1)
			for range 60 {
				v.send(verbs.SendWR{Op: verbs.OpWrite, SG: v.sge(0, 512<<10), RKey: 1})
			}
			until(v.t, func() bool { v.poll(); return v.qp.tx.blocked })
		},
		"after Disconnect": func(v *victim, r *raw) { must(v.t, v.conn.Disconnect()) },
		"after our Terminate": func(v *victim, r *raw) {
			r.write(r.fpdu(segment{op: opSend, msn: 9, last: true}, nil))
			r.terminate(v.end)
		},
		"twice": func(v *victim, r *raw) { r.write(r.terminateWith(faultAccess, nil)) },
	}
	for name, before := range cases {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t, Config{})
			r := v.connect()
			before(v, r)
			r.write(r.terminateWith(faultCatastrophic, nil))
			v.ended()
			for {
				if _, _, err := r.next(v.end); err != nil {
					break // all of it was read, and the end
				}
			}
		})
	}
}

// A malformed Terminate is the end as well.
func TestTerminateMalformed(t *testing.T) {
	v := newVictim(t, Config{})
	full := make([]byte, maxTerminateLen)
	full[2] = termM | termD | termR
	for n := range full {
		r := v.connect()
		r.write(r.fpdu(segment{op: opTerminate, last: true, qn: qnTerminate, msn: 1}, full[:n]))
		v.ended()
		if _, _, err := r.next(v.end); !errors.Is(err, io.EOF) {
			t.Errorf("length %d: %v", n, err)
		}
	}
}

// The Read that a Terminate is about has the status that it tells.
func TestTerminatedRead(t *testing.T) {
	for f, want := range map[fault]verbs.Status{
		faultSTag: verbs.WCRemoteAccess, faultBounds: verbs.WCRemoteAccess,
		faultAccess: verbs.WCRemoteAccess, faultOpcode: verbs.WCRemoteOp, faultCatastrophic: verbs.WCRemoteOp,
	} {
		t.Run(f.Error(), func(t *testing.T) {
			v := newVictim(t, Config{})
			r := v.connect()
			r.write(r.fpdu(segment{op: opSend, msn: 1, last: true}, nil))
			v.wait(nil, 1)
			for id := range uint64(3) {
				v.send(verbs.SendWR{ID: 10 + id, Op: verbs.OpRead, SG: v.sge(guardLo, 16), RAddr: 7, RKey: 8})
			}
			var reads [][]byte
			for range 3 {
				seg, b, err := r.next(v.end)
				if err != nil || seg.op != opReadRequest {
					t.Fatalf("%v, %v", seg.op, err)
				}
				reads = append(reads, b)
			}
			v.take()
			r.write(r.terminateWith(f, reads[1]))
			got := v.wait(nil, 4) // one receive is left
			var statuses []verbs.Status
			for _, wc := range got[:3] {
				statuses = append(statuses, wc.Status)
			}
			if d := cmp.Diff([]verbs.Status{verbs.WCFlushed, want, verbs.WCFlushed}, statuses); d != "" {
				t.Error(d)
			}
			if got[1].VendorErr != uint32(f) {
				t.Errorf("vendor error %#x, want %#x", got[1].VendorErr, uint16(f))
			}
		})
	}
}

// readVictim has one RDMA Read of 100 bytes under way.
func readVictim(t *testing.T) (v *victim, r *raw, req readRequest, check func()) {
	t.Helper()
	v = newVictim(t, Config{})
	mr, check := v.guard()
	t.Cleanup(func() { must(t, mr.Close()) })
	r = v.connect()
	r.write(r.fpdu(segment{op: opSend, msn: 1, last: true}, nil))
	v.wait(nil, 1)
	v.take()
	v.send(verbs.SendWR{ID: 10, Op: verbs.OpRead, Flags: verbs.SendSignaled, SG: v.sge(guardLo, 100), RAddr: 7, RKey: 8})
	seg, b, err := r.next(v.end)
	if err != nil || seg.op != opReadRequest || seg.msn != 1 || seg.qn != qnReadReq || !seg.last {
		t.Fatalf("%+v, %v", seg, err)
	}
	req.decode(b)
	if req.size != 100 || req.srcSTag != 8 || req.srcTO != 7 {
		t.Fatalf("request %+v", req)
	}
	return v, r, req, check
}

// A Read Response must be the one that was asked for, byte for byte.
func TestBadResponse(t *testing.T) {
	cases := map[string]struct {
		change func(*segment, *int)
		want   fault
	}{
		"STag":      {func(s *segment, _ *int) { s.stag++ }, faultTaggedSTag},
		"later":     {func(s *segment, _ *int) { s.to++ }, faultTaggedBounds},
		"too long":  {func(_ *segment, n *int) { *n = 101 }, faultTaggedBounds},
		"too short": {func(_ *segment, n *int) { *n = 99 }, faultTaggedBounds},
		"no last":   {func(s *segment, _ *int) { s.last = false }, faultTaggedBounds},
		"a Write":   {func(s *segment, _ *int) { s.op = opWrite }, faultTaggedSTag},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			v, r, req, check := readVictim(t)
			seg := segment{op: opReadResponse, tagged: true, last: true, stag: req.sinkSTag, to: req.sinkTO}
			n := 100
			c.change(&seg, &n)
			r.write(r.fpdu(seg, make([]byte, n)))
			if term := r.terminate(v.end); term.fault != c.want {
				t.Errorf("%v, want %v", term.fault, c.want)
			}
			v.ended()
			check()
		})
	}
	t.Run("good, in pieces", func(t *testing.T) {
		v, r, req, check := readVictim(t)
		want := bytes.Repeat([]byte{0xaa}, 100)
		r.write(r.fpdu(segment{op: opReadResponse, tagged: true, stag: req.sinkSTag, to: req.sinkTO}, want[:60]))
		r.write(r.fpdu(segment{op: opReadResponse, tagged: true, last: true, stag: req.sinkSTag, to: req.sinkTO + 60}, want[60:]))
		if got := v.wait(nil, 1); got[0].Status != verbs.WCSuccess || got[0].Len != 100 {
			t.Errorf("%+v", got)
		}
		if !bytes.Equal(v.mem[guardLo:guardLo+100], want) {
			t.Error("data differs")
		}
		check()
		// Done is done: it must not come again.
		r.write(r.fpdu(segment{op: opReadResponse, tagged: true, last: true, stag: req.sinkSTag, to: req.sinkTO}, want))
		if term := r.terminate(v.end); term.fault != faultTaggedSTag {
			t.Errorf("%v", term.fault)
		}
	})
}

// A work request that names memory which is not its own fails; nothing of it
// is sent or written.
func TestLocalFaults(t *testing.T) {
	for name, change := range map[string]func(v *end, wr *verbs.SendWR){
		"key":    func(_ *end, wr *verbs.SendWR) { wr.SG[0].LKey++ },
		"beyond": func(_ *end, wr *verbs.SendWR) { wr.SG[0].Len = endMem + 1 },
		"below":  func(_ *end, wr *verbs.SendWR) { wr.SG[0].Addr-- },
		"sink": func(v *end, wr *verbs.SendWR) {
			wr.Op, wr.SG[0].LKey = verbs.OpRead, v.register(v.mem, verbs.AccessRemoteRead).LKey()
		},
		"invalidate": func(v *end, wr *verbs.SendWR) { wr.Op, wr.InvKey = verbs.OpLocalInv, v.mr.RKey() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := openPair(t, Config{})
			b.recv(1, 0, 64)
			wr := verbs.SendWR{ID: 5, Op: verbs.OpSend, SG: a.sge(0, 8)}
			change(a, &wr)
			a.send(wr, verbs.SendWR{ID: 6, Op: verbs.OpSend})
			got := a.wait(b, 2)
			if got[0].ID != 5 || got[0].Status != verbs.WCLocalProtection || got[1].ID != 6 || got[1].Status != verbs.WCFlushed {
				t.Errorf("%+v", got)
			}
			if got := b.wait(a, 1); got[0].Status != verbs.WCFlushed || got[0].VendorErr != uint32(faultCatastrophic) {
				t.Errorf("the peer: %+v", got)
			}
			a.event(verbs.EventDisconnected)
			b.event(verbs.EventDisconnected)
		})
	}
}

// A receive into memory that is not writable, or gone, fails.
func TestReceiveFaults(t *testing.T) {
	for _, n := range []int{10, 100000} {
		a, b := openPair(t, Config{})
		mr := b.register(b.mem, verbs.AccessRemoteRead)
		_, err := b.qp.PostRecv([]verbs.RecvWR{{ID: 3, SG: []verbs.SGE{{Addr: b.addr(0), Len: 200000, LKey: mr.LKey()}}}})
		must(t, err)
		a.send(verbs.SendWR{Op: verbs.OpSend, SG: a.sge(0, n)})
		if got := b.wait(a, 1); got[0].ID != 3 || got[0].Status != verbs.WCLocalProtection {
			t.Errorf("%+v", got)
		}
	}
}

// A region that is closed while its bytes wait to be sent to a peer that does
// not read: they are sent as they were.
func TestCloseRegionBusy(t *testing.T) {
	a, b := openPair(t, Config{})
	mem, err := verbs.Map(endMem)
	must(t, err)
	mr := b.register(mem, verbs.AccessRemoteRead)
	for i := range mem {
		mem[i] = 0x11
	}
	for range 4 {
		a.send(verbs.SendWR{Op: verbs.OpRead, SG: a.sge(0, endMem), RAddr: verbs.Addr(mem), RKey: mr.RKey()})
	}
	a.poll()
	until(t, func() bool { b.poll(); return b.qp.tx.blocked })
	must(t, mr.Close())
	for i := range mem {
		mem[i] = 0x22
	}
	must(t, verbs.Unmap(mem))
	until(t, func() bool { a.poll(); b.poll(); return a.qp.state == qpError })
	if bytes.IndexByte(a.mem, 0x22) >= 0 {
		t.Error("bytes of memory that was no longer registered were sent")
	}
	if got := a.wait(b, 1); got[0].Status == verbs.WCSuccess {
		t.Errorf("%+v", got)
	}
}

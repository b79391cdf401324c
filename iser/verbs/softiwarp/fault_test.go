package softiwarp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// A connection cut at any byte of the request is nobody's business.
func TestRequestCut(t *testing.T) {
	v := newVictim(t, Config{})
	b := rawRequest.append(nil)
	for n := range b {
		r := dialRaw(t, v.l)
		r.write(b[:n])
		must(t, r.c.Close())
	}
	v.connect()
	v.alive()
	v.none()
	until(t, func() bool { l := v.l.(*Listener); l.mu.Lock(); defer l.mu.Unlock(); return len(l.conns) == 0 })
}

// A request that comes byte by byte is a request.
func TestRequestSlow(t *testing.T) {
	v := newVictim(t, Config{})
	done := make(chan verbs.Event)
	go func() { done <- v.next() }()
	r := dialRaw(t, v.l)
	for _, c := range rawRequest.append(nil) {
		r.write([]byte{c})
	}
	ev := <-done
	v.conn = ev.Conn.(*Conn)
	if ev.Kind != verbs.EventConnectRequest || string(ev.Param.Private) != "hello" || ev.Param.InitiatorDepth != 4 {
		t.Fatalf("event %+v", ev)
	}
}

// A request with a wrong byte is refused, or is another request; nothing else
// happens.
func TestRequestDamaged(t *testing.T) {
	v := newVictim(t, Config{HandshakeTimeout: 50 * time.Millisecond})
	for i := range rawRequest.append(nil) {
		b := rawRequest.append(nil)
		b[i] ^= 0xff
		r := dialRaw(t, v.l)
		r.write(b)
		go func() { _, _ = io.Copy(io.Discard, r.c) }()
	}
	// Those that wait for more bytes are timed out while this runs.
	until(t, func() bool {
		ctx, cancel := contextWithin(10 * time.Millisecond)
		defer cancel()
		if ev, err := v.cm.Next(ctx); err == nil {
			_ = ev.Conn.Close()
		}
		l := v.l.(*Listener)
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns) == 0
	})
	v.alive()
}

// What has no chance is refused with a reply.
func TestRequestRefused(t *testing.T) {
	for name, f := range map[string]mpaFrame{
		"markers":  {rev: 2, flags: mpaMarkers},
		"revision": {rev: 3},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t, Config{})
			done := make(chan struct{})
			go func() { v.none(); close(done) }()
			r := dialRaw(t, v.l)
			r.write(f.append(nil))
			if got := r.reply(); got.flags&mpaReject == 0 {
				t.Errorf("reply %+v", got)
			}
			<-done
		})
	}
}

// A request with something behind it is not waited for: the bytes behind it
// are FPDUs then, as good as any.
func TestRequestTimeout(t *testing.T) {
	v := newVictim(t, Config{HandshakeTimeout: 30 * time.Millisecond})
	r := dialRaw(t, v.l)
	r.write([]byte(mpaRequestKey))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := r.c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, errReset) {
			t.Errorf("read: %v", err)
		}
	}()
	until(t, func() bool {
		v.none()
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

// A peer that is cut at any byte of its reply is a failed connection.
func TestReplyCut(t *testing.T) {
	reply := mpaFrame{reply: true, rev: 2, flags: mpaIsEnh, ird: 4, ord: 4, private: []byte("welcome")}
	full := reply.append(nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	for n := range len(full) + 1 {
		a := newEnd(t, Config{})
		a.dial(netip.MustParseAddrPort(l.Addr().String()))
		a.newQP()
		a.recv(1, 0, 8)
		must(t, a.conn.Connect(param))
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, mpaHeaderLen+mpaEnhanced))
			_, _ = c.Write(full[:n])
			_ = c.Close()
		}()
		ev := a.next()
		if n == len(full) {
			if ev.Kind != verbs.EventEstablished || string(ev.Param.Private) != "welcome" {
				t.Fatalf("event %+v", ev)
			}
			until(t, func() bool { a.poll(); return a.qp.state == qpError })
			a.event(verbs.EventDisconnected)
		} else if ev.Kind != verbs.EventRejected && ev.Kind != verbs.EventConnectError {
			t.Fatalf("cut at %d: event %v", n, ev.Kind)
		}
		if got := a.wait(nil, 1); got[0].Status != verbs.WCFlushed {
			t.Fatalf("cut at %d: receive %+v", n, got)
		}
		a.none()
	}
}

// goodSegments are messages that are all right, at the victim.
func goodSegments(mr *MR) map[string]func(r *raw) []byte {
	to := verbs.Addr(mr.Mem())
	read := make([]byte, readReqLen)
	(&readRequest{sinkSTag: 1, size: 100, srcSTag: mr.RKey(), srcTO: to}).encode(read)
	return map[string]func(r *raw) []byte{
		"send": func(r *raw) []byte {
			return r.fpdu(segment{op: opSend, last: true, msn: 1}, make([]byte, 61))
		},
		"write": func(r *raw) []byte {
			return r.fpdu(segment{op: opWrite, tagged: true, last: true, stag: mr.RKey(), to: to}, make([]byte, 99))
		},
		"read": func(r *raw) []byte {
			return r.fpdu(segment{op: opReadRequest, last: true, qn: qnReadReq, msn: 1}, read)
		},
		"terminate": func(r *raw) []byte {
			return r.fpdu(segment{op: opTerminate, last: true, qn: qnTerminate, msn: 1}, []byte{0, 0, 0, 0})
		},
	}
}

// A connection cut at any byte of any message ends in good order.
func TestTruncatedFPDU(t *testing.T) {
	for _, cfg := range []Config{{}, {CRC: true}} {
		v := newVictim(t, cfg)
		mr, check := v.guard()
		for name, make := range goodSegments(mr) {
			t.Run(fmt.Sprintf("%s,crc=%v", name, cfg.CRC), func(t *testing.T) {
				for n := 0; ; n++ {
					r := v.connect()
					b := make(r)
					if n > len(b) {
						break
					}
					r.write(b[:n])
					must(t, r.c.Close())
					v.ended()
					check()
				}
			})
		}
		must(t, mr.Close())
	}
}

// Every byte of an FPDU is under its CRC.
func TestWrongCRC(t *testing.T) {
	v := newVictim(t, Config{CRC: true})
	mr, check := v.guard()
	before := append([]byte(nil), v.mem...)
	for name, make := range goodSegments(mr) {
		t.Run(name, func(t *testing.T) {
			for i := 2; ; i++ { // a wrong length is another error
				r := v.connect()
				b := make(r)
				if i >= len(b) {
					break
				}
				b[i] ^= 0x10
				r.write(b)
				must(t, r.c.CloseWrite())
				term := r.terminate(v.end)
				if term.fault != faultCRC {
					t.Fatalf("byte %d: %v", i, term.fault)
				}
				v.ended()
			}
			check()
			if !bytes.Equal(before, v.mem) {
				t.Fatal("memory has changed")
			}
		})
	}
	must(t, mr.Close())
}

// badSegments are what a peer must not send: the Terminate that it gets.
func badSegments(v *victim, mr *MR) map[string]struct {
	seg     segment
	payload []byte
	want    fault
} {
	to, n := verbs.Addr(mr.Mem()), uint64(len(mr.Mem()))
	readOnly := v.register(v.mem[guardLo:guardHi], verbs.AccessRemoteRead)
	writeOnly := v.register(v.mem[guardLo:guardHi], verbs.AccessLocalWrite|verbs.AccessRemoteWrite)
	closed := v.register(v.mem[guardLo:guardHi], allAccess)
	must(v.t, closed.Close())
	v.t.Cleanup(func() { _, _ = readOnly.Close(), writeOnly.Close() })
	read := func(r readRequest) []byte {
		b := make([]byte, readReqLen)
		r.encode(b)
		return b
	}
	some := make([]byte, 16)
	write := func(stag uint32, to uint64) segment {
		return segment{op: opWrite, tagged: true, last: true, stag: stag, to: to}
	}
	req := segment{op: opReadRequest, last: true, qn: qnReadReq, msn: 1}
	return map[string]struct {
		seg     segment
		payload []byte
		want    fault
	}{
		"write, unknown STag":      {write(mr.RKey()^1<<31, to), some, faultTaggedSTag},
		"write, old key":           {write(mr.RKey()-1, to), some, faultTaggedSTag},
		"write, STag 0":            {write(0, to), some, faultTaggedSTag},
		"write, STag ones":         {write(^uint32(0), to), some, faultTaggedSTag},
		"write, closed STag":       {write(closed.RKey(), to), some, faultTaggedSTag},
		"write, below":             {write(mr.RKey(), to-1), some, faultTaggedBounds},
		"write, beyond":            {write(mr.RKey(), to+n-15), some, faultTaggedBounds},
		"write, far":               {write(mr.RKey(), 1<<40), some, faultTaggedBounds},
		"write, wrap":              {write(mr.RKey(), ^uint64(0)-3), some, faultTaggedWrap},
		"write, read only":         {write(readOnly.RKey(), to), some, faultAccess},
		"write, untagged":          {segment{op: opWrite, last: true, msn: 1}, some, faultOpcode},
		"send, tagged":             {segment{op: opSend, tagged: true, last: true, stag: mr.RKey(), to: to}, some, faultOpcode},
		"opcode 8":                 {segment{op: 8, last: true, msn: 1}, some, faultOpcode},
		"opcode 15":                {segment{op: 15, tagged: true, last: true}, some, faultOpcode},
		"DDP version, tagged":      {segment{op: opWrite, dv: 2, tagged: true, last: true, stag: mr.RKey(), to: to}, some, faultTaggedVersion},
		"DDP version, untagged":    {segment{op: opSend, dv: 3, last: true, msn: 1}, some, faultVersion},
		"send, queue 3":            {segment{op: opSend, last: true, qn: 3, msn: 1}, some, faultQN},
		"send, queue 1":            {segment{op: opSend, last: true, qn: 1, msn: 1}, some, faultOpcode},
		"send, MSN 0":              {segment{op: opSend, last: true, msn: 0}, some, faultMSN},
		"send, MSN 2":              {segment{op: opSend, last: true, msn: 2}, some, faultMSN},
		"send, MO":                 {segment{op: opSend, last: true, msn: 1, mo: 1}, some, faultMO},
		"send, too long":           {segment{op: opSend, last: true, msn: 1}, make([]byte, 65), faultTooLong},
		"send, much too long":      {segment{op: opSend, last: true, msn: 1}, make([]byte, 40000), faultTooLong},
		"send, invalidates region": {segment{op: opSendInv, last: true, msn: 1, stag: mr.RKey()}, some, faultInvalidate},
		"send, invalidates 0":      {segment{op: opSendSEInv, last: true, msn: 1}, some, faultInvalidate},
		"response, no Read":        {segment{op: opReadResponse, tagged: true, last: true, stag: mr.RKey(), to: to}, some, faultTaggedSTag},
		"response, empty":          {segment{op: opReadResponse, tagged: true, last: true}, nil, faultTaggedSTag},
		"read, short":              {req, make([]byte, 27), faultTooLong},
		"read, long":               {req, make([]byte, 29), faultTooLong},
		"read, MSN":                {segment{op: opReadRequest, last: true, qn: qnReadReq, msn: 2}, make([]byte, 28), faultMSN},
		"read, not last":           {segment{op: opReadRequest, qn: qnReadReq, msn: 1}, make([]byte, 28), faultTooLong},
		"read, unknown STag":       {req, read(readRequest{size: 1, srcSTag: mr.RKey() + 1, srcTO: to}), faultSTag},
		"read, beyond":             {req, read(readRequest{size: uint32(n), srcSTag: mr.RKey(), srcTO: to + 1}), faultBounds},
		"read, below":              {req, read(readRequest{size: 2, srcSTag: mr.RKey(), srcTO: to - 1}), faultBounds},
		"read, huge":               {req, read(readRequest{size: ^uint32(0), srcSTag: mr.RKey(), srcTO: to}), faultBounds},
		"read, wrap":               {req, read(readRequest{size: 100, srcSTag: mr.RKey(), srcTO: ^uint64(0) - 3}), faultTOWrap},
		"read, sink wraps":         {req, read(readRequest{size: 100, srcSTag: mr.RKey(), srcTO: to, sinkTO: ^uint64(0) - 3}), faultTOWrap},
		"read, write only":         {req, read(readRequest{size: 1, srcSTag: writeOnly.RKey(), srcTO: to}), faultAccess},
		"terminate, too long":      {segment{op: opTerminate, last: true, qn: qnTerminate, msn: 1}, make([]byte, 100), faultTooLong},
		"terminate, MSN":           {segment{op: opTerminate, last: true, qn: qnTerminate, msn: 2}, some, faultMSN},
	}
}

// What a peer must not send gets it a Terminate that says so, with the header
// of the segment. Nothing outside the region changes, other connections live.
func TestBadSegments(t *testing.T) {
	v := newVictim(t, Config{})
	mr, check := v.guard()
	for name, c := range badSegments(v, mr) {
		t.Run(name, func(t *testing.T) {
			r := v.connect()
			b := r.fpdu(c.seg, c.payload)
			r.write(b)
			term := r.terminate(v.end)
			if term.fault != c.want {
				t.Errorf("%v, want %v", term.fault, c.want)
			}
			if hl := headerLen(b[2]); !bytes.Equal(term.header, b[2:2+hl]) || int(term.segLen) != hl+len(c.payload) {
				t.Errorf("Terminate is about %x, %d bytes", term.header, term.segLen)
			}
			if c.seg.op == opReadRequest && c.want.layer() == 0 && !bytes.Equal(term.read, c.payload) {
				t.Errorf("Terminate has the Read Request %x", term.read)
			}
			if _, _, err := r.next(v.end); !errors.Is(err, io.EOF) {
				t.Errorf("after Terminate: %v", err)
			}
			v.ended()
			check()
		})
	}
	must(t, mr.Close())
}

// No message may be longer than its receive, in how many segments ever.
func TestTooLongInPieces(t *testing.T) {
	v := newVictim(t, Config{})
	mr, check := v.guard()
	r := v.connect()
	r.write(r.fpdu(segment{op: opSend, msn: 1}, make([]byte, 40)))
	r.write(r.fpdu(segment{op: opSend, msn: 1, mo: 40, last: true}, make([]byte, 25)))
	if term := r.terminate(v.end); term.fault != faultTooLong {
		t.Errorf("%v", term.fault)
	}
	until(t, func() bool { v.poll(); return len(v.got) == 2 })
	if v.got[0].Status != verbs.WCLocalLength || v.got[1].Status != verbs.WCFlushed {
		t.Errorf("receives %+v", v.got)
	}
	v.ended()
	check()
	must(t, mr.Close())
}

// The third message finds no receive.
func TestNoBuffer(t *testing.T) {
	v := newVictim(t, Config{})
	r := v.connect()
	for msn := range uint32(3) {
		r.write(r.fpdu(segment{op: opSend, msn: msn + 1, last: true}, nil))
	}
	if term := r.terminate(v.end); term.fault != faultNoBuffer {
		t.Errorf("%v", term.fault)
	}
	v.ended()
}

// More Reads than the IRD end the connection. They are sent at once, so none
// is answered in between.
func TestTooManyReads(t *testing.T) {
	v := newVictim(t, Config{})
	mr, check := v.guard()
	r := v.connect()
	payload := make([]byte, readReqLen)
	(&readRequest{size: 4096, srcSTag: mr.RKey(), srcTO: verbs.Addr(mr.Mem())}).encode(payload)
	var b []byte
	for msn := range uint32(5) {
		b = append(b, r.fpdu(segment{op: opReadRequest, msn: msn + 1, qn: qnReadReq, last: true}, payload)...)
	}
	r.write(b)
	if term := r.terminate(v.end); term.fault != faultNoBuffer {
		t.Errorf("%v", term.fault)
	}
	v.ended()
	check()
	must(t, mr.Close())
}

// A ULPDU that is shorter than its header, and none at all.
func TestBadULPDU(t *testing.T) {
	v := newVictim(t, Config{})
	for _, b := range [][]byte{{0, 1, 0x81}, {0, 13, 0x81}, {0, 17, 0x41}, {0, 0, 0, 0, 0, 0, 0, 0}} {
		r := v.connect()
		r.write(b)
		if term := r.terminate(v.end); term.fault != faultFPDU || term.header != nil {
			t.Errorf("%x: %v", b, term.fault)
		}
		v.ended()
	}
}

package iserd_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// A message of every length from nothing to more than fits ends the connection or
// is answered, at every stage, and nothing else happens.
func TestISERAbuseLengths(t *testing.T) {
	srv, _, addr := startISER(t)
	witness := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, witness)
	noop := func() []byte {
		p := pdu.NOPOut{Immediate: true, InitiatorTaskTag: 7, TargetTransferTag: pdu.ReservedTag, CmdSN: 1, DataLen: 64}
		var h pdu.BHS
		p.Encode(&h)
		b := make([]byte, iser.HeaderLen, 12<<10)
		(&iser.Header{}).Encode(b)
		return append(append(b, h[:]...), make([]byte, 9<<10)...)
	}()
	const whole = iser.HeaderLen + pdu.BHSLen + 64
	for _, stage := range []string{"login", "full feature"} {
		for n := 0; n <= whole+2; n++ {
			r := openRaw(t, addr)
			if stage != "login" {
				r.login()
			}
			if err := r.c.SendMessage(noop[:n]); err != nil {
				t.Fatal(err)
			}
			if stage != "login" && n >= whole {
				if m := r.next(); m.BHS.Opcode() != pdu.OpNOPIn {
					t.Errorf("%s, %d bytes: %v", stage, n, m.BHS.Opcode())
				}
			} else {
				r.closed(fmt.Sprintf("%s, %d bytes", stage, n))
			}
			r.c.Close()
		}
		for _, n := range []int{8700, 9000} { // longer than any receive
			r := openRaw(t, addr)
			if stage != "login" {
				r.login()
			}
			if err := r.c.SendMessage(noop[:n]); err != nil {
				t.Fatal(err)
			}
			r.closed(fmt.Sprintf("%s, %d bytes", stage, n))
			r.c.Close()
		}
	}
	roundTrip(t, witness, 0, 64)
	witness.Close()
	quiet(t, srv)
}

// Lengths that lie, unknown message types, and Hellos out of turn.
func TestISERAbuseHeaders(t *testing.T) {
	srv, _, addr := startISER(t)
	for name, spoil := range map[string]func(b []byte){
		"opcode 0":          func(b []byte) { b[0] = 0 },
		"Hello":             func(b []byte) { b[0] = 0x20 },
		"HelloReply":        func(b []byte) { b[0] = 0x30 },
		"opcode 15":         func(b []byte) { b[0] = 0xf0 },
		"data segment":      func(b []byte) { (*pdu.BHS)(b[iser.HeaderLen:]).SetDataSegmentLength(8192) },
		"long data segment": func(b []byte) { (*pdu.BHS)(b[iser.HeaderLen:]).SetDataSegmentLength(1<<24 - 1) },
		"AHS":               func(b []byte) { (*pdu.BHS)(b[iser.HeaderLen:]).SetTotalAHSLength(1020) },
	} {
		for _, stage := range []string{"login", "full feature"} {
			t.Run(name+"/"+stage, func(t *testing.T) {
				r := openRaw(t, addr)
				if stage != "login" {
					r.login()
				}
				p := pdu.NOPOut{Immediate: true, InitiatorTaskTag: 7, TargetTransferTag: pdu.ReservedTag, CmdSN: 1}
				var h pdu.BHS
				p.Encode(&h)
				b := make([]byte, iser.HeaderLen+pdu.BHSLen)
				(&iser.Header{}).Encode(b)
				copy(b[iser.HeaderLen:], h[:])
				spoil(b)
				if err := r.c.SendMessage(b); err != nil {
					t.Fatal(err)
				}
				r.closed(name)
			})
		}
	}
	quiet(t, srv)
}

// Steering tags that are missing, wrong, revoked or too short end that connection,
// and never with GOOD.
func TestISERAbuseSTags(t *testing.T) {
	srv, _, addr := startISER(t)
	witness := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, witness)
	const n = 64 << 10
	for _, write := range []bool{false, true} {
		for name, spoil := range map[string]func(stag *uint32, base *uint64, valid *bool){
			"none":       func(_ *uint32, _ *uint64, valid *bool) { *valid = false },
			"zero":       func(stag *uint32, _ *uint64, _ *bool) { *stag = 0 },
			"other":      func(stag *uint32, _ *uint64, _ *bool) { *stag ^= 0x5500 },
			"other key":  func(stag *uint32, _ *uint64, _ *bool) { *stag ^= 1 },
			"below":      func(_ *uint32, base *uint64, _ *bool) { *base -= 32 << 20 },
			"beyond":     func(_ *uint32, base *uint64, _ *bool) { *base += 32 << 20 },
			"wraps":      func(_ *uint32, base *uint64, _ *bool) { *base = ^uint64(0) - n/2 },
			"null":       func(_ *uint32, base *uint64, _ *bool) { *base = 0 },
			"half there": func(_ *uint32, base *uint64, _ *bool) { *base = (*base &^ (16<<20 - 1)) + 16<<20 - n/2 },
		} {
			t.Run(fmt.Sprintf("write=%v/%s", write, name), func(t *testing.T) {
				r := openRaw(t, addr)
				r.login()
				r.attentions()
				b, stag, err := r.c.Alloc(n)
				if err != nil {
					t.Fatal(err)
				}
				base, valid := uint64(0), true
				base = addrOf(b.B)
				spoil(&stag, &base, &valid)
				ih := iser.Header{RSV: valid, ReadSTag: stag, ReadBase: base}
				cdb, c := cdb10(read10, 0, n/512), pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: n}
				if write {
					ih = iser.Header{WSV: valid, WriteSTag: stag, WriteBase: base}
					cdb, c = cdb10(write10, 0, n/512), pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: n}
				}
				r.command(ih, c, cdb, nil, nil)
				r.closed(name)
				for _, g := range r.got {
					var m iser.Message
					var resp pdu.SCSIResponse
					if m.Decode(g) == nil && resp.Decode(m.BHS) == nil && resp.Status == 0 {
						t.Error("answered GOOD")
					}
				}
			})
		}
	}
	roundTrip(t, witness, 0, 64)
	witness.Close()
	quiet(t, srv)
}

// Data-Out PDUs that nobody has asked for (B31, B32), beside an RDMA Read that is
// under way, are rejected; the write is whole.
func TestISERAbuseDataOut(t *testing.T) {
	_, _, addr := startISER(t)
	const n = 1 << 20
	for _, data := range [][]byte{nil, make([]byte, 512)} {
		for _, offset := range []uint32{0, 512, n} {
			for _, ttt := range []uint32{pdu.ReservedTag, 1} {
				r := openRaw(t, addr)
				r.login()
				r.attentions()
				b, stag, err := r.c.Alloc(n)
				if err != nil {
					t.Fatal(err)
				}
				for i := range b.B {
					b.B[i] = byte(i >> 9)
				}
				const itt = 0x5151
				r.command(iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(b.B)},
					pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: n, InitiatorTaskTag: itt}, cdb10(write10, 0, n/512), nil, nil)
				d := pdu.DataOut{Final: true, InitiatorTaskTag: itt, TargetTransferTag: ttt, BufferOffset: offset, DataLen: len(data)}
				var h pdu.BHS
				d.Encode(&h)
				if err := r.c.SendPDU(&iser.Header{}, &h, nil, data); err != nil {
					t.Fatal(err)
				}
				rejected, good := false, false
				for range 2 {
					m := r.next()
					switch m.BHS.Opcode() {
					case pdu.OpReject:
						rejected = true
					case pdu.OpSCSIResponse:
						var resp pdu.SCSIResponse
						good = resp.Decode(m.BHS) == nil && resp.Status == 0
					}
				}
				if !rejected || !good {
					t.Errorf("%d bytes at %d, TTT %#x: rejected %v, write good %v", len(data), offset, ttt, rejected, good)
				}
				r.c.Close()
			}
		}
	}
	s := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, s)
	res, err := s.Exec(t.Context(), 0, cdb10(read10, 0, n/512), nil, n)
	if err != nil || res.Status != 0 {
		t.Fatal(err, res)
	}
	for i, v := range res.Data {
		if v != byte(i>>9) {
			t.Fatalf("byte %d is %#x", i, v)
		}
	}
}

// Data that came unasked, in more or other ways than was negotiated (RFC 7143 §13.10,
// §13.11, §13.14): no GOOD, and what was on the disk stays.
func TestISERUnsolicited(t *testing.T) {
	_, _, addr := startISER(t)
	const n, tag = 8192, 0x6161
	no, yes := text.Pair{Key: "ImmediateData", Value: "No"}, text.Pair{Key: "ImmediateData", Value: "Yes"}
	burst := text.Pair{Key: "FirstBurstLength", Value: "4096"}
	for name, tt := range map[string]struct {
		pairs     []text.Pair
		immediate int
		cmd       pdu.SCSICommand
		out       int
	}{
		"although ImmediateData=No":           {[]text.Pair{no}, 4096, pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: n}, 0},
		"over FirstBurstLength":               {[]text.Pair{yes, burst}, n, pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: n}, 0},
		"over the expected length":            {[]text.Pair{yes}, n, pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 4096}, 0},
		"unsolicited although InitialR2T=Yes": {[]text.Pair{no}, 0, pdu.SCSICommand{Write: true, ExpectedDataTransferLength: n}, n},
		"with neither R nor W":                {[]text.Pair{yes}, 512, pdu.SCSICommand{Final: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := openRaw(t, addr)
			r.login(tt.pairs...)
			r.attentions()
			data, stag := r.mem(n, 0x55)
			old, oldTag := r.mem(n, 1)
			r.write(old, oldTag, 0)
			r.good()
			cdb := make([]byte, 6)
			if tt.cmd.Write {
				cdb = cdb10(write10, 0, n/512)
			}
			ih := iser.Header{}
			if tt.cmd.Write {
				ih = iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(data)}
			}
			tt.cmd.InitiatorTaskTag = tag
			r.command(ih, tt.cmd, cdb, nil, data[:tt.immediate])
			if tt.out > 0 {
				r.send(&pdu.DataOut{Final: true, InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag, DataLen: tt.out}, data[:tt.out])
			}
			for _, m := range r.outcome() {
				if m.BHS.Opcode() == pdu.OpSCSIResponse && m.BHS[3] == 0 && tt.cmd.Write {
					t.Error("GOOD")
				}
			}
			r.c.Close()
			r = openRaw(t, addr)
			r.login()
			r.attentions()
			back, backTag := r.mem(n, 7)
			r.read(back, backTag, 0)
			r.good()
			if !bytes.Equal(back, old) {
				t.Error("the disk has changed")
			}
		})
	}
}

// Connections cut at each stage leave nothing behind.
func TestISERTeardown(t *testing.T) {
	srv, _, addr := startISER(t)
	for range 20 {
		for stage := range 5 {
			r := openRaw(t, addr)
			if stage > 0 {
				r.login()
			}
			if stage > 1 {
				r.attentions()
				b, stag, err := r.c.Alloc(4 << 20)
				if err != nil {
					t.Fatal(err)
				}
				for range stage - 1 { // writes whose RDMA Reads are under way
					r.command(iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(b.B)},
						pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 4 << 20}, cdb10(write10, 0, 8192), nil, nil)
					r.command(iser.Header{RSV: true, ReadSTag: stag, ReadBase: addrOf(b.B)},
						pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 4 << 20}, cdb10(read10, 0, 8192), nil, nil)
				}
				if stage > 2 {
					r.poll(time.Millisecond)
				}
			}
			if err := r.c.Close(); err != nil && !errors.Is(err, rdma.ErrBroken) {
				t.Fatal(err)
			}
		}
	}
	quiet(t, srv)
}

// Nothing of a write lands after ABORT TASK was answered, although its RDMA Reads
// cannot be called back.
func TestISERAbort(t *testing.T) {
	srv, _, addr := startISER(t)
	const n = 4 << 20
	aborted := 0
	for i := range 30 {
		r := openRaw(t, addr)
		r.login()
		r.attentions()
		b, stag, err := r.c.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		for j := range b.B {
			b.B[j] = byte(i + 1)
		}
		const itt = 0x7777
		refCmdSN := r.cmdSN
		r.command(iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(b.B)},
			pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: n, InitiatorTaskTag: itt}, cdb10(write10, 0, n/512), nil, nil)
		for range i % 6 { // let some of it pass
			r.poll(time.Duration(i) * 10 * time.Microsecond)
		}
		p := pdu.TaskManagementRequest{
			Immediate: true, Function: pdu.AbortTask, InitiatorTaskTag: 0x8888,
			ReferencedTaskTag: itt, CmdSN: r.cmdSN, RefCmdSN: refCmdSN,
		}
		var h pdu.BHS
		p.Encode(&h)
		if err := r.c.SendPDU(&iser.Header{}, &h, nil, nil); err != nil {
			t.Fatal(err)
		}
		written := false
		for {
			m := r.next()
			if m.BHS.Opcode() == pdu.OpSCSIResponse {
				written = true
				continue
			}
			var resp pdu.TaskManagementResponse
			if err := resp.Decode(m.BHS); err != nil {
				t.Fatal(err)
			}
			break
		}
		if !written {
			aborted++
		}
		before := r.readByte(b.B, stag)
		if written != (before == byte(i+1)) {
			t.Errorf("round %d: written %v, but the disk has %d", i, written, before)
		}
		for j := range b.B {
			b.B[j] = 0xee
		}
		r.poll(20 * time.Millisecond)
		if after := r.readByte(b.B, stag); after != before {
			t.Errorf("round %d: %d became %d after the abort was answered", i, before, after)
		}
		r.c.Close()
	}
	t.Logf("%d of 30 writes were aborted", aborted)
	quiet(t, srv)
}

// Hello is answered when it was negotiated, and demanded then.
func TestISERHello(t *testing.T) {
	srv, _, addr := startISER(t)
	for _, sent := range []bool{true, false} {
		r := openRaw(t, addr)
		r.login(text.Pair{Key: "iSERHelloRequired", Value: "Yes"})
		if !sent {
			r.command(iser.Header{}, pdu.SCSICommand{Final: true}, make([]byte, 6), nil, nil)
			r.closed("no Hello")
			continue
		}
		b := make([]byte, iser.HeaderLen)
		(&iser.Hello{MaxVersion: 10, MinVersion: 10, IRD: 4}).Encode(b)
		if err := r.c.SendMessage(b); err != nil {
			t.Fatal(err)
		}
		for len(r.got) == 0 && r.err == nil {
			r.poll(time.Second)
		}
		var reply iser.HelloReply
		if len(r.got) == 0 || reply.Decode(r.got[0]) != nil || reply.Reject || reply.ORD != 4 || reply.Version != 10 {
			t.Fatalf("%v: %+v", r.err, reply)
		}
		r.got = nil
		r.attentions()
		r.c.Close()
	}
	quiet(t, srv)
}

package iscsi_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// TestRejects are the PDUs that are refused, and that a Reject carries the
// whole header, RFC 7143 §11.17.
func TestRejects(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(h *pdu.BHS)
		o    options
		data int
		want pdu.RejectReason
	}{
		{"SNACK", func(h *pdu.BHS) { h.SetOpcode(pdu.OpSNACK) }, options{}, 0, pdu.RejectSNACK},
		{"opcode of a target", func(h *pdu.BHS) { h.SetOpcode(pdu.OpSCSIResponse) }, options{}, 0, pdu.RejectCommandNotSupported},
		{"vendor opcode", func(h *pdu.BHS) { h.SetOpcode(0x1c) }, options{}, 0, pdu.RejectCommandNotSupported},
		{"command with the reserved tag", func(h *pdu.BHS) {
			h.SetOpcode(pdu.OpSCSICommand)
			h.SetInitiatorTaskTag(pdu.ReservedTag)
		}, options{}, 0, pdu.RejectInvalidPDUField},
		{"command without F that writes nothing", func(h *pdu.BHS) {
			h.SetOpcode(pdu.OpSCSICommand)
			h.SetFinal(false)
		}, options{}, 0, pdu.RejectInvalidPDUField},
		{"command in a discovery session", func(h *pdu.BHS) { h.SetOpcode(pdu.OpSCSICommand) }, options{discovery: true}, 0, pdu.RejectCommandNotSupported},
		{"command with data in a discovery session", func(h *pdu.BHS) {
			h.SetOpcode(pdu.OpSCSICommand)
			h[1] |= 0x20
		}, options{discovery: true}, 8192, pdu.RejectCommandNotSupported},
		{"task management in a discovery session", func(h *pdu.BHS) {
			h.SetOpcode(pdu.OpTaskManagementRequest)
			h[1] |= byte(pdu.LogicalUnitReset)
		}, options{discovery: true}, 0, pdu.RejectCommandNotSupported},
		{"logout with a reserved reason", func(h *pdu.BHS) {
			h.SetOpcode(pdu.OpLogoutRequest)
			h[1] = 0x80 | 99
		}, options{}, 0, pdu.RejectInvalidPDUField},
	} {
		for _, placed := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				tt.o.mapped = true
				r := newRig(t, tt.o)
				r.take()
				var h pdu.BHS
				h.SetFinal(true)
				h.SetImmediate(true)
				h.SetInitiatorTaskTag(33)
				h.SetTargetTransferTag(pdu.ReservedTag)
				h.SetCmdSN(r.cmdSN)
				tt.set(&h)
				h.SetDataSegmentLength(tt.data)
				r.receiveBHS(&h, make([]byte, tt.data), placed, nil)
				if r.err != nil {
					t.Fatal(r.err)
				}
				o := r.rejected(tt.want)
				if !bytes.Equal(o.data, h[:]) {
					t.Errorf("the Reject carries % x, want % x", o.data, h)
				}
				if !o.bhs.Final() || o.bhs.InitiatorTaskTag() != pdu.ReservedTag {
					t.Errorf("Reject % x", o.bhs)
				}
			})
		}
	}
}

// TestStatSN: answers use up a StatSN each, R2T and NOP-In pings do not, and
// the numbers wrap, RFC 7143 §4.2.2.2.
func TestStatSN(t *testing.T) {
	r := newRig(t, options{mapped: true})
	r.c.SetStatSN(0xfffffffe)
	sn := uint32(0xfffffffe)
	next := func(what string, o out) {
		t.Helper()
		if o.bhs.StatSN() != sn {
			t.Errorf("%s: StatSN %#x, want %#x", what, o.bhs.StatSN(), sn)
		}
		sn++
	}
	same := func(what string, o out) {
		t.Helper()
		next(what, o)
		sn--
	}
	r.command(command{cdb: make([]byte, 6)})
	next("response", r.take()[0])
	r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
	next("Data-In with status", r.take()[0])
	if !r.c.Ping() {
		t.Fatal("no ping")
	}
	same("ping", r.one(pdu.OpNOPIn))
	r.receive(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: 8, TargetTransferTag: pdu.ReservedTag, CmdSN: r.cmdSN}, nil, false, nil)
	next("NOP-In", r.one(pdu.OpNOPIn))
	r.tmf(pdu.AbortTaskSet, pdu.ReservedTag, 0)
	next("TMF response", r.take()[0])
	r.receive(&pdu.SNACK{}, nil, false, nil)
	next("Reject", r.one(pdu.OpReject))
	r.receive(&pdu.TextRequest{Immediate: true, Final: true, InitiatorTaskTag: 9, TargetTransferTag: pdu.ReservedTag, CmdSN: r.cmdSN}, nil, false, nil)
	next("Text Response", r.one(pdu.OpTextResponse))
	if !r.c.RequestLogout(3) {
		t.Fatal("no request")
	}
	o := r.one(pdu.OpAsyncMessage)
	var a pdu.AsyncMessage
	if err := a.Decode(&o.bhs); err != nil || a.Event != pdu.AsyncLogoutRequest || a.Parameter3 != 3 {
		t.Errorf("%+v, %v", a, err)
	}
	next("Async Message", o)
	r.receive(&pdu.LogoutRequest{Immediate: true, InitiatorTaskTag: 10, CmdSN: r.cmdSN}, nil, false, nil)
	next("Logout Response", r.one(pdu.OpLogoutResponse))
}

// TestNOP is RFC 7143 §11.18 and §11.19.
func TestNOP(t *testing.T) {
	r := newRig(t, options{mapped: true, keys: []string{"MaxRecvDataSegmentLength=512"}})
	nop := func(p pdu.NOPOut, n int) {
		t.Helper()
		p.CmdSN = r.cmdSN
		if !p.Immediate {
			r.cmdSN++
		}
		r.receive(&p, pattern(n, 1), false, nil)
	}
	for _, immediate := range []bool{true, false} {
		for _, n := range []int{0, 1, 511, 512, 513, 4096} {
			nop(pdu.NOPOut{Immediate: immediate, LUN: 3, InitiatorTaskTag: 44, TargetTransferTag: pdu.ReservedTag}, n)
			o := r.one(pdu.OpNOPIn)
			var p pdu.NOPIn
			if err := p.Decode(&o.bhs); err != nil || p.InitiatorTaskTag != 44 || p.TargetTransferTag != pdu.ReservedTag ||
				p.ExpCmdSN != r.cmdSN || !bytes.Equal(o.data, pattern(min(n, 512), 1)) {
				t.Errorf("immediate %v, %d bytes: %+v, %d bytes", immediate, n, p, len(o.data))
			}
		}
	}
	nop(pdu.NOPOut{Immediate: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: pdu.ReservedTag}, 0)
	nop(pdu.NOPOut{InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: pdu.ReservedTag}, 0) // counts all the same
	r.nothing()
	r.good(r.command(command{cdb: make([]byte, 6)}))
}

// TestPing is the target's own NOP-In.
func TestPing(t *testing.T) {
	r := newRig(t, options{mapped: true})
	var last uint32
	for range 3 {
		if r.c.PingOpen() || !r.c.Ping() || !r.c.PingOpen() || r.c.Ping() {
			t.Fatal("a ping is answered before it was, or there are two at once")
		}
		o := r.one(pdu.OpNOPIn)
		var p pdu.NOPIn
		if err := p.Decode(&o.bhs); err != nil || p.InitiatorTaskTag != pdu.ReservedTag || p.TargetTransferTag == pdu.ReservedTag || p.TargetTransferTag == last {
			t.Fatalf("%+v, %v", p, err)
		}
		last = p.TargetTransferTag
		r.receive(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: last + 1, CmdSN: r.cmdSN}, nil, false, nil)
		if !r.c.PingOpen() {
			t.Error("answered by another tag")
		}
		r.receive(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: last, CmdSN: r.cmdSN}, nil, false, nil)
		r.nothing()
	}
	r.c.Close()
	if !r.c.Ping() || len(r.sent) > 0 {
		t.Error("a closed connection pings")
	}
}

// TestLogout is RFC 7143 §11.14 for all reasons.
func TestLogout(t *testing.T) {
	for _, tt := range []struct {
		name   string
		reason pdu.LogoutReason
		cid    uint16
		want   pdu.LogoutResponseCode
		over   bool
	}{
		{"session", pdu.LogoutCloseSession, 9, pdu.LogoutSuccess, true},
		{"connection", pdu.LogoutCloseConnection, 0, pdu.LogoutSuccess, true},
		{"another connection", pdu.LogoutCloseConnection, 9, pdu.LogoutCIDNotFound, false},
		{"for recovery", pdu.LogoutRemoveConnectionRecovery, 0, pdu.LogoutRecoveryNotSupported, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, options{})
			r.store.hang()
			r.command(command{cdb: write10(0, 1), write: true, edtl: blk, data: pattern(blk, 1)})
			r.command(command{cdb: write10(10, 2), write: true, edtl: 2 * blk})
			r.inBackend(1)
			r.receive(&pdu.LogoutRequest{Immediate: true, Reason: tt.reason, CID: tt.cid, InitiatorTaskTag: 5, CmdSN: r.cmdSN}, nil, false, nil)
			o := r.one(pdu.OpLogoutResponse)
			var p pdu.LogoutResponse
			if err := p.Decode(&o.bhs); err != nil || p.Response != tt.want || p.InitiatorTaskTag != 5 || p.Time2Wait != 2 {
				t.Fatalf("%+v, %v", p, err)
			}
			if got := errors.Is(r.err, iscsi.ErrLoggedOut); got != tt.over || len(r.reasons) > 0 != tt.over {
				t.Fatalf("%v, reasons %v", r.err, r.reasons)
			}
			r.store.release()
			r.completed()
			if tt.over {
				r.receive(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: 6, TargetTransferTag: pdu.ReservedTag}, nil, false, nil)
				r.nothing()
				if r.c.Outstanding() != 0 || r.c.RequestLogout(1) || r.c.Ping() == false {
					t.Errorf("%d tasks after the logout", r.c.Outstanding())
				}
			}
		})
	}
}

// TestLoginPhase: what comes in the wrong phase ends the connection.
func TestLoginPhase(t *testing.T) {
	r := newRig(t, options{mapped: true})
	r.receive(&pdu.LoginRequest{Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase}, nil, false, nil)
	if r.err == nil {
		t.Error("a Login Request was taken in the full feature phase")
	}
	if err := r.c.Admitted(r.s); err == nil {
		t.Error("admitted twice")
	}
	if err := r.c.Refused(nil); err == nil {
		t.Error("refused after the login")
	}
}

// TestExtendedCDB runs a command whose CDB does not fit the header, §11.2.2.3.
func TestExtendedCDB(t *testing.T) {
	r := newRig(t, options{mapped: true})
	send := func(ahs []byte) {
		r.tag++
		p := pdu.SCSICommand{Final: true, InitiatorTaskTag: r.tag, CmdSN: r.cmdSN}
		r.cmdSN++
		p.CDB[0] = 0x7f
		var h pdu.BHS
		p.Encode(&h)
		h.SetTotalAHSLength(len(ahs))
		r.err = r.c.Receive(&h, ahs, nil)
	}
	cdb := make([]byte, 32)
	cdb[0], cdb[7] = 0x7f, 24
	ahs, err := pdu.AppendExtendedCDB(nil, cdb)
	if err != nil {
		t.Fatal(err)
	}
	send(ahs)
	r.check(r.tag, 5, scsi.InvalidOperationCode)
	send([]byte{0xff, 0xff, 1, 0}) // longer than it is
	r.check(r.tag, 5, 0x0e03)
	send([]byte{0, 1, 63, 0})
	r.check(r.tag, 5, scsi.InvalidOperationCode)
}

// TestContention: a command that meets a lock of this connection's own answers
// has them flushed first.
func TestContention(t *testing.T) {
	r := newRig(t, options{mapped: true})
	r.keepPut = true
	r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
	r.onFlush = func() {
		for _, task := range r.putting {
			task.Detach()
		}
	}
	r.take()
	r.good(r.command(command{cdb: write10(0, 1), write: true, edtl: blk, data: pattern(blk, 9)}))
	if r.flushes != 1 {
		t.Errorf("%d flushes", r.flushes)
	}
	// What was detached is still the old data, and is the task's own.
	if got := r.putting[0].DataIn(); !bytes.Equal(got, make([]byte, blk)) {
		t.Error("the detached data has changed")
	}
	if r.putting[0].Detach(); r.pool.InUse() != 4096 {
		t.Errorf("%d bytes in use", r.pool.InUse())
	}
}

// TestDetachWithoutPool: data leaves the unit's memory whatever the pool says.
func TestDetachWithoutPool(t *testing.T) {
	r := newRig(t, options{mapped: true, pool: 1})
	copy(r.store.mem, pattern(blk, 4))
	r.keepPut = true
	r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
	if got := r.putting[0].Detach(); !bytes.Equal(got, pattern(blk, 4)) {
		t.Error("other data")
	}
}

// TestRemap: a changed LUN map shows at once, and nexuses that stay are kept.
func TestRemap(t *testing.T) {
	r := newRig(t, options{mapped: true})
	other := scsi.NewPort()
	var fresh []uint16
	remap := func(top int, ports ...*scsi.Port) {
		r.s.Remap(func(l uint16) *scsi.Port { return ports[l] }, top, func(_ *scsi.Nexus, l uint16) { fresh = append(fresh, l) })
	}
	remap(2, r.port, nil, other)
	if diff := cmp.Diff([]uint16{0, 2}, r.s.LUNs().Inventory()); diff != "" || r.s.NexusOf(r.port) != r.nexus || r.s.NexusOf(other) == nil {
		t.Error("LUN map:", diff)
	}
	if diff := cmp.Diff([]uint16{2}, fresh); diff != "" {
		t.Error(diff)
	}
	// A port without a unit is BUSY.
	tag := r.command(command{cdb: make([]byte, 6), lun: pdu.LUNOf(2)})
	if p, _ := r.response(tag); p.Status != uint8(scsi.Busy) {
		t.Errorf("status %#x", p.Status)
	}
	remap(0, r.port)
	r.check(r.command(command{cdb: make([]byte, 6), lun: pdu.LUNOf(2)}), 5, 0x2500)
	r.good(r.command(command{cdb: make([]byte, 6)}))
	r.s.DetachAll()
	r.s.DetachAll()
	r.check(r.command(command{cdb: make([]byte, 6)}), 5, 0x2500)
}

// TestAllocations: reads and writes that run inline allocate nothing.
func TestAllocations(t *testing.T) {
	r := newRig(t, options{mapped: true})
	dm := &countingDatamover{}
	r.c.SetDatamover(dm)
	dm.c = r.c
	var rd, wr pdu.BHS
	p := pdu.SCSICommand{Final: true, Read: true, InitiatorTaskTag: 1, ExpectedDataTransferLength: 8 * blk}
	copy(p.CDB[:], read10(0, 8))
	p.Encode(&rd)
	p = pdu.SCSICommand{Final: true, Write: true, InitiatorTaskTag: 1, ExpectedDataTransferLength: 8 * blk, DataLen: 8 * blk}
	copy(p.CDB[:], write10(0, 8))
	p.Encode(&wr)
	data := pattern(8*blk, 1)
	n := testing.AllocsPerRun(1000, func() {
		rd.SetCmdSN(r.cmdSN)
		wr.SetCmdSN(r.cmdSN + 1)
		r.cmdSN += 2
		if err := errors.Join(r.c.Receive(&rd, nil, nil), r.c.Receive(&wr, nil, data)); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 || dm.puts < 1000 || dm.controls < 1000 {
		t.Errorf("%v allocations; %d reads, %d writes", n, dm.puts, dm.controls)
	}
}

// countingDatamover sends nothing.
type countingDatamover struct {
	iscsi.Datamover
	c              *iscsi.Conn
	puts, controls int
}

func (d *countingDatamover) SendControl(*pdu.BHS, []byte) { d.controls++ }

func (d *countingDatamover) PutData(t *iscsi.Task) {
	d.puts++
	d.c.NextStatSN()
	t.DataDone()
}

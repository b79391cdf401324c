package iscsi_test

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const unitSize = 1 << 20

// store is a backend in memory. Mapped, it runs everything inline; else
// every command goes to a worker, and waits there while gate is closed.
type store struct {
	mem    []byte
	mapped bool

	mu   sync.Mutex
	gate chan struct{} // nil: open
	in   int           // calls that wait at the gate
}

func (s *store) As(target any) bool {
	if m, ok := target.(*luns.Mapper); ok && s.mapped {
		*m = s
		return true
	}
	return false
}

func (s *store) Info() luns.Info             { return luns.Info{Size: unitSize, BlockSize: 1} }
func (s *store) Close() error                { return nil }
func (s *store) Memory() []byte              { return s.mem }
func (s *store) Flush(context.Context) error { s.pass(); return nil }

func (s *store) pass() {
	s.mu.Lock()
	g := s.gate
	s.in++
	s.mu.Unlock()
	if g != nil {
		<-g
	}
	s.mu.Lock()
	s.in--
	s.mu.Unlock()
}

func (s *store) ReadAt(_ context.Context, p []byte, off int64) error {
	s.pass()
	copy(p, s.mem[off:])
	return nil
}

func (s *store) WriteAt(_ context.Context, p []byte, off int64, _ luns.Flags) error {
	s.pass()
	copy(s.mem[off:], p)
	return nil
}

func (s *store) hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = make(chan struct{})
}

func (s *store) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != nil {
		close(s.gate)
		s.gate = nil
	}
}

func (s *store) hanging() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in
}

// out is a PDU that the connection has sent, or a task whose data it has put.
type out struct {
	bhs  pdu.BHS
	data []byte
	// A PutData: GOOD with data.
	put                 *iscsi.Task
	overflow, underflow bool
	residual            uint32
}

// rig is a connection in the full feature phase over a fake datamover, with
// one logical unit at LUN 0.
type rig struct {
	t       testing.TB
	c       *iscsi.Conn
	s       *iscsi.Session
	pool    *bufpool.Pool
	port    *scsi.Port
	unit    *scsi.Unit
	store   *store
	nexus   *scsi.Nexus
	targets []iscsi.TargetRecord

	keepPut bool // PutData keeps the task, as a socket that is full does
	sent    []out
	putting []*iscsi.Task
	getting []*iscsi.Task
	managed []*iscsi.Management
	limited []*iscsi.Management
	reasons []pdu.LogoutReason
	flushes int
	onFlush func()
	wake    chan struct{}
	err     error // of the last PDU

	cmdSN uint32
	tag   uint32
}

// options of a rig.
type options struct {
	mapped    bool
	discovery bool
	depth     int // 0: 8
	pool      int64
	workers   int
	cmdSN     uint32
	keys      []string // key=value of the login
}

func newRig(t testing.TB, o options) *rig {
	t.Helper()
	if o.depth == 0 {
		o.depth = 8
	}
	if o.pool == 0 {
		o.pool = 64 << 20
	}
	if o.workers == 0 {
		o.workers = 1
	}
	r := &rig{
		t: t, pool: bufpool.New(o.pool), port: scsi.NewPort(), wake: make(chan struct{}, 1),
		store: &store{mem: make([]byte, unitSize), mapped: o.mapped}, cmdSN: o.cmdSN, tag: 100,
	}
	u, err := scsi.NewUnit(scsi.Config{Serial: "1", Workers: o.workers}, r.store)
	if err != nil {
		t.Fatal(err)
	}
	r.unit = u
	r.port.Publish(u)
	r.port.Fault = func(v any, stack []byte) { t.Errorf("panic in a command: %v\n%s", v, stack) }
	machine := login.NewMachine(policy{}, login.Env{})
	r.c = iscsi.NewConn(iscsi.Options{Datamover: r, Env: r, Pool: r.pool, Login: machine})
	r.s = iscsi.NewSession(o.depth)
	r.s.Discovery = o.discovery
	r.s.TSIH = 7
	r.logIn(&o)
	t.Cleanup(r.end)
	return r
}

type policy struct{}

func (policy) Authorize(login.Identity) (*login.Grant, error) {
	return &login.Grant{Limits: login.DefaultLimits(), PortalGroupTag: 1}, nil
}

func (r *rig) logIn(o *options) {
	r.t.Helper()
	var data []byte
	data = text.Append(data, "InitiatorName", "iqn.2026-11.com.example:i")
	if o.discovery {
		data = text.Append(data, "SessionType", "Discovery")
	} else {
		data = text.Append(data, "TargetName", "iqn.2026-11.com.example:t")
	}
	for _, kv := range o.keys {
		data = append(append(data, kv...), 0)
	}
	req := pdu.LoginRequest{
		Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase, InitiatorTaskTag: 1,
		CmdSN: r.cmdSN, DataLen: len(data),
	}
	var h pdu.BHS
	req.Encode(&h)
	if err := r.c.Receive(&h, nil, data); err != nil || !r.c.LoggedIn() {
		r.t.Fatalf("login: %v, %v", err, r.c.Refusal())
	}
	if o.discovery {
		return
	}
	if r.nexus = r.s.NexusOf(r.port); r.nexus == nil {
		r.t.Fatal("no nexus")
	}
	r.sent = nil
	for r.nexus.Pending() {
		r.command(command{cdb: make([]byte, 6)})
	}
	r.sent = nil
}

// end closes everything and checks that nothing is left: no buffer, no lock.
func (r *rig) end() {
	r.c.Close()
	for _, t := range r.putting {
		t.DataDone()
	}
	r.store.release()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.port.Revoke(ctx); err != nil {
		r.t.Errorf("commands still hold the unit: %v", err)
	}
	r.unit.Close()
	for i := 0; r.pool.InUse() != 0; i++ {
		if i == 1000 {
			r.t.Errorf("%d bytes of buffers in use after the end", r.pool.InUse())
			return
		}
		time.Sleep(time.Millisecond) // workers give back after the unit is left
	}
}

// Datamover.

func (r *rig) SendControl(h *pdu.BHS, data []byte) {
	r.sent = append(r.sent, out{bhs: *h, data: append([]byte(nil), data...)})
}

func (r *rig) PutData(t *iscsi.Task) {
	o := out{put: t, data: append([]byte(nil), t.DataIn()...)}
	d := pdu.DataIn{
		Final: true, HasStatus: true, Status: uint8(t.Status), InitiatorTaskTag: t.InitiatorTaskTag,
		TargetTransferTag: pdu.ReservedTag, StatSN: r.c.NextStatSN(), DataLen: len(o.data),
	}
	o.overflow, o.underflow, o.residual = t.Residual()
	d.Overflow, d.Underflow, d.ResidualCount = o.overflow, o.underflow, o.residual
	d.Encode(&o.bhs)
	r.c.StampWindow(&o.bhs)
	r.sent = append(r.sent, o)
	if r.keepPut {
		r.putting = append(r.putting, t)
		return
	}
	t.DataDone()
}

func (r *rig) GetData(t *iscsi.Task) { r.getting = append(r.getting, t) }

func (r *rig) Forget(t *iscsi.Task) {
	for i, g := range r.getting {
		if g == t {
			r.getting = append(r.getting[:i], r.getting[i+1:]...)
			return
		}
	}
	r.t.Error("Forget of a task that no data was asked for")
}

func (r *rig) EnableDatamover(*login.Params) {}

func (r *rig) Flush() {
	r.flushes++
	if r.onFlush != nil {
		r.onFlush()
	}
}

// Env.

func (r *rig) LoginFailed(*login.Refusal) {}

func (r *rig) Admit(res login.Result) {
	r.s.Identity = res.Identity
	if !r.s.Discovery {
		r.s.ProtocolLevel = res.Params.ISCSIProtocolLevel
		r.s.Nexus = &scsi.ITNexus{InitiatorName: res.Identity.InitiatorName}
		r.s.Remap(func(lun uint16) *scsi.Port { return r.port }, 0, func(*scsi.Nexus, uint16) {})
	}
	if err := r.c.Admitted(r.s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) SendTargets(_ *iscsi.Session, which string) []iscsi.TargetRecord {
	if which == "All" || which == "" {
		return r.targets
	}
	for _, t := range r.targets {
		if t.Name == which {
			return []iscsi.TargetRecord{t}
		}
	}
	return nil
}

func (r *rig) Manage(m *iscsi.Management) { r.managed = append(r.managed, m) }
func (r *rig) Limit(m *iscsi.Management)  { r.limited = append(r.limited, m) }

func (r *rig) LoggedOut(reason pdu.LogoutReason) { r.reasons = append(r.reasons, reason) }

func (r *rig) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// completed waits for a worker and has its commands answered.
func (r *rig) completed() {
	r.t.Helper()
	select {
	case <-r.wake:
		r.c.Completed()
	case <-time.After(10 * time.Second):
		r.t.Fatal("no command completes")
	}
}

// inBackend waits until n commands hang.
func (r *rig) inBackend(n int) {
	r.t.Helper()
	for i := 0; r.store.hanging() != n; i++ {
		if i == 10000 {
			r.t.Fatalf("%d commands in the backend, want %d", r.store.hanging(), n)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// Initiator.

// command describes a SCSI Command PDU.
type command struct {
	cdb        []byte
	edtl       uint32
	read       bool
	write      bool
	data       []byte
	open       bool // F bit clear: unsolicited Data-Out follows
	immediate  bool
	cmdSN      *uint32 // nil: the next one
	tag        uint32  // 0: the next one
	lun        pdu.LUN
	placed     bool // over Begin, in two pieces
	beforeData func()
}

// command sends a SCSI Command and returns its tag.
func (r *rig) command(c command) uint32 {
	r.t.Helper()
	if c.tag == 0 {
		r.tag++
		c.tag = r.tag
	}
	p := pdu.SCSICommand{
		Immediate: c.immediate, Final: !c.open, Read: c.read, Write: c.write, Attr: pdu.AttrSimple, LUN: c.lun,
		InitiatorTaskTag: c.tag, ExpectedDataTransferLength: c.edtl, CmdSN: r.cmdSN, DataLen: len(c.data),
	}
	switch {
	case c.cmdSN != nil:
		p.CmdSN = *c.cmdSN
	case !c.immediate:
		r.cmdSN++
	}
	copy(p.CDB[:], c.cdb)
	r.receive(&p, c.data, c.placed, c.beforeData)
	return c.tag
}

type message interface{ Encode(h *pdu.BHS) }

// receive gives a PDU to the connection: whole, or, placed, as a datamover does
// that puts the data segment where it belongs.
func (r *rig) receive(m message, data []byte, placed bool, before func()) {
	r.t.Helper()
	var h pdu.BHS
	m.Encode(&h)
	h.SetDataSegmentLength(len(data))
	r.receiveBHS(&h, data, placed, before)
}

func (r *rig) receiveBHS(h *pdu.BHS, data []byte, placed bool, before func()) {
	r.t.Helper()
	solicited := h.Opcode() == pdu.OpDataOut && h.TargetTransferTag() != pdu.ReservedTag
	if placed && len(data) > 0 && !solicited {
		dst, err := r.c.Begin(h, nil)
		if err != nil {
			r.t.Fatal("Begin:", err)
		}
		switch {
		case dst != nil && len(dst) != len(data):
			r.t.Fatalf("Begin gave %d bytes for %d", len(dst), len(data))
		case dst == nil:
			dst = make([]byte, len(data))
		}
		copy(dst, data)
		data = dst
		if before != nil {
			before()
		}
	}
	r.err = r.c.Receive(h, nil, data)
}

// dataOut sends an unsolicited Data-Out PDU.
func (r *rig) dataOut(tag uint32, sn, off int, data []byte, final, placed bool) {
	r.t.Helper()
	r.receive(&pdu.DataOut{
		Final: final, InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag,
		DataSN: uint32(sn), BufferOffset: uint32(off), DataLen: len(data),
	}, data, placed, nil)
}

// solicited answers what GetData has asked for t, in pieces of n bytes.
func (r *rig) solicited(t *iscsi.Task, data []byte, n int) {
	r.t.Helper()
	for t.Received() < t.Expected() {
		off := t.Received()
		piece := data[off:min(off+n, t.Expected())]
		copy(t.Place(off, len(piece)), piece)
		if off+len(piece) == t.Expected() {
			r.getting = r.getting[1:]
			t.Arrived(len(piece))
			return
		}
		t.Arrived(len(piece))
	}
}

func (r *rig) tmf(fn pdu.TMFunction, ref, refCmdSN uint32) uint32 {
	r.t.Helper()
	r.tag++
	r.receive(&pdu.TaskManagementRequest{
		Immediate: true, Function: fn, InitiatorTaskTag: r.tag, ReferencedTaskTag: ref, CmdSN: r.cmdSN, RefCmdSN: refCmdSN,
	}, nil, false, nil)
	return r.tag
}

// take returns what was sent since the last call.
func (r *rig) take() []out {
	s := r.sent
	r.sent = nil
	return s
}

// one returns the only PDU sent since the last call.
func (r *rig) one(op pdu.Opcode) out {
	r.t.Helper()
	s := r.take()
	if len(s) != 1 || s[0].bhs.Opcode() != op {
		r.t.Fatalf("sent %v, want one %v", names(s), op)
	}
	return s[0]
}

// nothing checks that nothing was sent.
func (r *rig) nothing() {
	r.t.Helper()
	if s := r.take(); len(s) > 0 {
		r.t.Fatalf("sent %v, want nothing", names(s))
	}
}

func names(s []out) (n []string) {
	for i := range s {
		n = append(n, s[i].bhs.String())
	}
	return n
}

// response checks that the command with tag was answered by a SCSI Response
// and returns it with its sense data.
func (r *rig) response(tag uint32) (pdu.SCSIResponse, []byte) {
	r.t.Helper()
	o := r.one(pdu.OpSCSIResponse)
	var p pdu.SCSIResponse
	if err := p.Decode(&o.bhs); err != nil {
		r.t.Fatal(err)
	}
	if p.InitiatorTaskTag != tag {
		r.t.Fatalf("answer to tag %d, want %d", p.InitiatorTaskTag, tag)
	}
	if len(o.data) == 0 {
		return p, nil
	}
	if n := int(binary.BigEndian.Uint16(o.data)); n != len(o.data)-2 {
		r.t.Fatalf("SenseLength %d in a data segment of %d bytes", n, len(o.data))
	}
	return p, o.data[2:]
}

// good checks that the command with tag has ended GOOD.
func (r *rig) good(tag uint32) pdu.SCSIResponse {
	r.t.Helper()
	p, sense := r.response(tag)
	if p.Status != 0 || p.Response != pdu.ResponseCompleted {
		r.t.Fatalf("status %#x, sense % x", p.Status, sense)
	}
	return p
}

// check checks that the command with tag has ended with CHECK CONDITION.
func (r *rig) check(tag uint32, key byte, asc scsi.ASC) pdu.SCSIResponse {
	r.t.Helper()
	p, sense := r.response(tag)
	if p.Status != uint8(scsi.CheckCondition) || len(sense) < 14 {
		r.t.Fatalf("status %#x, sense % x; want CHECK CONDITION", p.Status, sense)
	}
	if got := binary.BigEndian.Uint16(sense[12:]); sense[2]&15 != key || scsi.ASC(got) != asc {
		r.t.Fatalf("sense %x/%04x, want %x/%v", sense[2]&15, got, key, asc)
	}
	return p
}

func (r *rig) tmResponse(tag uint32) pdu.TMResponse {
	r.t.Helper()
	o := r.one(pdu.OpTaskManagementResponse)
	var p pdu.TaskManagementResponse
	if err := p.Decode(&o.bhs); err != nil || p.InitiatorTaskTag != tag {
		r.t.Fatalf("%+v, %v; want tag %d", p, err, tag)
	}
	return p.Response
}

// rejected checks that a PDU was rejected: the only one sent.
func (r *rig) rejected(why pdu.RejectReason) out {
	r.t.Helper()
	o := r.one(pdu.OpReject)
	var p pdu.Reject
	if err := p.Decode(&o.bhs); err != nil || p.Reason != why {
		r.t.Fatalf("%+v, %v; want %v", p, err, why)
	}
	return o
}

const blk = 512

func write10(lba, blocks int) []byte {
	return []byte{0x2a, 0, 0, 0, byte(lba >> 8), byte(lba), 0, byte(blocks >> 8), byte(blocks), 0}
}

func read10(lba, blocks int) []byte {
	c := write10(lba, blocks)
	c[0] = 0x28
	return c
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*7 + byte(i>>8) + seed
	}
	return b
}

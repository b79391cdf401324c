package iserd_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// raw is a connection without an initiator above it.
type raw struct {
	t     *testing.T
	c     *rdma.Conn
	cmdSN uint32
	got   [][]byte
	inv   []bool
	err   error
}

func openRaw(t *testing.T, addr netip.AddrPort) *raw { return openRawWith(t, addr, rdma.Options{}) }

func openRawWith(t *testing.T, addr netip.AddrPort, o rdma.Options) *raw {
	t.Helper()
	c, err := rdma.Open(t.Context(), softiwarp.New(softiwarp.Config{}), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, c: c, cmdSN: 1}
	t.Cleanup(func() { c.Close() })
	return r
}

// poll takes what comes within d.
func (r *raw) poll(d time.Duration) {
	if r.err != nil {
		return
	}
	r.err = r.c.Poll(d, true, func(m rdma.Message) error {
		r.got = append(r.got, append([]byte(nil), m.Data...))
		r.inv = append(r.inv, m.Invalidated)
		return nil
	})
}

// next returns the next message.
func (r *raw) next() *iser.Message {
	r.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); len(r.got) == 0; r.poll(100 * time.Millisecond) {
		if r.err != nil || time.Now().After(deadline) {
			r.t.Fatalf("no message: %v", r.err)
		}
	}
	var m iser.Message
	if err := m.Decode(r.got[0]); err != nil {
		r.t.Fatal(err)
	}
	r.got = r.got[1:]
	return &m
}

// closed waits for the end of the connection.
func (r *raw) closed(what string) {
	r.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); r.err == nil; r.poll(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Errorf("%s: the connection is still there", what)
			return
		}
	}
}

// login goes to the full feature phase, and returns what the target answers.
func (r *raw) login(pairs ...text.Pair) []text.Pair {
	r.t.Helper()
	if err := r.c.PostRecvs(64, rdma.Recv); err != nil {
		r.t.Fatal(err)
	}
	return r.loginAs(initiator.RandomISID(), pairs...)
}

// loginAs is login of one ISID; the receives are posted already.
func (r *raw) loginAs(isid pdu.ISID, pairs ...text.Pair) []text.Pair {
	r.t.Helper()
	var data []byte
	for _, p := range append([]text.Pair{
		{Key: "InitiatorName", Value: initiator.DefaultInitiatorName},
		{Key: "TargetName", Value: testTarget},
		{Key: "SessionType", Value: "Normal"},
	}, append(rdma.Keys(), pairs...)...) {
		data = text.Append(data, p.Key, p.Value)
	}
	q := pdu.LoginRequest{
		Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase,
		ISID: isid, InitiatorTaskTag: 1, CmdSN: r.cmdSN, DataLen: len(data),
	}
	var h pdu.BHS
	q.Encode(&h)
	if err := r.c.SendPDU(&iser.Header{}, &h, nil, data); err != nil {
		r.t.Fatal(err)
	}
	var resp pdu.LoginResponse
	m := r.next()
	if err := resp.Decode(m.BHS); err != nil || resp.Status != 0 || resp.NSG != pdu.FullFeaturePhase || !resp.Transit {
		r.t.Fatalf("login: %v, %+v, %q", err, resp, m.Data)
	}
	got, err := text.Parse(m.Data)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// send sends a PDU.
func (r *raw) send(m interface{ Encode(h *pdu.BHS) }, data []byte) {
	r.t.Helper()
	var h pdu.BHS
	m.Encode(&h)
	if err := r.c.SendPDU(&iser.Header{}, &h, nil, data); err != nil {
		r.t.Fatal(err)
	}
}

// ping sends a NOP-Out with data and returns the answer.
func (r *raw) ping(tag uint32, data []byte) *iser.Message {
	r.t.Helper()
	r.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag, CmdSN: r.cmdSN, DataLen: len(data)}, data)
	return r.next()
}

// outcome sends a NOP-Out and returns what comes before its answer, or before the
// end of the connection.
func (r *raw) outcome() []*iser.Message {
	r.t.Helper()
	const tag = 0x7e577e57
	r.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag, CmdSN: r.cmdSN}, nil)
	var all []*iser.Message
	for {
		for deadline := time.Now().Add(5 * time.Second); len(r.got) == 0 && r.err == nil; r.poll(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				r.t.Fatal("neither an answer nor the end of the connection")
			}
		}
		if len(r.got) == 0 {
			return all
		}
		m := r.next()
		if m.BHS.InitiatorTaskTag() == tag {
			return all
		}
		all = append(all, m)
	}
}

// mem returns registered memory, filled from seed, and its steering tag.
func (r *raw) mem(n int, seed byte) ([]byte, uint32) {
	r.t.Helper()
	b, stag, err := r.c.Alloc(n)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range b.B {
		b.B[i] = byte(i)*3 + byte(i>>9) + seed
	}
	return b.B, stag
}

// write writes all of mem by RDMA from block lba on.
func (r *raw) write(mem []byte, stag, lba uint32) {
	r.t.Helper()
	r.command(iser.Header{WSV: true, WriteSTag: stag, WriteBase: addrOf(mem)},
		pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: uint32(len(mem))}, cdb10(write10, lba, uint16(len(mem)/512)), nil, nil)
}

// read reads into all of mem by RDMA from block lba on.
func (r *raw) read(mem []byte, stag, lba uint32) {
	r.t.Helper()
	r.command(iser.Header{RSV: true, ReadSTag: stag, ReadBase: addrOf(mem)},
		pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: uint32(len(mem))}, cdb10(read10, lba, uint16(len(mem)/512)), nil, nil)
}

// good waits for status GOOD.
func (r *raw) good() {
	r.t.Helper()
	if resp := r.response(); resp.Status != 0 {
		r.t.Fatalf("%+v", resp)
	}
}

// command sends a SCSI command.
func (r *raw) command(ih iser.Header, c pdu.SCSICommand, cdb []byte, ahs, data []byte) {
	r.t.Helper()
	c.CmdSN, c.DataLen = r.cmdSN, len(data)
	r.cmdSN++
	copy(c.CDB[:], cdb)
	if c.InitiatorTaskTag == 0 {
		c.InitiatorTaskTag = 0x100 + r.cmdSN
	}
	var h pdu.BHS
	c.Encode(&h)
	if err := r.c.SendPDU(&ih, &h, ahs, data); err != nil {
		r.t.Fatal(err)
	}
}

// response waits for a SCSI Response.
func (r *raw) response() pdu.SCSIResponse {
	r.t.Helper()
	m := r.next()
	var resp pdu.SCSIResponse
	if err := resp.Decode(m.BHS); err != nil {
		r.t.Fatalf("%v %v: %v", m.BHS.Opcode(), m.BHS, err)
	}
	return resp
}

// attentions takes the unit attentions of a new session.
func (r *raw) attentions() {
	for range 4 {
		r.command(iser.Header{}, pdu.SCSICommand{Final: true}, make([]byte, 6), nil, nil)
		if resp := r.response(); resp.Status == 0 {
			return
		}
	}
	r.t.Fatal("unit does not get ready")
}

// readByte reads the first block into mem and returns its first byte.
func (r *raw) readByte(mem []byte, stag uint32) byte {
	r.t.Helper()
	r.command(iser.Header{RSV: true, ReadSTag: stag, ReadBase: addrOf(mem)},
		pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 512}, cdb10(read10, 0, 1), nil, nil)
	if resp := r.response(); resp.Status != 0 {
		r.t.Fatalf("%+v", resp)
	}
	return mem[0]
}

// alive shows that the session lives.
func (r *raw) alive() {
	r.t.Helper()
	r.command(iser.Header{}, pdu.SCSICommand{Final: true}, make([]byte, 6), nil, nil)
	if resp := r.response(); resp.Status != 0 {
		r.t.Errorf("TEST UNIT READY: %+v", resp)
	}
}

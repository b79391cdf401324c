package actors_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/filter/fault"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	target   = "iqn.2026-11.com.example:t"
	name     = "iqn.2026-11.com.example:i"
	blk      = 512
	patience = 10 * time.Second
)

// rig is a node with one target, a portal on the loopback, and LUN 0: memory
// behind a filter that can make it hang.
type rig struct {
	t      *testing.T
	n      *actors.Node
	target *actors.Target
	group  *actors.PortalGroup
	addr   string
	mem    *memory.Backend
	fault  *fault.Backend
	down   bool
}

func newRig(t *testing.T, limits actors.Limits) *rig {
	t.Helper()
	return newLoggingRig(t, limits, nil)
}

// newLoggingRig is newRig with a log.
func newLoggingRig(t *testing.T, limits actors.Limits, log hclog.Logger) *rig {
	t.Helper()
	n, err := actors.NewNode(actors.Options{Limits: limits, FaultInjection: true, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, n: n, group: &actors.PortalGroup{Name: "default", Tag: 1}}
	t.Cleanup(r.shutdown)
	if r.target, err = n.AddTarget(t.Context(), actors.TargetConfig{Name: target}); err != nil {
		t.Fatal(err)
	}
	r.mem, r.fault = r.attach(0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Serve(t.Context(), l, r.group); err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	return r
}

func (r *rig) attach(number uint16) (*memory.Backend, *fault.Backend) {
	r.t.Helper()
	mem, err := memory.New(memory.Options{Size: 16 << 20})
	if err != nil {
		r.t.Fatal(err)
	}
	f := fault.New(mem)
	_, err = r.target.AttachLUN(context.Background(), actors.LUNConfig{
		Number: number, Kept: true, Open: func(context.Context) (luns.Backend, error) { return f, nil },
		Unit: scsi.Config{Serial: "serial-" + string(rune('0'+number))},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return mem, f
}

func (r *rig) shutdown() {
	if r.down {
		return
	}
	r.down = true
	if r.fault != nil {
		r.fault.Clear()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := r.n.Shutdown(ctx); err != nil {
		r.t.Error("shutdown:", err)
	}
	for i := 0; r.n.BuffersInUse() != 0; i++ {
		if i == 1000 {
			r.t.Errorf("%d bytes of buffers in use", r.n.BuffersInUse())
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial returns a connection that has not logged in.
func (r *rig) dial() *initiator.Conn {
	r.t.Helper()
	c, err := initiator.Dial(testContext(r.t), r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// login logs in; isid 0 is a random initiator port.
func (r *rig) login(isid byte, adjust func(*initiator.Options)) (*initiator.Session, error) {
	r.t.Helper()
	o := initiator.Options{TargetName: target, InitiatorName: name, Strict: true}
	if isid != 0 {
		o.ISID = pdu.ISID{0x80, 0, 0, 0, 0, isid}
	}
	if adjust != nil {
		adjust(&o)
	}
	c, err := initiator.Dial(testContext(r.t), r.addr)
	if err != nil {
		return nil, err
	}
	s, err := initiator.Login(testContext(r.t), c, o)
	if err == nil {
		r.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// ready logs in and takes the unit attentions.
func (r *rig) ready(isid byte, adjust func(*initiator.Options)) *initiator.Session {
	r.t.Helper()
	s, err := r.login(isid, adjust)
	if err != nil {
		r.t.Fatal(err)
	}
	r.attentions(s, 0)
	return s
}

// attentions takes the unit attentions of a LUN and returns their sense codes.
func (r *rig) attentions(s *initiator.Session, lun uint16) (codes []string) {
	r.t.Helper()
	for range 10 {
		code := r.tur(s, lun)
		if code == "" {
			return codes
		}
		codes = append(codes, code)
	}
	r.t.Fatalf("unit does not get ready: %v", codes)
	return nil
}

// tur sends TEST UNIT READY and returns its sense as "6/29/00", "" for GOOD.
func (r *rig) tur(s *initiator.Session, lun uint16) string {
	r.t.Helper()
	res, err := s.Exec(testContext(r.t), pdu.LUNOf(lun), make([]byte, 6), nil, 0)
	if err != nil {
		r.t.Fatal("TEST UNIT READY:", err)
	}
	if res.Status == 0 {
		return ""
	}
	key, asc, ascq, _ := initiator.DecodeSense(res.Sense)
	const hex = "0123456789abcdef"
	var b strings.Builder
	b.WriteByte(hex[key])
	for _, c := range []byte{asc, ascq} {
		b.Write([]byte{'/', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

func (r *rig) write(s *initiator.Session, lba int, data []byte) (*initiator.Task, error) {
	return s.Start(testContext(r.t), initiator.Command{CDB: write10(lba, len(data)/blk), DataOut: data})
}

func (r *rig) mustWrite(s *initiator.Session, lba int, data []byte) {
	r.t.Helper()
	t, err := r.write(s, lba, data)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := t.Wait(testContext(r.t))
	if err != nil || res.Err() != nil {
		r.t.Fatalf("WRITE: %v, %+v", err, res)
	}
}

// hang makes writes to block lba hang, and returns what lets them go on.
func (r *rig) hang(lba int) *fault.Injection {
	return r.fault.Inject(fault.Rule{Ops: filter.Write, Off: int64(lba) * blk, Len: blk, Action: fault.Hang, Count: 1})
}

// eventually waits until ok.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("never: " + what)
		}
	}
}

func (r *rig) crash(kind string) {
	r.t.Helper()
	for _, a := range r.n.Actors() {
		if a.Kind == kind {
			if err := r.n.Inject(a.Path, actors.FaultPanic, 0); err != nil {
				r.t.Fatal(err)
			}
			return
		}
	}
	r.t.Fatal("no actor of kind " + kind)
}

func (r *rig) sessions() int {
	r.t.Helper()
	s, err := r.n.Sessions(testContext(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(s)
}

func write10(lba, blocks int) []byte {
	return []byte{0x2a, 0, 0, 0, byte(lba >> 8), byte(lba), 0, byte(blocks >> 8), byte(blocks), 0}
}

func read10(lba, blocks int) []byte {
	c := write10(lba, blocks)
	c[0] = 0x28
	return c
}

// read reads blocks through a session.
func (r *rig) read(s *initiator.Session, lba, blocks int) []byte {
	r.t.Helper()
	res, err := s.Exec(testContext(r.t), 0, read10(lba, blocks), nil, blocks*blk)
	if err != nil || res.Err() != nil {
		r.t.Fatalf("READ: %v, %+v", err, res)
	}
	return res.Data
}

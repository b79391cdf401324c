package differential

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

//go:embed lio.sh
var lioScript string

// diskSize is that of each target's disk, in bytes; blocks have 512.
const (
	diskSize   = 64 << 20
	blockBytes = 512
	diskBlocks = diskSize / blockBytes
)

// answerLimit bounds the wait for the end of one command.
const answerLimit = 5 * time.Second

// peer is one target with a session.
type peer struct {
	name string
	net  *lab.Net
	addr string
	lun  pdu.LUN
	s    *initiator.Session
	d    *target.Daemon // nil for LIO
}

// startPeers starts the three targets.
func startPeers(t *testing.T) (ours *peer, others []*peer) {
	t.Helper()
	n := lab.NewNet(t)
	vm := lab.Start(t, n, lab.Guest{Script: lioScript, Timeout: 10 * time.Minute, Env: map[string]string{
		"LAB_TARGET": target.IQN,
		"LAB_PORTAL": lab.HostPort(lab.GuestAddr, 3260),
		"SIZE":       strconv.Itoa(diskSize),
	}})
	daemon := func(program string) *peer {
		d := target.Start(t, target.Config{Program: program, LUNs: []target.LUN{{Size: diskSize, Thin: true}}})
		return &peer{name: program, addr: d.Portal(), lun: pdu.LUNOf(uint16(d.LUN(0))), d: d}
	}
	ours, tgt := daemon("iserd"), daemon("tgt")
	vm.WaitLine("lab: LIO is up", time.Minute)
	lio := &peer{name: "LIO", net: n, addr: lab.HostPort(lab.GuestAddr, 3260)}
	for _, p := range []*peer{ours, lio, tgt} {
		if err := p.login(t.Context()); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		t.Cleanup(func() { _ = p.s.Close() })
	}
	return ours, []*peer{lio, tgt}
}

func (p *peer) login(ctx context.Context) error {
	var nc net.Conn
	var err error
	p.net.Do(func() { nc, err = net.DialTimeout("tcp", p.addr, 5*time.Second) })
	if err != nil {
		return err
	}
	p.s, err = initiator.Login(ctx, initiator.NewConn(nc), initiator.Options{
		TargetName: target.IQN, InitiatorName: "iqn.2026-11.io.github.iserd:differential",
		ISID: pdu.ISID{0x80, 0, 0, 0, 0, 1},
	})
	if err != nil {
		return err
	}
	return p.settle(ctx)
}

// outcome is what is compared.
type outcome struct {
	status   string // of the command: GOOD, "CHECK 5/24/00", or what became of the connection
	residual int64  // bytes, negative for an overflow
}

// kind shows a residual without its number, which differs from case to case.
func (o outcome) kind() string {
	switch {
	case o.residual > 0:
		return "underflow"
	case o.residual < 0:
		return "overflow"
	default:
		return "exact"
	}
}

// run performs a case and brings the target back to the state before it.
func (p *peer) run(ctx context.Context, c *testCase) (outcome, error) {
	for _, b := range c.before {
		if o := p.exec(ctx, b.cdb, b.out, 0); o.status != "GOOD" {
			return o, fmt.Errorf("before % X, % X: %s", c.cdb, b.cdb, o.status)
		}
	}
	o := p.exec(ctx, c.cdb, c.out, c.in)
	if p.s.Err() != nil || o.status == noAnswer {
		_ = p.s.Close()
		if p.d != nil && p.name != "iserd" && p.d.Ended() {
			o.status = daemonEnded
			p.d.Restart()
		}
		if err := p.login(ctx); err != nil {
			return o, fmt.Errorf("after % X: %w", c.cdb, err)
		}
	}
	for _, u := range undo[c.cdb[0]] {
		p.exec(ctx, u.cdb, u.out, 0)
	}
	if err := p.settle(ctx); err != nil {
		return o, fmt.Errorf("after % X: %w", c.cdb, err)
	}
	return o, nil
}

const (
	noAnswer    = "no answer"
	daemonEnded = "daemon ended"
)

func (p *peer) exec(ctx context.Context, cdb, out []byte, in int) outcome {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	r, err := p.s.Do(ctx, initiator.Command{LUN: p.lun, CDB: cdb, DataOut: out, DataInLen: in, Attr: pdu.AttrSimple})
	var reject *initiator.RejectError
	switch {
	case errors.As(err, &reject):
		return outcome{status: "rejected"}
	case errors.Is(err, initiator.ErrProtocol):
		return outcome{status: "protocol error"}
	case errors.Is(err, context.DeadlineExceeded):
		return outcome{status: noAnswer}
	case err != nil:
		return outcome{status: "connection lost"}
	}
	o := outcome{status: statusName(r)}
	switch {
	case r.Underflow:
		o.residual = int64(r.Residual)
	case r.Overflow:
		o.residual = -int64(r.Residual)
	}
	return o
}

// statusName is the status, of CHECK CONDITION with sense key, ASC and ASCQ.
func statusName(r *initiator.Result) string {
	if r.Response != pdu.ResponseCompleted {
		return fmt.Sprintf("response %v", r.Response)
	}
	switch r.Status {
	case 0x00:
		return "GOOD"
	case 0x02:
		key, asc, ascq, _ := initiator.DecodeSense(r.Sense)
		return fmt.Sprintf("CHECK %X/%02X/%02X", key, asc, ascq)
	case 0x04:
		return "CONDITION MET"
	case 0x18:
		return "CONFLICT"
	default:
		return fmt.Sprintf("status %02X", r.Status)
	}
}

// settle waits until the unit is ready and has no unit attention to report.
func (p *peer) settle(ctx context.Context) error {
	var o outcome
	for range 500 {
		if o = p.exec(ctx, make([]byte, 6), nil, 0); o.status == "GOOD" {
			return nil
		}
		if o.status[:7] == "CHECK 2" {
			time.Sleep(10 * time.Millisecond) // an operation in progress
		}
	}
	return fmt.Errorf("%s: TEST UNIT READY: %s", p.name, o.status)
}

// supported asks for the commands of the unit: REPORT SUPPORTED OPERATION CODES
// is made from iserd's dispatch table, usage data included (SPC-5 6.35).
func (p *peer) supported(t *testing.T) []command {
	t.Helper()
	ask := func(option byte, c command) []byte {
		cdb := []byte{0xA3, 0x0C, option, c.opcode, 0, byte(c.action), 0, 0, 0xFF, 0xFF, 0, 0}
		r, err := p.s.Exec(t.Context(), p.lun, cdb, nil, 0xFFFF)
		if err == nil {
			err = r.Err()
		}
		if err != nil {
			t.Fatalf("REPORT SUPPORTED OPERATION CODES: %v", err)
		}
		return r.Data
	}
	var list []command
	all := ask(0, command{})
	for d := all[4:]; len(d) >= 8; d = d[8:] {
		c := command{opcode: d[0], action: -1}
		option := byte(1)
		if d[5]&0x01 != 0 { // SERVACTV
			c.action, option = int(binary.BigEndian.Uint16(d[2:])), 2
		}
		one := ask(option, c)
		c.usage = one[4 : 4+binary.BigEndian.Uint16(one[2:])]
		list = append(list, c)
	}
	return list
}

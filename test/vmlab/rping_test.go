package vmlab_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/test/vmlab"
)

// rpingServer is the server of rdma-core's rping, over software iWARP. The client
// says in a message where its data is; the server reads that and asks for the
// next place by a message; the client says where the data is wanted; the server
// writes it there and says so. Messages are an address, an STag and a length.
type rpingServer struct {
	conn   verbs.Conn
	qp     verbs.QP
	cq     verbs.CQ
	poller *verbs.Poller
	mr     verbs.MR
	mem    []byte // a receive, a send, then the data
}

const (
	rpingMessage = 16
	rpingData    = 2 * rpingMessage
	rpingSize    = 65536
)

func (s *rpingServer) sge(off, n int) []verbs.SGE {
	return []verbs.SGE{{Addr: verbs.Addr(s.mem[off:]), Len: uint32(n), LKey: s.mr.LKey()}}
}

func newRping(conn verbs.Conn) (*rpingServer, error) {
	s := &rpingServer{conn: conn}
	var err error
	if s.mem, err = verbs.Map(rpingData + rpingSize); err != nil {
		return nil, err
	}
	if s.mr, err = conn.Device().Register(s.mem, verbs.AccessLocalWrite|verbs.AccessRemoteWrite); err != nil {
		return nil, err
	}
	if s.cq, err = conn.Device().NewCQ(64); err != nil {
		return nil, err
	}
	if s.poller, err = verbs.NewPoller(s.cq, 0); err != nil {
		return nil, err
	}
	s.qp, err = conn.NewQP(verbs.QPConfig{SendCQ: s.cq, RecvCQ: s.cq, QPCap: verbs.QPCap{
		MaxSendWR: 8, MaxRecvWR: 8, MaxSendSGE: 1, MaxRecvSGE: 1,
	}})
	if err != nil {
		return nil, err
	}
	if err := s.recv(); err != nil {
		return nil, err
	}
	return s, conn.Accept(verbs.ConnParam{ResponderResources: 1, InitiatorDepth: 1})
}

func (s *rpingServer) recv() error {
	_, err := s.qp.PostRecv([]verbs.RecvWR{{SG: s.sge(0, rpingMessage)}})
	return err
}

// do posts one work request and waits for it; a message that comes meanwhile is
// counted in came.
func (s *rpingServer) do(ctx context.Context, wr verbs.SendWR, came *int) error {
	wr.Flags = verbs.SendSignaled
	if _, err := s.qp.PostSend([]verbs.SendWR{wr}); err != nil {
		return err
	}
	return s.wait(ctx, came, func(op verbs.Op) bool { return op == wr.Op })
}

// wait takes completions until there is one that is awaited.
func (s *rpingServer) wait(ctx context.Context, came *int, awaited func(verbs.Op) bool) error {
	var wc [4]verbs.WC
	for {
		n, err := s.poller.Wait(wc[:], 100*time.Millisecond)
		if err != nil {
			return err
		}
		found := false
		for _, c := range wc[:n] {
			if c.Status != verbs.WCSuccess {
				return fmt.Errorf("completion of %v: status %v", c.Op, c.Status)
			}
			if c.Op == verbs.OpRecv {
				if c.Len != rpingMessage {
					return fmt.Errorf("message of %d bytes", c.Len)
				}
				*came++
			}
			found = found || awaited(c.Op)
		}
		if found {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// transfer awaits a message and moves data from or to the place it names.
func (s *rpingServer) transfer(ctx context.Context, op verbs.Op, came *int) error {
	for *came == 0 {
		if err := s.wait(ctx, came, func(op verbs.Op) bool { return op == verbs.OpRecv }); err != nil {
			return err
		}
	}
	*came--
	m := s.mem[:rpingMessage]
	addr, key, size := binary.BigEndian.Uint64(m), binary.BigEndian.Uint32(m[8:]), binary.BigEndian.Uint32(m[12:])
	if size > rpingSize {
		return fmt.Errorf("rping of %d bytes", size)
	}
	if err := s.recv(); err != nil {
		return err
	}
	if err := s.do(ctx, verbs.SendWR{Op: op, SG: s.sge(rpingData, int(size)), RAddr: addr, RKey: key}, came); err != nil {
		return err
	}
	return s.do(ctx, verbs.SendWR{Op: verbs.OpSend, SG: s.sge(rpingMessage, rpingMessage)}, came)
}

func (s *rpingServer) close() error {
	if err := s.conn.Close(); err != nil {
		return err
	}
	if err := s.poller.Close(); err != nil {
		return err
	}
	if err := s.cq.Close(); err != nil {
		return err
	}
	if err := s.mr.Close(); err != nil {
		return err
	}
	return verbs.Unmap(s.mem)
}

// rping serves one connection of rping -c with count pings.
func rping(ctx context.Context, cm verbs.CM, count int) error {
	ev, err := cm.Next(ctx)
	if err != nil {
		return err
	}
	if ev.Kind != verbs.EventConnectRequest {
		return fmt.Errorf("event %v, want a connection", ev.Kind)
	}
	s, err := newRping(ev.Conn)
	if err != nil {
		return err
	}
	came := 0
	for i := range count {
		for _, op := range []verbs.Op{verbs.OpRead, verbs.OpWrite} {
			if err := s.transfer(ctx, op, &came); err != nil {
				return fmt.Errorf("ping %d, %v: %w", i, op, err)
			}
		}
	}
	// Software iWARP makes progress, and events, when its queue is polled.
	ended := make(chan error, 1)
	go func() {
		for ev.Kind != verbs.EventDisconnected { // after EventEstablished
			if ev, err = cm.Next(ctx); err != nil {
				break
			}
		}
		ended <- err
	}()
	var wc [4]verbs.WC
	for {
		select {
		case err := <-ended:
			return errors.Join(err, s.close())
		default:
			if _, err := s.poller.Wait(wc[:], 10*time.Millisecond); err != nil {
				return err
			}
		}
	}
}

// rdma-core's rping in the guest, over Linux's software iWARP, against ours on the
// host: messages, RDMA Reads and RDMA Writes, whose data rping compares.
func TestSIWRping(t *testing.T) {
	vmlab.Gate(t)
	const count = 50
	kernel := siwKernels()[0]
	prov := softiwarp.New(softiwarp.Config{})
	cm, err := prov.NewCM()
	if err != nil {
		t.Fatal(err)
	}
	l, err := cm.Listen(netip.MustParseAddrPort("127.0.0.1:0"), 4)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- rping(ctx, cm, count) }()
	vmlab.Boot(t, vmlab.Guest{
		Kernel:  kernel,
		Share:   shareSIW(t, kernel),
		Timeout: 3 * time.Minute,
		Env:     map[string]string{"PORT": strconv.Itoa(int(l.Addr().Port())), "COUNT": strconv.Itoa(count)},
		Script: siwUp + `
			timeout 60 rping -c -a 10.0.2.2 -p $PORT -C $COUNT -S 4096 -V || fail "rping"
			say "rping good"`,
	})
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, f := range []func() error{l.Close, cm.Close, prov.Close} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
}

package iserd_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/pdu/login"
)

// startISER adds an iSER portal to what start serves. At the end of the test
// nothing of it may be in use.
func startISER(t *testing.T, opts ...iserd.TargetOption) (srv *iserd.Server, tcpAddr string, addr netip.AddrPort) {
	t.Helper()
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { // after the shutdown of start
		if err := prov.Close(); err != nil {
			t.Error(err)
		}
	})
	srv, tcpAddr = start(t, opts...)
	addr, _, err := srv.AddISERPortal(t.Context(), prov, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { quiet(t, srv) })
	return srv, tcpAddr, addr
}

// quiet waits until no connection and no registered memory is in use.
func quiet(t *testing.T, srv *iserd.Server) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		u, err := srv.RDMAUsage(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		if u.Connections == 0 && u.InUse == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("still in use: %+v", u)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func dialISER(t testing.TB, addr netip.AddrPort, o rdma.Options) *initiator.Conn {
	t.Helper()
	prov := softiwarp.New(softiwarp.Config{})
	c, err := rdma.Dial(t.Context(), prov, addr, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func connectISER(t testing.TB, addr netip.AddrPort, ro rdma.Options, adjust func(*initiator.Options)) *initiator.Session {
	t.Helper()
	o := initiator.Options{TargetName: testTarget, Extra: rdma.Keys()}
	if adjust != nil {
		adjust(&o)
	}
	s, err := initiator.Login(t.Context(), dialISER(t, addr, ro), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestISERDiscovery(t *testing.T) {
	_, tcpAddr, addr := startISER(t)
	s, err := initiator.Login(t.Context(), dialISER(t, addr, rdma.Options{}), initiator.Options{SessionType: initiator.DiscoverySession})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	targets, err := s.SendTargets(t.Context(), "All")
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) != 1 || targets[0].Name != testTarget {
		t.Fatalf("targets %+v", targets)
	}
	got := fmt.Sprint(targets[0])
	if !strings.Contains(got, tcpAddr) || !strings.Contains(got, addr.String()) {
		t.Errorf("SendTargets tells %s, want %s and %v in it", got, tcpAddr, addr)
	}
	if err := s.Logout(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestISERWriteRead(t *testing.T) {
	l := login.DefaultLimits()
	l.InitialR2TOverISER = false
	_, _, addr := startISER(t, iserd.SessionLimits(l))
	for _, invalidate := range []bool{false, true} {
		for _, r2t := range []initiator.YesNo{initiator.Yes, initiator.No} {
			for _, imm := range []initiator.YesNo{initiator.Yes, initiator.No} {
				t.Run(fmt.Sprintf("invalidate=%v/InitialR2T=%d/ImmediateData=%d", invalidate, r2t, imm), func(t *testing.T) {
					s := connectISER(t, addr, rdma.Options{Invalidate: invalidate}, func(o *initiator.Options) {
						o.InitialR2T, o.ImmediateData = r2t, imm
					})
					ready(t, s)
					for _, blocks := range []uint16{1, 8, 15, 16, 17, 33, 256, 513, 2048, 8192, 32767} {
						roundTrip(t, s, 64, blocks)
					}
					if err := s.Logout(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// roundTrip writes random blocks and reads them.
func roundTrip(t *testing.T, s *initiator.Session, lba uint32, blocks uint16) {
	t.Helper()
	data := make([]byte, int(blocks)*512)
	rand.Read(data)
	if r, err := s.Exec(t.Context(), 0, cdb10(write10, lba, blocks), data, 0); err != nil || r.Status != 0 {
		t.Fatalf("write of %d blocks: %v %+v", blocks, err, r)
	}
	r, err := s.Exec(t.Context(), 0, cdb10(read10, lba, blocks), nil, len(data))
	if err != nil || r.Status != 0 {
		t.Fatalf("read of %d blocks: %v %+v", blocks, err, r)
	}
	if !bytes.Equal(r.Data, data) {
		t.Fatalf("read of %d blocks: other data", blocks)
	}
}

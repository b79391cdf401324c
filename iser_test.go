package iserd_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs"
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
func quiet(t testing.TB, srv *iserd.Server) {
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

// addrOf is the address that names memory to the target.
func addrOf(b []byte) uint64 { return verbs.Addr(b) }

// TCP and iSER initiators share one task set, reservations and sizes.
func TestISERAndTCP(t *testing.T) {
	_, tcpAddr, addr := startISER(t)
	a := connectISER(t, addr, rdma.Options{}, nil)
	b := connect(t, tcpAddr, nil)
	ready(t, a)
	ready(t, b)
	data := make([]byte, 1<<20)
	rand.Read(data)
	if r, err := a.Exec(t.Context(), 0, cdb10(write10, 100, 2048), data, 0); err != nil || r.Status != 0 {
		t.Fatal(err, r)
	}
	r, err := b.Exec(t.Context(), 0, cdb10(read10, 100, 2048), nil, len(data))
	if err != nil || r.Status != 0 || !bytes.Equal(r.Data, data) {
		t.Fatalf("TCP reads other data than iSER wrote: %v %v", err, r.Status)
	}
	// RESERVE(6) over iSER is a conflict over TCP.
	if r, err := a.Exec(t.Context(), 0, []byte{0x16, 0, 0, 0, 0, 0}, nil, 0); err != nil || r.Status != 0 {
		t.Fatal(err, r)
	}
	if r, err := b.Exec(t.Context(), 0, cdb10(write10, 0, 1), make([]byte, 512), 0); err != nil || r.Status != 0x18 {
		t.Errorf("write over TCP: %v, status %#x, want RESERVATION CONFLICT", err, r.Status)
	}
	if r, err := a.Exec(t.Context(), 0, []byte{0x17, 0, 0, 0, 0, 0}, nil, 0); err != nil || r.Status != 0 {
		t.Fatal(err, r)
	}
}

// A login over iSER authenticates as over TCP, in discovery too (B19).
func TestISERCHAP(t *testing.T) {
	secret := []byte("a secret of 20 bytes")
	chap := iserd.Access(iserd.CHAP(map[string][]byte{"user": secret}))
	_, _, addr := startISER(t, chap)
	good := func(o *initiator.Options) { o.CHAP = initiator.CHAP{User: "user", Secret: secret} }
	s := connectISER(t, addr, rdma.Options{}, good)
	ready(t, s)
	for _, c := range []initiator.CHAP{{}, {User: "user", Secret: []byte("another one, 20 bytes")}} {
		o := initiator.Options{TargetName: testTarget, Extra: rdma.Keys(), CHAP: c}
		if s, err := initiator.Login(t.Context(), dialISER(t, addr, rdma.Options{}), o); err == nil {
			s.Close()
			t.Errorf("login with user %q succeeded", c.User)
		}
	}
}

// Many commands at once, of many sizes, with aborts among them: every read gives
// what was written, and nothing is left.
func TestISERParallel(t *testing.T) {
	srv, _, addr := startISER(t)
	var wg sync.WaitGroup
	for n := range 4 {
		s := connectISER(t, addr, rdma.Options{}, nil)
		ready(t, s)
		for g := range 4 {
			wg.Go(func() {
				lba := uint32((n*4 + g) * 8192)
				for i := range 30 {
					blocks := uint16(1 + (i*37+g*101)%1500)
					data := bytes.Repeat([]byte{byte(n), byte(g), byte(i), 7}, int(blocks)*128)
					if r, err := s.Exec(t.Context(), 0, cdb10(write10, lba, blocks), data, 0); err != nil || r.Status != 0 {
						t.Errorf("write: %v %+v", err, r)
						return
					}
					r, err := s.Exec(t.Context(), 0, cdb10(read10, lba, blocks), nil, len(data))
					if err != nil || r.Status != 0 || !bytes.Equal(r.Data, data) {
						t.Errorf("read: %v, other data", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	_ = srv
}

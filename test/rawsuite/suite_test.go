package rawsuite_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/test/rawsuite"
)

const name = "iqn.2026-11.com.example:raw"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = 3 * time.Second

// server is a server in this process with a disk of 16 MiB.
func server(t *testing.T) *iserd.Server {
	t.Helper()
	srv, err := iserd.NewServer(iserd.WithLimits(iserd.Limits{LoginTimeout: timeout}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := memory.New(memory.Options{Size: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddTarget(t.Context(), name, iserd.AnyInitiator(), iserd.LUN(0, b)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if n := srv.BuffersInUse(); n != 0 {
			t.Errorf("%d bytes of buffers are still in use", n)
		}
	})
	return srv
}

// TestServer runs the suite against a server by TCP.
func TestServer(t *testing.T) {
	srv := server(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddPortal(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	rawsuite.Run(t, rawsuite.Target{
		Addr: l.Addr().String(), TargetName: name, LoginTimeout: timeout, Memory: srv.BuffersInUse,
	})
}

// TestServerISER runs it over iSER on software iWARP, with CRC, so that flipped bits
// are noticed.
func TestServerISER(t *testing.T) {
	prov := softiwarp.New(softiwarp.Config{CRC: true})
	t.Cleanup(func() {
		if err := prov.Close(); err != nil {
			t.Error(err)
		}
	})
	srv := server(t)
	addr, _, err := srv.AddISERPortal(t.Context(), prov, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	rawsuite.Run(t, rawsuite.Target{
		Addr: addr.String(), TargetName: name, LoginTimeout: timeout,
		Memory: func() int64 {
			u, err := srv.RDMAUsage(t.Context())
			if err != nil {
				t.Error(err)
			}
			return srv.BuffersInUse() + u.InUse
		},
		Over: rawsuite.Transport{
			ISER: true, CRC: true, Keys: rdma.Keys(),
			Dial: func(ctx context.Context, addr string) (*initiator.Conn, error) {
				at, err := netip.ParseAddrPort(addr)
				if err != nil {
					return nil, err
				}
				return rdma.Dial(ctx, prov, at, rdma.Options{})
			},
		},
	})
}

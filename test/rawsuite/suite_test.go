package rawsuite_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/test/rawsuite"
)

const name = "iqn.2026-11.com.example:raw"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestServer runs the suite against a server in this process.
func TestServer(t *testing.T) {
	const timeout = 3 * time.Second
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddPortal(t.Context(), l); err != nil {
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
	rawsuite.Run(t, rawsuite.Target{
		Addr: l.Addr().String(), TargetName: name, LoginTimeout: timeout, Memory: srv.BuffersInUse,
	})
}

package iserd_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/internal/hclogslog"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/pdu"
)

const testTarget = "iqn.2026-11.com.example:test"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a memory LUN on a loopback port.
func start(t *testing.T, opts ...iserd.TargetOption) (*iserd.Server, string) {
	t.Helper()
	level := hclog.Warn
	if os.Getenv("ISERD_TEST_LOG") != "" {
		level = hclog.Trace
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "iserd", Level: level})
	srv, err := iserd.NewServer(iserd.WithLogger(slog.New(hclogslog.New(log))), iserd.WithFaultInjection())
	if err != nil {
		t.Fatal(err)
	}
	b, err := memory.New(memory.Options{Size: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	opts = append([]iserd.TargetOption{iserd.AnyInitiator(), iserd.LUN(0, b, iserd.Thin())}, opts...)
	if _, err := srv.AddTarget(ctx, testTarget, opts...); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddPortal(ctx, l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error("shutdown:", err)
		}
		if n := srv.BuffersInUse(); n != 0 {
			t.Errorf("%d bytes of buffers still in use", n)
		}
	})
	return srv, l.Addr().String()
}

func connect(t *testing.T, addr string, adjust func(*initiator.Options)) *initiator.Session {
	t.Helper()
	u, err := initiator.ParseURL("iscsi://" + addr + "/" + testTarget + "/0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := initiator.Connect(t.Context(), u, adjust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// cdb10 is a READ(10) or WRITE(10).
func cdb10(op byte, lba uint32, blocks uint16) []byte {
	c := make([]byte, 10)
	c[0] = op
	binary.BigEndian.PutUint32(c[2:], lba)
	binary.BigEndian.PutUint16(c[7:], blocks)
	return c
}

const (
	read10  = 0x28
	write10 = 0x2a
)

// ready sends TEST UNIT READY until the unit attentions of the login are told.
func ready(t *testing.T, s *initiator.Session) {
	t.Helper()
	for range 4 {
		r, err := s.Exec(t.Context(), 0, make([]byte, 6), nil, 0)
		if err == nil && r.Status == 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("unit does not get ready")
}

func TestWriteRead(t *testing.T) {
	_, addr := start(t)
	for _, yes := range []initiator.YesNo{initiator.Yes, initiator.No} {
		for _, digest := range []string{"None", "CRC32C"} {
			s := connect(t, addr, func(o *initiator.Options) {
				o.InitialR2T, o.ImmediateData = yes, yes
				o.HeaderDigest, o.DataDigest = digest, digest
			})
			ready(t, s)
			for _, blocks := range []uint16{1, 8, 33, 256, 2048, 8192} {
				data := make([]byte, int(blocks)*512)
				rand.Read(data)
				if r, err := s.Exec(t.Context(), 0, cdb10(write10, 64, blocks), data, 0); err != nil || r.Status != 0 {
					t.Fatalf("write of %d blocks: %v %+v", blocks, err, r)
				}
				r, err := s.Exec(t.Context(), 0, cdb10(read10, 64, blocks), nil, len(data))
				if err != nil || r.Status != 0 {
					t.Fatalf("read of %d blocks: %v %+v", blocks, err, r)
				}
				if !bytes.Equal(r.Data, data) {
					t.Fatalf("read of %d blocks: other data", blocks)
				}
			}
			if err := s.Logout(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDiscovery(t *testing.T) {
	_, addr := start(t)
	targets, err := initiator.Discover(t.Context(), addr, initiator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) != 1 || targets[0].Name != testTarget {
		t.Errorf("targets = %+v", targets)
	}
}

func TestTaskManagement(t *testing.T) {
	_, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	for _, fn := range []pdu.TMFunction{pdu.AbortTaskSet, pdu.ClearTaskSet, pdu.LogicalUnitReset, pdu.TargetWarmReset} {
		r, err := s.TaskManagement(t.Context(), fn, 0, nil)
		if err != nil || r != pdu.FunctionComplete {
			t.Errorf("%v: %v %v", fn, r, err)
		}
	}
}

// TestNoRangeLockLeak: a READ whose data nobody takes (the W bit instead of the
// R bit, or no bit at all) must not keep its blocks locked.
func TestNoRangeLockLeak(t *testing.T) {
	_, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	if r, err := s.Exec(t.Context(), 0, cdb10(read10, 0, 1), make([]byte, 512), 0); err != nil || r.Status != 0 {
		t.Fatalf("READ as a write: %v %+v", err, r)
	}
	if r, err := s.Exec(t.Context(), 0, cdb10(read10, 0, 1), nil, 0); err != nil || r.Status != 0 {
		t.Fatalf("READ without a buffer: %v %+v", err, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if r, err := s.Exec(ctx, 0, cdb10(write10, 0, 1), make([]byte, 512), 0); err != nil || r.Status != 0 {
		t.Fatalf("WRITE after them: %v %+v", err, r)
	}
}

// TestColdReset: the answer comes before the connection is dropped, and other
// sessions of the target are dropped too.
func TestColdReset(t *testing.T) {
	_, addr := start(t)
	for range 20 {
		s, other := connect(t, addr, nil), connect(t, addr, nil)
		r, err := s.TaskManagement(t.Context(), pdu.TargetColdReset, 0, nil)
		if err != nil || r != pdu.FunctionComplete {
			t.Fatalf("TARGET COLD RESET: %v %v", r, err)
		}
		<-s.Done()
		<-other.Done()
	}
}

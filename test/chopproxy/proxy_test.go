package chopproxy_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd/test/chopproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo serves connections that send everything back.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, cfg chopproxy.Config) net.Conn {
	t.Helper()
	cfg.Target = echo(t)
	p, err := chopproxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func pass(t *testing.T, c net.Conn, data []byte) []byte {
	t.Helper()
	go func() {
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestForwards(t *testing.T) {
	data := make([]byte, 300<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	for name, cfg := range map[string]chopproxy.Config{
		"plain":              {},
		"small segments":     {MaxSegment: 7, Seed: 1},
		"large segments":     {MaxSegment: 64 << 10, Seed: 2},
		"merged":             {Merge: 2 * time.Millisecond},
		"merged and chopped": {Merge: time.Millisecond, MaxSegment: 3000},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pass(t, dial(t, cfg), data); !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back, not the %d sent", len(got), len(data))
			}
		})
	}
}

func TestFlipAt(t *testing.T) {
	data := make([]byte, 1000)
	got := pass(t, dial(t, chopproxy.Config{MaxSegment: 10, Mangle: chopproxy.FlipAt(0, chopproxy.FromServer, 777, 3)}), data)
	want := bytes.Clone(data)
	want[777] = 8
	if !bytes.Equal(got, want) {
		t.Error("not exactly the one bit is flipped")
	}
}

func TestCutAt(t *testing.T) {
	for name, how := range map[string]error{"close": chopproxy.ErrClose, "reset": chopproxy.ErrReset} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, chopproxy.Config{Mangle: chopproxy.CutAt(0, chopproxy.FromServer, 100, how)})
			if _, err := c.Write(make([]byte, 500)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if errors.Is(how, chopproxy.ErrClose) && (err != nil && !errors.Is(err, syscall.ECONNRESET) || len(got) != 100) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if errors.Is(how, chopproxy.ErrReset) && (!errors.Is(err, syscall.ECONNRESET) || len(got) > 100) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

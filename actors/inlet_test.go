package actors_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

// ends reports whether the peer ends c within limit.
func ends(t *testing.T, c net.Conn, limit time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestInletLimits: half an MPA request is a connection that has not logged in: it is
// counted as such, and has the time of a login.
func TestInletLimits(t *testing.T) {
	const limit = 5
	r := newRig(t, actors.Limits{LoginsPerAddr: limit, LoginTimeout: time.Second})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	prov := softiwarp.New(softiwarp.Config{})
	defer prov.Close()
	stop, err := r.n.Serve(t.Context(), l, r.group, actors.SoftISER(prov))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	dial := func(first string) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, first); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var half []net.Conn
	for range limit {
		half = append(half, dial("MPA ID Req Fr"))
	}
	if ends(t, half[0], 50*time.Millisecond) {
		t.Error("half a request was not waited for")
	}
	if c := dial("M"); !ends(t, c, 500*time.Millisecond) {
		t.Error("a connection beyond the limit was taken")
	}
	for i, c := range half {
		if !ends(t, c, 10*time.Second) {
			t.Errorf("connection %d outlives the time for a login", i)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; { // the count follows the end
		if c := dial("M"); !ends(t, c, 50*time.Millisecond) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no connection is taken afterwards")
		}
	}
	if u, err := r.n.RDMAUsage(t.Context()); err != nil || u.Connections != 0 || u.Registered != 0 {
		t.Errorf("half requests have started RDMA: %+v, %v", u, err)
	}
}

//go:build linux

package verbs_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// fakeCQ is a CQ whose completions a test makes. Its descriptor is an eventfd.
type fakeCQ struct {
	fd    int
	ready int
	polls int
	later int // how many polls from now on a completion comes; 0: none
	armed bool
	err   error
	count [8]byte
}

func newFakeCQ(t *testing.T) *fakeCQ {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return &fakeCQ{fd: fd}
}

func (c *fakeCQ) Poll(wc []verbs.WC) (int, error) {
	c.polls++
	if c.later > 0 {
		if c.later--; c.later == 0 {
			c.ready++
		}
	}
	n := min(c.ready, len(wc))
	c.ready -= n
	return n, c.err
}

func (c *fakeCQ) Arm() error {
	_, _ = unix.Read(c.fd, c.count[:])
	c.armed = true
	return nil
}

func (c *fakeCQ) Fd() int      { return c.fd }
func (c *fakeCQ) Depth() int   { return 64 }
func (c *fakeCQ) Close() error { return nil }

func newPoller(t *testing.T, cq verbs.CQ, spin time.Duration) *verbs.Poller {
	t.Helper()
	p, err := verbs.NewPoller(cq, spin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestPollerDoesNotArmWhenBusy(t *testing.T) {
	cq := newFakeCQ(t)
	p := newPoller(t, cq, 0)
	cq.ready = 5
	wc := make([]verbs.WC, 3)
	for _, want := range []int{3, 2} {
		if n, err := p.Wait(wc, -1); n != want || err != nil {
			t.Errorf("Wait: %d, %v; want %d", n, err, want)
		}
	}
	if cq.armed {
		t.Error("armed while there were completions")
	}
}

func TestPollerTimeout(t *testing.T) {
	cq := newFakeCQ(t)
	p := newPoller(t, cq, 0)
	wc := make([]verbs.WC, 3)
	if n, err := p.Wait(wc, 0); n != 0 || err != nil || cq.armed {
		t.Errorf("Wait without time: %d, %v, armed %v", n, err, cq.armed)
	}
	if n, err := p.Wait(wc, time.Millisecond); n != 0 || err != nil || !cq.armed {
		t.Errorf("Wait: %d, %v, armed %v", n, err, cq.armed)
	}
}

// It spins when completions come quickly, and only then.
func TestPollerSpins(t *testing.T) {
	cq := newFakeCQ(t)
	const long = time.Minute // so that what is slow here is quick
	p := newPoller(t, cq, long)
	wc := make([]verbs.WC, 3)
	cq.later = 3 // found when armed
	if n, err := p.Wait(wc, -1); n != 1 || err != nil || !cq.armed {
		t.Errorf("the first Wait: %d, %v, armed %v", n, err, cq.armed)
	}
	cq.armed, cq.later = false, 5
	if n, err := p.Wait(wc, -1); n != 1 || err != nil || cq.armed {
		t.Errorf("after a short gap: %d, %v, armed %v", n, err, cq.armed)
	}
	q := newPoller(t, cq, time.Nanosecond) // every gap is long
	for range 3 {
		cq.armed, cq.later = false, 3
		if n, err := q.Wait(wc, -1); n != 1 || err != nil || !cq.armed {
			t.Errorf("after a long gap: %d, %v, armed %v", n, err, cq.armed)
		}
	}
}

// Each Wake ends a Wait, before or during it, and only one.
func TestPollerWake(t *testing.T) {
	cq := newFakeCQ(t)
	p := newPoller(t, cq, 20*time.Microsecond)
	wc := make([]verbs.WC, 3)
	p.Wake()
	p.Wake()
	if n, err := p.Wait(wc, -1); n != 0 || err != nil {
		t.Errorf("Wait: %d, %v", n, err)
	}
	for range 100 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Wake()
		}()
		if n, err := p.Wait(wc, -1); n != 0 || err != nil {
			t.Errorf("Wait: %d, %v", n, err)
		}
		<-done
	}
}

func TestPollerError(t *testing.T) {
	cq := newFakeCQ(t)
	p := newPoller(t, cq, 0)
	cq.err = errors.New("lost")
	if _, err := p.Wait(make([]verbs.WC, 1), -1); !errors.Is(err, cq.err) {
		t.Errorf("Wait: %v, want %v", err, cq.err)
	}
}

func TestPollerAllocations(t *testing.T) {
	cq := newFakeCQ(t)
	p := newPoller(t, cq, time.Microsecond)
	wc := make([]verbs.WC, 3)
	if n := testing.AllocsPerRun(10, func() { _, _ = p.Wait(wc, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		verbs.WCFlushed.String():                         "flushed",
		verbs.Status(99).String():                        "Status(99)",
		verbs.OpSendInv.String():                         "SendInv",
		verbs.Op(0).String():                             "Op(0)",
		verbs.EventDisconnected.String():                 "disconnected",
		verbs.EventKind(77).String():                     "EventKind(77)",
		verbs.DeviceGIDChange.String():                   "GID change",
		verbs.DeviceEventKind(14).String():               "DeviceEventKind(14)",
		verbs.PortActive.String():                        "ACTIVE",
		verbs.LinkEthernet.String():                      "Ethernet",
		verbs.GIDRoCEv2.String():                         "RoCE v2",
		verbs.TransportIWARP.String():                    "iWARP",
		verbs.Transport(0).String():                      "Transport(0)",
		verbs.DeviceCQError.String():                     "CQ error",
		(verbs.WCWithInv | verbs.WCFlags(0x40)).String(): "WithInv|0x40",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMap(t *testing.T) {
	mem, err := verbs.Map(100)
	if err != nil {
		t.Fatal(err)
	}
	if len(mem) != 100 || verbs.Addr(mem) == 0 || verbs.Addr(mem[10:]) != verbs.Addr(mem)+10 {
		t.Errorf("Map: %d bytes at %#x", len(mem), verbs.Addr(mem))
	}
	if err := verbs.Unmap(mem); err != nil {
		t.Error(err)
	}
	if verbs.Addr(nil) != 0 {
		t.Error("address of nothing")
	}
}

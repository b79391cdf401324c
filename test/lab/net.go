package lab

import (
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Addresses on a Net. They are the same on every Net: each is a namespace of
// its own.
const (
	HostAddr  = "10.99.0.1" // the host's end, where the target listens
	GuestAddr = "10.99.0.2" // the guest's end
	prefix    = "/24"

	// Device is the host's end as a device of the namespace.
	Device = "tap0"
)

// Net is a network namespace with a tap device for one guest. It lives as
// long as its thread and the processes started in it: nothing has to be
// deleted, and nothing is left behind when the test is killed.
//
// A nil *Net stands for the network that the test itself is in.
type Net struct {
	calls chan func()
}

// NewNet makes a namespace with the loopback and the tap device up. It is
// released at the end of the test.
func NewNet(t testing.TB) *Net {
	t.Helper()
	NeedRoot(t)
	NeedTools(t, "ip")
	n := &Net{calls: make(chan func())}
	ready := make(chan error)
	go n.hold(ready)
	if err := <-ready; err != nil {
		t.Fatalf("lab: network namespace: %v", err)
	}
	t.Cleanup(func() { close(n.calls) })
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"tuntap", "add", Device, "mode", "tap"},
		{"addr", "add", HostAddr + prefix, "dev", Device},
		{"link", "set", Device, "up"},
	} {
		var out []byte
		var err error
		n.Do(func() { out, err = exec.Command("ip", args...).CombinedOutput() })
		if err != nil {
			t.Fatalf("lab: ip %v: %v\n%s", args, err, out)
		}
	}
	return n
}

// hold owns the one thread that is in the namespace and runs calls on it. The
// thread is not given back to the runtime: it ends with the namespace.
func (n *Net) hold(ready chan<- error) {
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNET)
	ready <- err
	if err != nil {
		return
	}
	for call := range n.calls {
		call()
	}
}

// Do runs f on a thread that is in the namespace, and returns when f has. What
// f starts or opens itself, not on a goroutine of its own, is in the namespace.
func (n *Net) Do(f func()) {
	if n == nil {
		f()
		return
	}
	done := make(chan struct{})
	n.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// StartCommand starts cmd in the namespace.
func (n *Net) StartCommand(cmd *exec.Cmd) (err error) {
	n.Do(func() { err = cmd.Start() })
	return err
}

// Probe reports whether something accepts TCP connections on addr, which must
// be a literal address and port.
func (n *Net) Probe(addr string) (ok bool) {
	n.Do(func() {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			ok = conn.Close() == nil
		}
	})
	return ok
}

// FreePort is a TCP port of the loopback that nobody listened on a moment
// ago, for a daemon that must come back on the same port.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// HostPort joins an address of this package with a port.
func HostPort(addr string, port int) string { return fmt.Sprintf("%s:%d", addr, port) }

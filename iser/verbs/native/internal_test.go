//go:build linux && cgo && (amd64 || arm64)

package native

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/iserd/iserd/iser/verbs"
)

// fillSG copies verbs.SGE as it is.
func TestSGE(t *testing.T) {
	var s verbs.SGE
	got := []uintptr{unsafe.Sizeof(s), unsafe.Offsetof(s.Addr), unsafe.Offsetof(s.Len), unsafe.Offsetof(s.LKey)}
	if want := []uintptr{16, 0, 8, 12}; !cmp.Equal(got, want) {
		t.Errorf("size and offsets of verbs.SGE: %v, want %v", got, want)
	}
}

func TestSockaddr(t *testing.T) {
	for _, text := range []string{"10.1.2.3:3260", "[2001:db8::1]:3260", "[fe80::1%7]:3260", "0.0.0.0:0", "[::]:1"} {
		want := netip.MustParseAddrPort(text)
		var s sockaddr
		s.set(want)
		if got := s.addrPort(); got != want {
			t.Errorf("%v came back as %v", want, got)
		}
	}
	var s sockaddr
	s.set(netip.MustParseAddrPort("[::ffff:10.0.0.1]:5"))
	if want := netip.MustParseAddrPort("10.0.0.1:5"); s.addrPort() != want {
		t.Errorf("mapped address became %v, want %v", s.addrPort(), want)
	}
	if got := new(sockaddr).addrPort(); got.IsValid() {
		t.Errorf("no family became %v", got)
	}
}

// tree makes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSysfsPort(t *testing.T) {
	const dir = "sys/class/infiniband/x0/ports/1/"
	root := tree(t, map[string]string{
		dir + "rate":              "100 Gb/sec (4X EDR)\n",
		dir + "gids/0":            "fe80:0000:0000:0000:e41d:2dff:fe00:0001\n",
		dir + "gids/1":            "fe80:0000:0000:0000:e41d:2dff:fe00:0001\n",
		dir + "gids/10":           "0000:0000:0000:0000:0000:ffff:0a62:0001\n",
		dir + "gids/2":            "0000:0000:0000:0000:0000:0000:0000:0000\n",
		dir + "gid_attrs/types/0": "IB/RoCE v1\n", dir + "gid_attrs/ndevs/0": "eth1\n",
		dir + "gid_attrs/types/1": "RoCE v2\n", dir + "gid_attrs/ndevs/1": "eth1\n",
		dir + "gid_attrs/types/10": "RoCE v2\n", dir + "gid_attrs/ndevs/10": "eth1.5\n",
	})
	link := netip.MustParseAddr("fe80::e41d:2dff:fe00:1")
	want := verbs.Port{Number: 1, LinkLayer: verbs.LinkEthernet, Rate: "100 Gb/sec (4X EDR)", NetDev: "eth1", GIDs: []verbs.GID{
		{Index: 0, Addr: link, Type: verbs.GIDRoCEv1, NetDev: "eth1"},
		{Index: 1, Addr: link, Type: verbs.GIDRoCEv2, NetDev: "eth1"},
		{Index: 10, Addr: netip.MustParseAddr("::ffff:10.98.0.1"), Type: verbs.GIDRoCEv2, NetDev: "eth1.5"},
	}}
	got := verbs.Port{Number: 1, LinkLayer: verbs.LinkEthernet}
	sysfsPort(root, "x0", verbs.TransportInfiniBand, &got)
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
	got = verbs.Port{Number: 1, LinkLayer: verbs.LinkEthernet}
	sysfsPort(root, "x0", verbs.TransportIWARP, &got)
	if got.GIDs[0].Type != verbs.GIDInfiniBand {
		t.Errorf("iWARP's GID is %v", got.GIDs[0].Type)
	}
	got = verbs.Port{Number: 2}
	sysfsPort(root, "x0", verbs.TransportInfiniBand, &got)
	if d := cmp.Diff(verbs.Port{Number: 2}, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("a port that is not there: %s", d)
	}
}

func TestSysfsCPUs(t *testing.T) {
	const dir = "sys/class/infiniband/"
	root := tree(t, map[string]string{
		dir + "mlx5_0/device/local_cpus":                   "00000001,00000000,80000003\n",
		dir + "rxe0/ports/1/gid_attrs/ndevs/0":             "eth0\n",
		"sys/class/net/eth0/queues/rx-0/rps_cpus":          "2\n",
		"sys/class/net/eth0/queues/rx-1/rps_cpus":          "00000003\n",
		dir + "rxe1/ports/1/gid_attrs/ndevs/0":             "eth1\n",
		"sys/class/net/eth1/queues/rx-0/rps_cpus":          "0\n",
		dir + "broken/device/local_cpus":                   "01,x\n",
		dir + "rxe2/ports/1/gid_attrs/ndevs/not-in-use":    "",
		"sys/class/net/queues/rx-0/rps_cpus":               "1\n",
		"sys/class/net/eth0/queues/tx-0/byte_queue_limits": "",
	})
	for _, test := range []struct {
		name string
		n    int
		want []int
	}{
		{"mlx5_0", 2, []int{0, 1, 31, 64}},
		{"mlx5_0", 96, []int{0, 1, 31, 64}},
		{"rxe0", 2, []int{0, 1}},
		{"rxe0", 4, nil}, // many CPUs
		{"rxe1", 2, nil}, // steered to none
		{"rxe2", 2, nil},
		{"broken", 2, nil},
		{"gone", 2, nil},
	} {
		if got := sysfsCPUs(root, test.name, test.n); !slices.Equal(got, test.want) {
			t.Errorf("%s on %d CPUs: %v, want %v", test.name, test.n, got, test.want)
		}
	}
}

func TestSettled(t *testing.T) {
	both := map[string]string{
		"sys/class/infiniband/x0/a": "", "sys/class/infiniband/x1/a": "",
		"sys/class/infiniband_verbs/uverbs0/ibdev": "x0\n", "sys/class/infiniband_verbs/uverbs1/ibdev": "x1\n",
	}
	if !settled(tree(t, both)) || !settled(tree(t, nil)) {
		t.Error("not settled with a file for each device")
	}
	delete(both, "sys/class/infiniband_verbs/uverbs0/ibdev")
	if settled(tree(t, both)) {
		t.Error("settled without a file for x0")
	}
}

func TestDiagnose(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		cause error
		want  error
		says  string
	}{
		{"no device", nil, nil, verbs.ErrNoDevice, "the kernel has none"},
		{"no uverbs", map[string]string{"sys/class/infiniband/x0/a": ""}, nil, verbs.ErrUnavailable, "modprobe ib_uverbs"},
		{"no rdma_cm", map[string]string{"sys/class/infiniband/x0/a": "", "dev/infiniband/uverbs0": ""}, nil, verbs.ErrUnavailable, "modprobe rdma_ucm"},
		{"no permission", map[string]string{"sys/class/infiniband/x0/a": "", "dev/infiniband/uverbs0": "", "dev/infiniband/rdma_cm": ""}, syscall.EACCES, verbs.ErrUnavailable, "no permission"},
		{"no driver", map[string]string{"sys/class/infiniband/x0/a": "", "dev/infiniband/uverbs0": "", "dev/infiniband/rdma_cm": ""}, syscall.ENODEV, verbs.ErrUnavailable, "has x0, but libibverbs has no driver for it: install the Debian package ibverbs-providers"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := diagnose(tree(t, test.files), test.cause)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v that says %q", err, test.want, test.says)
			}
			if len(test.files) > 0 && test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("%v does not wrap %v", err, test.cause)
			}
		})
	}
}

// eventFile returns what try found, ctx's error, or that it is closed.
func TestEventFile(t *testing.T) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fds[0]); _ = syscall.Close(fds[1]) }()
	e, err := newEventFile(fds[0], "pipe")
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	try := func() error {
		_, err := syscall.Read(fds[0], b[:])
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for range 2 {
		if err := e.wait(ctx, try); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v, want %v", err, context.DeadlineExceeded)
		}
	}
	timer := time.AfterFunc(10*time.Millisecond, func() { _, _ = syscall.Write(fds[1], []byte("x")) })
	defer timer.Stop()
	if err := e.wait(t.Context(), try); err != nil || b[0] != 'x' {
		t.Errorf("wait: %v, %q", err, b)
	}
	if err := e.wait(t.Context(), func() error { return syscall.EIO }); !errors.Is(err, syscall.EIO) {
		t.Errorf("wait: %v, want %v", err, syscall.EIO)
	}
	timer = time.AfterFunc(10*time.Millisecond, e.close)
	defer timer.Stop()
	for range 2 {
		if err := e.wait(t.Context(), try); !errors.Is(err, verbs.ErrClosed) {
			t.Errorf("wait: %v, want %v", err, verbs.ErrClosed)
		}
	}
}

func TestPostError(t *testing.T) {
	if err := postError(int64(syscall.ENOMEM)<<32 | 5); err != verbs.ErrQueueFull { //nolint:errorlint // never wrapped
		t.Errorf("ENOMEM is %v", err)
	}
	if err := postError(int64(syscall.EINVAL) << 32); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("EINVAL is %v", err)
	}
}

package vmlab_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/test/vmlab"
)

const siwTarget = "iqn.2026-11.com.example:siw"

// siwServer serves a memory disk over software iWARP on the host's loopback. At the
// end of the test nothing of it may be in use.
func siwServer(t *testing.T) netip.AddrPort {
	t.Helper()
	prov := softiwarp.New(softiwarp.Config{})
	srv, err := iserd.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	disk, err := memory.New(memory.Options{Size: 512 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddTarget(t.Context(), siwTarget, iserd.AnyInitiator(), iserd.LUN(0, disk, iserd.Thin())); err != nil {
		t.Fatal(err)
	}
	addr, _, err := srv.AddISERPortal(t.Context(), prov, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		u, err := srv.RDMAUsage(ctx)
		for deadline := time.Now().Add(10 * time.Second); err == nil && u.Connections+int(u.InUse) != 0 && time.Now().Before(deadline); u, err = srv.RDMAUsage(ctx) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil || u.Connections != 0 || u.InUse != 0 {
			t.Errorf("still in use: %+v, %v", u, err)
		}
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := prov.Close(); err != nil {
			t.Error(err)
		}
	})
	return addr
}

// siwKernels are kernels(), but 6.1 alone unless more was asked for.
func siwKernels() []vmlab.Kernel {
	if os.Getenv("ISERD_VM_KERNEL") == "" && os.Getenv("ISERD_VM_FULL") == "" {
		return []vmlab.Kernel{vmlab.Kernel61}
	}
	return kernels()
}

// shareSIW copies siw.ko into a guest's shared directory.
func shareSIW(t *testing.T, k vmlab.Kernel) string {
	t.Helper()
	b, err := os.ReadFile(vmlab.SIW(t, k))
	if err != nil {
		t.Fatal(err)
	}
	share := t.TempDir()
	if err := os.WriteFile(filepath.Join(share, "siw.ko"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return share
}

// siwUp brings siw0 up on the guest's network device.
const siwUp = `
	net_user
	modprobe rdma_cm
	modprobe ib_uverbs
	modprobe libcrc32c || true # built in, in newer kernels
	insmod /lab/siw.ko || fail "siw.ko"
	netdev=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
	rdma link add siw0 type siw netdev "$netdev"
	rdma link show
`

// The kernel's initiator, ib_iser, reaches iserd on a host without any RDMA adapter,
// through the kernel's own software iWARP: a login, verified I/O from 4 KiB to
// 1 MiB, a file system.
func TestSIWInitiator(t *testing.T) {
	vmlab.Gate(t)
	for _, kernel := range siwKernels() {
		t.Run(string(kernel), func(t *testing.T) {
			addr := siwServer(t)
			r := vmlab.Boot(t, vmlab.Guest{
				Kernel:  kernel,
				Share:   shareSIW(t, kernel),
				Timeout: 8 * time.Minute,
				Env:     map[string]string{"TARGET": siwTarget, "PORT": strconv.Itoa(int(addr.Port()))},
				Script: siwUp + `
					modprobe ib_iser max_sectors=2048
					modprobe sd_mod
					mkdir -p /etc/iscsi /var/lib/iscsi
					echo "InitiatorName=iqn.2026-11.com.example:siw-initiator" >/etc/iscsi/initiatorname.iscsi
					iscsid -f >/tmp/iscsid.log 2>&1 &
					sleep 1
					iscsiadm -m iface -I soft -o new
					iscsiadm -m iface -I soft -o update -n iface.transport_name -v iser
					iscsiadm -m discoverydb -t st -p $HOST:$PORT -I soft -o nonpersistent --discover
					T="-m node -T $TARGET -p $HOST:$PORT,1 -I soft"
					iscsiadm $T -o new
					iscsiadm $T --login || { cat /tmp/iscsid.log; dmesg | tail -n 20; fail login; }
					d=
					for i in 1 2 3 4 5 6 7 8 9 10; do
						d=$(ls /sys/class/iscsi_session/session*/device/target*/*/block 2>/dev/null | grep sd) && [ -b "/dev/$d" ] && break
						sleep 1
					done
					[ -b "/dev/$d" ] || fail "no disk"
					most=$(cat /sys/block/$d/queue/max_hw_sectors_kb)
					echo "$most" >/sys/block/$d/queue/max_sectors_kb
					say "up to $most KiB in a command"
					for bs in 4k 16k 64k 256k 1m; do
						fio --name=v$bs --filename=/dev/$d --direct=1 --rw=randrw --bs=$bs --size=64m --io_size=16m \
							--iodepth=16 --ioengine=libaio --verify=crc32c --verify_fatal=1 --randrepeat=0 --minimal >/tmp/fio.out || {
							cat /tmp/fio.out; dmesg | tail -n 20; fail "fio $bs"; }
						say "fio $bs good at $(cut -d' ' -f1 /proc/uptime)"
					done
					dd if=/dev/urandom of=/tmp/random bs=1M count=16 2>/dev/null
					mkfs.ext4 -q /dev/$d
					mount /dev/$d /mnt
					cp /tmp/random /mnt/x
					umount /mnt
					iscsiadm $T --logout
					iscsiadm $T --login
					sleep 2
					d=$(ls /sys/class/iscsi_session/session*/device/target*/*/block | grep sd)
					fsck.ext4 -fn /dev/$d
					mount /dev/$d /mnt
					cmp /tmp/random /mnt/x || fail "file differs"
					umount /mnt
					say "file system good"
					iscsiadm $T --logout
					rdma resource show`,
			})
			if bad := r.Trouble(); len(bad) > 0 {
				t.Errorf("kernel: %q", bad)
			}
			for _, want := range []string{"fio 1m good", "vmlab: file system good"} {
				if !strings.Contains(r.Output, want) {
					t.Errorf("output lacks %q", want)
				}
			}
		})
	}
}

// lioUp serves a disk of 256 MiB in memory by LIO, the kernel's target, over iSER on
// siw. It answers immediate data as InitialR2T=Yes, ImmediateData=Yes has it.
const lioUp = siwUp + `
	modprobe target_core_mod
	mkdir -p /etc/target
	modprobe iscsi_target_mod
	modprobe ib_isert || fail "ib_isert"
	mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
	lio=/sys/kernel/config/target
	mkdir -p $lio/core/rd_mcp_0/disk
	echo rd_pages=65536 >$lio/core/rd_mcp_0/disk/control
	echo 1 >$lio/core/rd_mcp_0/disk/enable
	tpg=$lio/iscsi/$TARGET/tpgt_1
	mkdir -p $tpg/lun/lun_0
	# LIO listens by TCP and by iSER, and siw needs the TCP port: that listener
	# goes where nobody sees it, into a network namespace of its own.
	unshare -n mkdir $tpg/np/10.0.2.15:3260
	ln -s $lio/core/rd_mcp_0/disk $tpg/lun/lun_0/disk
	echo 0 >$tpg/attrib/authentication
	echo 1 >$tpg/attrib/generate_node_acls
	echo 0 >$tpg/attrib/demo_mode_write_protect
	echo 1 >$tpg/np/10.0.2.15:3260/iser || { dmesg | tail -n 20; fail "iser portal"; }
	echo 1 >$tpg/enable
`

// Our initiator over our software iWARP reaches the kernel's target, LIO's isert,
// over the kernel's software iWARP: data of many sizes is written and read back,
// with and without CRC and Send with Invalidate, and iserd bench verifies a load.
func TestSIWTarget(t *testing.T) {
	vmlab.Gate(t)
	iserd := filepath.Join(t.TempDir(), "iserd")
	vmlab.Build(t, iserd, "github.com/iserd/iserd/cmd/iserd")
	for _, kernel := range siwKernels() {
		t.Run(string(kernel), func(t *testing.T) { siwWithLIO(t, kernel, iserd) })
	}
}

// siwWithLIO is TestSIWTarget with one kernel; iserd is the program.
func siwWithLIO(t *testing.T, kernel vmlab.Kernel, iserd string) {
	t.Helper()
	vm := vmlab.Start(t, vmlab.Guest{
		Kernel:  kernel,
		Share:   shareSIW(t, kernel),
		Forward: []int{3260},
		Timeout: 8 * time.Minute,
		Env:     map[string]string{"TARGET": siwTarget},
		Script: lioUp + `
			say ready
			while ! [ -e /lab/done ]; do sleep 1; done
			sleep 1
			rdma resource show`,
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	vm.WaitLine(ctx, "vmlab: ready")
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(vm.Port(3260)))
	for _, crc := range []bool{false, true} {
		for _, invalidate := range []bool{false, true} {
			t.Run(fmt.Sprintf("CRC=%v/invalidate=%v", crc, invalidate), func(t *testing.T) {
				writeRead(t, addr, softiwarp.Config{CRC: crc}, rdma.Options{Invalidate: invalidate})
			})
		}
	}
	for _, blocks := range []int{8, 128, 2048} {
		t.Run(fmt.Sprintf("%d KiB, 16 in flight", blocks/2), func(t *testing.T) { load(t, addr, blocks) })
	}
	t.Run("bench", func(t *testing.T) { // the last: it does not wait for LIO
		cmd := exec.CommandContext(t.Context(), iserd, "bench", "-m", "randrw", "--verify", "--overwrite", "-b", "16K", "-q", "16", "-t", "3s",
			"--no-progress", fmt.Sprintf("iser://%v/%s/0", addr, siwTarget))
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
	})
	vm.Signal("done")
	r := vm.Wait()
	if bad := r.Trouble(); len(bad) > 0 {
		t.Errorf("kernel: %s", r.Kernel[max(0, len(r.Kernel)-8000):])
	}
}

// siwLogin opens a session with LIO.
func siwLogin(ctx context.Context, t *testing.T, addr netip.AddrPort, cfg softiwarp.Config, o rdma.Options) *initiator.Session {
	t.Helper()
	o.Linger = 2 * time.Second
	c, err := rdma.Dial(ctx, softiwarp.New(cfg), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := initiator.Login(ctx, c, initiator.Options{TargetName: siwTarget, Extra: rdma.Keys()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for range 3 { // unit attentions
		_, _ = s.Exec(ctx, 0, make([]byte, 6), nil, 0)
	}
	return s
}

// writeRead writes and reads blocks of many sizes over one session.
func writeRead(t *testing.T, addr netip.AddrPort, cfg softiwarp.Config, o rdma.Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := siwLogin(ctx, t, addr, cfg, o)
	for _, blocks := range []int{1, 7, 8, 15, 16, 17, 64, 255, 1024, 2048, 8192} {
		if err := compare(ctx, s, 256, blocks); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Logout(ctx); err != nil {
		t.Error(err)
	}
}

// load has 16 writers, each of which reads what it wrote.
func load(t *testing.T, addr netip.AddrPort, blocks int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := siwLogin(ctx, t, addr, softiwarp.Config{}, rdma.Options{})
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for range max(1, 256/blocks) {
				if err := compare(ctx, s, n*blocks, blocks); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.Logout(ctx); err != nil {
		t.Error(err)
	}
}

// compare writes random blocks and reads them.
func compare(ctx context.Context, s *initiator.Session, lba, blocks int) error {
	data := make([]byte, blocks*512)
	rand.Read(data)
	cdb := []byte{0x2a, 0, 0, byte(lba >> 16), byte(lba >> 8), byte(lba), 0, byte(blocks >> 8), byte(blocks), 0}
	r, err := s.Exec(ctx, 0, cdb, data, 0)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("write of %d blocks: %w", blocks, err)
	}
	cdb[0] = 0x28
	if r, err = s.Exec(ctx, 0, cdb, nil, len(data)); err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("read of %d blocks: %w", blocks, err)
	}
	if !bytes.Equal(r.Data, data) {
		return fmt.Errorf("%d blocks from %d: other data", blocks, lba)
	}
	return nil
}

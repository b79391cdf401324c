package vmlab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/vmlab"
)

// iserTarget is the configuration of the tests' target.
const iserTarget = `
log {
  level = "debug"
}
portal_group "rdma" {
  tag = 1
  portal "10.98.0.1:3260" { transport = "iser" }
  portal "127.0.0.1:3261" {}
}
backend "memory" "disk" { size = "512MiB" }
target "iqn.2026-11.com.example:vm" {
  insecure = true
  lun "0" {
    backend = backend.memory.disk
    thin    = true
  }
}
`

// The kernel's own initiator, ib_iser, works with iserd over soft-RoCE: discovery,
// login, file systems, verified I/O of all sizes, logout and login many times.
func TestISER(t *testing.T) {
	vmlab.Gate(t)
	for _, kernel := range []vmlab.Kernel{vmlab.Kernel61, vmlab.Kernel612} {
		t.Run(string(kernel), func(t *testing.T) {
			share := t.TempDir()
			vmlab.Build(t, filepath.Join(share, "iserd"), "github.com/iserd/iserd/cmd/iserd")
			r := vmlab.Boot(t, vmlab.Guest{
				Kernel:  kernel,
				Share:   share,
				Timeout: 9 * time.Minute,
				Env:     map[string]string{"CONFIG": iserTarget},
				Script: `
					rxe_up 10.98.0.1 10.98.0.2
					/lab/iserd rdma
					echo "$CONFIG" >/tmp/iserd.hcl
					/lab/iserd serve -c /tmp/iserd.hcl >/lab/iserd.log 2>&1 &
					daemon=$!
					trap 'tail -30 /lab/iserd.log' EXIT
					sleep 3
					modprobe ib_iser
					modprobe sd_mod
					mkdir -p /etc/iscsi /var/lib/iscsi
					echo "InitiatorName=iqn.2026-11.com.example:vm-initiator" >/etc/iscsi/initiatorname.iscsi
					iscsid -f >/tmp/iscsid.log 2>&1 &
					sleep 2
					iscsiadm -m iface -I rdma -o new || true
					iscsiadm -m iface -I rdma -o update -n iface.transport_name -v iser
					say discovery
					iscsiadm -m discoverydb -t st -p 10.98.0.1:3260 -I rdma --discover
					say login
					T="-m node -T iqn.2026-11.com.example:vm -p 10.98.0.1:3260,1 -I rdma"
					iscsiadm $T --login || { cat /tmp/iscsid.log; fail login; }
					iscsi_wait() {
						for i in 1 2 3 4 5 6 7 8 9 10; do
							d=$(ls /sys/class/iscsi_session/session*/device/target*/*/block 2>/dev/null | grep sd) && [ -b /dev/$d ] && return
							sleep 1
						done
						fail "no disk"
					}
					iscsi_wait
					say "disk $d"
					cat /sys/block/$d/queue/max_sectors_kb
					dd if=/dev/urandom of=/tmp/random bs=1M count=8 2>/dev/null
					dd if=/tmp/random of=/dev/$d bs=1M oflag=direct
					dd if=/dev/$d of=/tmp/back bs=1M count=8 iflag=direct
					cmp /tmp/random /tmp/back || fail "data differ"
					say fio
					for bs in 512 4k 64k 512k; do
						fio --name=v$bs --filename=/dev/$d --direct=1 --rw=randrw --bs=$bs --size=16m --io_size=4m \
							--iodepth=16 --ioengine=libaio --verify=crc32c --verify_fatal=1 --randrepeat=0 --minimal >/tmp/fio.out || {
							cat /tmp/fio.out; fail "fio $bs"; }
						say "fio $bs good"
					done
					say mkfs
					mkfs.ext4 -q /dev/$d
					mount /dev/$d /mnt && cp /tmp/random /mnt/x && umount /mnt
					fsck.ext4 -fn /dev/$d
					say logout
					iscsiadm $T --logout
					for imm in No Yes No Yes; do
						iscsiadm $T -n node.session.iscsi.ImmediateData -o update -v $imm
						iscsiadm $T --login >/dev/null || fail "login with ImmediateData=$imm"
						iscsi_wait
						dd if=/tmp/random of=/dev/$d bs=4k count=500 oflag=direct 2>/dev/null
						dd if=/dev/$d of=/tmp/back bs=64k count=32 iflag=direct 2>/dev/null
						cmp -n 2048000 /tmp/random /tmp/back || fail "data differ with ImmediateData=$imm"
						iscsiadm $T --logout >/dev/null || fail "logout"
					done
					rxe_counters
					rdma resource show
					kill $daemon
					wait $daemon
					rdma resource show`,
			})
			if bad := r.Trouble(); len(bad) > 0 {
				t.Errorf("kernel: %q", bad)
			}
			for _, want := range []string{"fio 512k good", "vmlab: logout"} {
				if !strings.Contains(r.Output, want) {
					t.Errorf("output lacks %q", want)
				}
			}
			if strings.Contains(r.Output, "rcvd_rnr_err") {
				t.Error("a receive was missing: RNR NAK")
			}
		})
	}
}

// kernels are those to test with: both, or the one in ISERD_VM_KERNEL, "6.1" or
// "6.12".
func kernels() []vmlab.Kernel {
	switch os.Getenv("ISERD_VM_KERNEL") {
	case "6.1":
		return []vmlab.Kernel{vmlab.Kernel61}
	case "6.12":
		return []vmlab.Kernel{vmlab.Kernel612}
	}
	return []vmlab.Kernel{vmlab.Kernel61, vmlab.Kernel612}
}

// checkKernel fails the test when a guest's kernel has warned of anything.
func checkKernel(t *testing.T, r vmlab.Result) {
	t.Helper()
	if bad := r.Trouble(); len(bad) > 0 {
		t.Errorf("kernel: %q", bad)
	}
}

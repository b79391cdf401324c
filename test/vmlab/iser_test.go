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

// The adapter is taken away under load and comes back: initiators recover, and
// nothing is left of the old one.
func TestISERRemoval(t *testing.T) {
	vmlab.Gate(t)
	share := t.TempDir()
	vmlab.Build(t, filepath.Join(share, "iserd"), "github.com/iserd/iserd/cmd/iserd")
	r := vmlab.Boot(t, vmlab.Guest{
		Share:   share,
		Timeout: 6 * time.Minute,
		Env:     map[string]string{"CONFIG": iserTarget},
		Script: `
			rxe_up 10.98.0.1 10.98.0.2
			echo "$CONFIG" >/tmp/iserd.hcl
			/lab/iserd serve -c /tmp/iserd.hcl >/lab/iserd.log 2>&1 &
			daemon=$!
			trap 'tail -40 /lab/iserd.log | cut -c1-200' EXIT
			sleep 3
			modprobe ib_iser
			modprobe sd_mod
			mkdir -p /etc/iscsi /var/lib/iscsi
			echo "InitiatorName=iqn.2026-11.com.example:vm-initiator" >/etc/iscsi/initiatorname.iscsi
			iscsid -f >/tmp/iscsid.log 2>&1 &
			sleep 2
			iscsiadm -m iface -I rdma -o new
			iscsiadm -m iface -I rdma -o update -n iface.transport_name -v iser
			iscsiadm -m discoverydb -t st -p 10.98.0.1:3260 -I rdma --discover
			T="-m node -T iqn.2026-11.com.example:vm -p 10.98.0.1:3260,1 -I rdma"
			iscsiadm $T --login
			for i in 1 2 3 4 5 6 7 8 9 10; do
				d=$(ls /sys/class/iscsi_session/session*/device/target*/*/block 2>/dev/null | grep sd) && [ -b /dev/$d ] && break
				sleep 1
			done
			rdma resource show
			fds=$(ls /proc/$daemon/fd | wc -l)
			for round in 1 2 3; do
				fio --name=load --filename=/dev/$d --direct=1 --rw=randrw --bs=4k --size=16m --io_size=6m --iodepth=8 \
					--ioengine=libaio --verify=crc32c --verify_fatal=1 --minimal >/tmp/fio.out &
				load=$!
				sleep 1
				rdma link delete rxe0
				sleep 2
				rdma link add rxe0 type rxe netdev wire0
				wait $load || { cat /tmp/fio.out; dmesg | tail -20; fail "fio in round $round"; }
				say "round $round good"
			done
			sleep 3
			rdma resource show
			echo "vmlab: descriptors $fds $(ls /proc/$daemon/fd | wc -l)"
			iscsiadm $T --logout
			kill $daemon
			wait $daemon`,
	})
	if !strings.Contains(r.Output, "round 3 good") {
		t.Error("initiator did not recover")
	}
}

// iserd beside tgt, both over iSER on soft-RoCE, alternating in one run: I/Os a
// second, and CPU time of the target for each. Emulated CPUs distort the values;
// the ratios are what counts. It runs when ISERD_VM_BENCH is set.
func TestISERBench(t *testing.T) {
	vmlab.Gate(t)
	if os.Getenv("ISERD_VM_BENCH") == "" {
		t.Skip("set ISERD_VM_BENCH=1 to measure")
	}
	share := t.TempDir()
	vmlab.Build(t, filepath.Join(share, "iserd"), "github.com/iserd/iserd/cmd/iserd")
	vmlab.Boot(t, vmlab.Guest{
		Share:   share,
		Memory:  3072,
		Timeout: 9 * time.Minute,
		Env:     map[string]string{"CONFIG": strings.NewReplacer("debug", "warn", "3260", "3264").Replace(iserTarget)},
		Script: `
			rxe_up 10.98.0.1 10.98.0.2
			echo "$CONFIG" >/tmp/iserd.hcl
			/lab/iserd serve -c /tmp/iserd.hcl >/lab/iserd.log 2>&1 &
			iserd=$!
			mkdir -p /var/run/tgtd
			tgtd -f --iser pool_sz_mb=256 --iscsi portal=127.0.0.1:3266 >/lab/tgt.log 2>&1 &
			tgt=$!
			trap 'for l in iserd tgt; do tail -n 5 /lab/$l.log | cut -c1-200; done' EXIT
			sleep 5
			truncate -s 512M /dev/shm/disk
			tgtadm --lld iser --op new --mode target --tid 1 -T iqn.2026-11.com.example:tgt
			tgtadm --lld iser --op new --mode logicalunit --tid 1 --lun 1 -b /dev/shm/disk
			tgtadm --lld iser --op bind --mode target --tid 1 -I ALL
			tgtadm --lld iser --op bind --mode target --tid 1 -Q iqn.2026-11.com.example:vm-initiator
			modprobe ib_iser
			modprobe sd_mod
			mkdir -p /etc/iscsi /var/lib/iscsi
			echo "InitiatorName=iqn.2026-11.com.example:vm-initiator" >/etc/iscsi/initiatorname.iscsi
			iscsid -f >/tmp/iscsid.log 2>&1 &
			sleep 2
			iscsiadm -m iface -I rdma -o new
			iscsiadm -m iface -I rdma -o update -n iface.transport_name -v iser
			disk() { # TARGET PORTAL: logs in and says the disk
				before=$(ls /sys/block | grep sd || true)
				iscsiadm -m node -T $1 -p $2 -I rdma -o new >/dev/null
				iscsiadm -m node -T $1 -p $2 -I rdma --login >/dev/null || fail "login $1"
				for i in 1 2 3 4 5 6 7 8 9 10; do
					for d in $(ls /sys/block | grep sd || true); do
						case " $before " in *$d*) continue ;; esac
						[ "$(cat /sys/block/$d/size)" != 0 ] && echo $d && return
					done
					sleep 1
				done
				fail "no disk"
			}
			a=$(disk iqn.2026-11.com.example:vm 10.98.0.1:3264,1)
			b=$(disk iqn.2026-11.com.example:tgt 10.98.0.1:3260,1)
			ticks() { sed 's/.*) //' /proc/$1/stat | awk '{print $12+$13}'; }
			run() { # NAME PID DISK BS QD RW
				t0=$(ticks $2)
				fio --name=x --filename=/dev/$3 --direct=1 --rw=$6 --bs=$4 --size=64m --iodepth=$5 --ioengine=libaio \
					--time_based --runtime=4 --minimal >/tmp/fio.out
				t1=$(ticks $2)
				awk -F';' -v n=$1 -v w="$6 $4 qd$5" -v dt=$((t1-t0)) '{
					io=$8+$49; printf "vmlab: %-6s %-20s %7d IOPS %8.1f us CPU per I/O\n", n, w, io, dt*10000/(io*4)}' /tmp/fio.out
			}
			for round in 1 2; do
				for w in "4k 1 randread" "4k 32 randread" "4k 1 randwrite" "4k 32 randwrite" "128k 8 randread"; do
					run iserd $iserd $a $w
					run tgt $tgt $b $w
				done
			done
			iscsiadm -m node --logout >/dev/null
			kill $iserd
			kill -9 $tgt`,
	})
}

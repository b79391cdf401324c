package vmlab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/vmlab"
)

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

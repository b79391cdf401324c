package vmlab_test

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/iserd/iserd/test/vmlab"
)

// benchTarget has iSER and TCP at ports that tgt and LIO leave.
const benchTarget = `
log {
  level = "warn"
}
portal_group "rdma" {
  tag = 1
  portal "10.98.0.1:3264" {
    transport = "iser"
    iser {
      remote_invalidation = false
    }
  }
  portal "10.98.0.1:3265" {
    transport = "tcp"
  }
}
backend "memory" "disk" { size = "256MiB" }
target "iqn.2026-11.com.example:iserd" {
  insecure = true
  lun "0" {
    backend = backend.memory.disk
  }
}
`

// What TestISERBench runs: fio's block size, queue depth and kind.
const benchJobs = "4k:1:randread 4k:32:randread 4k:1:randwrite 4k:32:randwrite 128k:8:randread 128k:8:randwrite"

// benchKernel is 6.12 when nothing else is asked for: soft-RoCE of 6.1 does the work
// of adapter and wire, the initiator's too, on the account of whatever process runs.
func benchKernel() vmlab.Kernel {
	if os.Getenv("ISERD_VM_KERNEL") == "" {
		return vmlab.Kernel612
	}
	return kernels()[0]
}

// sample is one line of the benchmark: I/Os a second, and µs of CPU for each, of
// the target's process and of the whole guest.
type sample struct{ iops, own, all float64 }

// iserd beside tgt and LIO, over iSER on soft-RoCE and over TCP, all in one guest
// by turns. Emulated CPUs distort the values: the ratios are what counts. It runs
// when ISERD_VM_BENCH is set.
func TestISERBench(t *testing.T) {
	vmlab.Gate(t)
	if os.Getenv("ISERD_VM_BENCH") == "" {
		t.Skip("set ISERD_VM_BENCH=1 to measure (or: make bench-iser)")
	}
	share := t.TempDir()
	shareDaemon(t, share)
	r := vmlab.Boot(t, vmlab.Guest{
		Kernel:  benchKernel(),
		Share:   share,
		Memory:  3584,
		Timeout: 40 * time.Minute,
		Env: map[string]string{
			"CONFIG": benchTarget, "JOBS": setting("ISERD_VM_JOBS", benchJobs),
			"ROUNDS": setting("ISERD_VM_ROUNDS", "5"), "PEERS": setting("ISERD_VM_PEERS", "iserd tgt lio"),
			"PROFILE": os.Getenv("ISERD_VM_PROFILE"),
		},
		Script: `
			rxe_up 10.98.0.1 10.98.0.2
			iserd_start
			mkdir -p /run/tgtd /etc/target
			tgtd -f --iser pool_sz_mb=256 --iscsi portal=10.98.0.1:3266 >/tmp/tgt.log 2>&1 &
			tgt=$!
			for kind in iser iscsi; do
				truncate -s 256M /dev/shm/$kind
				await "tgtd does not answer" tgtadm --lld $kind --op show --mode sys
				n=1
				[ $kind = iser ] || n=2
				tgtadm --lld $kind --op new --mode target --tid $n -T iqn.2026-11.com.example:tgt-$kind
				tgtadm --lld $kind --op new --mode logicalunit --tid $n --lun 1 -b /dev/shm/$kind
				tgtadm --lld $kind --op bind --mode target --tid $n -I ALL
				[ $kind = iscsi ] || tgtadm --lld $kind --op bind --mode target --tid $n -Q iqn.2026-11.com.example:vm-initiator
			done
			# LIO: one portal for each transport, anybody may log in.
			modprobe target_core_mod
			modprobe iscsi_target_mod
			modprobe ib_isert
			c=/sys/kernel/config/target
			[ -d $c ] || mount -t configfs configfs /sys/kernel/config
			mkdir -p $c/core/rd_mcp_0/disk
			echo rd_pages=65536 >$c/core/rd_mcp_0/disk/control
			echo 1 >$c/core/rd_mcp_0/disk/enable
			p=$c/iscsi/iqn.2026-11.com.example:lio/tpgt_1
			mkdir -p $p/lun/lun_0 $p/np/10.98.0.1:3267 $p/np/10.98.0.1:3268
			echo 1 >$p/np/10.98.0.1:3267/iser
			ln -s $c/core/rd_mcp_0/disk $p/lun/lun_0/disk
			for a in generate_node_acls:1 demo_mode_write_protect:0 cache_dynamic_acls:1 authentication:0; do
				echo ${a#*:} >$p/attrib/${a%:*}
			done
			echo 1 >$p/enable

			# Without invalidation by the target: soft-RoCE of 6.1 has its fault there.
			iser_start always_register=N
			modprobe iscsi_tcp
			disk() { # TARGET PORTAL IFACE: logs in and says the disk
				before=$(ls /sys/block)
				iscsiadm -m node -T $1 -p $2 -I $3 -o new >/dev/null
				iscsiadm -m node -T $1 -p $2 -I $3 --login >/dev/null || fail "login $1" >&2
				for i in $(seq 100); do
					for d in $(ls /sys/block | grep sd || true); do
						case $before in *$d*) continue ;; esac
						[ "$(cat /sys/block/$d/size)" != 0 ] && [ -b /dev/$d ] && echo $d && return
					done
					sleep 0.1
				done
				fail "no disk of $1" >&2
			}
			for peer in $PEERS; do
				case $peer in
				iserd) a="iserd 10.98.0.1:3264,1" b="iserd 10.98.0.1:3265,1" ;;
				tgt) a="tgt-iser 10.98.0.1:3260,1" b="tgt-iscsi 10.98.0.1:3266,1" ;;
				lio) a="lio 10.98.0.1:3267,1" b="lio 10.98.0.1:3268,1" ;;
				esac
				eval disk_${peer}_iser=$(disk iqn.2026-11.com.example:$a rdma)
				eval disk_${peer}_tcp=$(disk iqn.2026-11.com.example:$b default)
			done
			iserd=$daemon lio=
			own() { [ -z "$1" ] && echo 0 || sed 's/.*) //' /proc/$1/stat | awk '{print $12+$13}'; }
			all() { awk '$1 == "cpu" {print $2+$3+$4+$7+$8}' /proc/stat; }
			# What the load itself costs is no target's: no scheduler and no statistics
			# of the disks, fio's cheapest engine, and the CPU of the initiator's end of
			# the wire, as if on a machine of its own; the targets may use both. At 128 KiB
			# that one CPU would be the limit, whatever the target.
			for d in /sys/block/sd*; do
				echo none >$d/queue/scheduler
				echo 0 >$d/queue/iostats
				echo 0 >$d/queue/add_random
			done
			engine="--direct=1 --ioengine=io_uring --fixedbufs --registerfiles --gtod_reduce=1 --norandommap --time_based --minimal"
			run() { # PEER TRANSPORT JOB
				eval "d=\$disk_$1_$2 pid=\$$1"
				bs=${3%%:*} kind=${3##*:} depth=${3#*:}
				t0=$(own "$pid") a0=$(all)
				cpus=1
				[ $bs != 128k ] || cpus=0,1
				timeout 60 taskset -c $cpus fio --name=x --filename=/dev/$d $engine --rw=$kind --bs=$bs --size=64m --iodepth=${depth%:*} --runtime=3 >/tmp/fio.out || { cat /tmp/fio.out; fail "fio $*"; }
				t1=$(own "$pid") a1=$(all)
				awk -F';' -v w="$1 $2 $3" -v own=$((t1-t0)) -v all=$((a1-a0)) '{
					n=($6+$47)/v; print "bench " w, ($8+$49), own*1e4/n, all*1e4/n}' v=${bs%k} /tmp/fio.out
			}
			for round in $(seq $ROUNDS); do
				for job in $JOBS; do
					for transport in iser tcp; do
						for peer in $PEERS; do
							run $peer $transport $job
						done
					done
				done
			done
			# Where the time goes: what is below each of these functions, in percent of
			# the process's CPU time. ib_uverbs_post_send is the doorbell, within which
			# soft-RoCE makes the packets; handle_softirqs has those that come in.
			profile() { # PEER
				eval "d=\$disk_$1_iser pid=\$$1"
				taskset -c 1 fio --name=x --filename=/dev/$d $engine --rw=randread --bs=4k --size=64m --iodepth=32 --runtime=40 >/tmp/fio.out & load=$!
				sleep 1
				perf=$(ls /usr/bin/perf_* /usr/bin/perf | head -n 1)
				$perf record -F 997 -e cpu-clock -p $pid -g -o /tmp/perf.data sleep 10 >/dev/null 2>&1
				kill $load || true
				wait $load || true
				$perf report -i /tmp/perf.data --children --sort sym -g none --stdio 2>/dev/null | awk -v peer=$1 '
					$NF ~ /^(ib_uverbs_post_send|handle_softirqs|__schedule|do_futex|__x64_sys_pread64|do_epoll_wait|do_sys_poll|ib_uverbs_ioctl|runtime.(sysmon|goschedImpl|cgocall|memmove)|.*iscsi.\(\*Conn\).Receive|.*iser.\(\*Conn\).Turn)$/ {print "profile", peer, $1, $NF}'
			}
			[ -z "$PROFILE" ] || for peer in iserd tgt; do profile $peer; done
			kill -9 $tgt
			iscsiadm -m node --logout >/dev/null 2>&1 || true
			iserd_stop`,
	})
	t.Log("\n" + benchTable(t, r.Output))
	for line := range strings.Lines(r.Output) {
		if strings.HasPrefix(line, "profile ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// benchTable has the medians, and beside those of the peers the ratio of iserd's
// I/Os to theirs.
func benchTable(t *testing.T, out string) string {
	samples := map[string][]sample{}
	var jobs []string
	for line := range strings.Lines(out) {
		var peer, transport, job string
		var s sample
		if n, _ := fmt.Sscanf(line, "bench %s %s %s %f %f %f", &peer, &transport, &job, &s.iops, &s.own, &s.all); n != 6 {
			continue
		}
		samples[peer+transport+job] = append(samples[peer+transport+job], s)
		if !slices.Contains(jobs, job) {
			jobs = append(jobs, job)
		}
	}
	if len(jobs) == 0 {
		t.Fatal("nothing was measured")
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "job\ttransport\ttarget\tIOPS\tits CPU µs\tall CPU µs\tiserd's IOPS ×\tCPU ×\t")
	for _, job := range jobs {
		for _, transport := range []string{"iser", "tcp"} {
			ours := median(samples["iserd"+transport+job])
			for _, peer := range []string{"iserd", "tgt", "lio"} {
				m := median(samples[peer+transport+job])
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t\n",
					job, transport, peer, m.iops, m.own, m.all, ours.iops/m.iops, ours.own/m.own)
			}
		}
	}
	_ = w.Flush()
	return b.String() + bars(samples, jobs)
}

// bars says how iserd's iSER stands to tgt's: at 4 KiB it is to have 1.3 times its
// IOPS with 0.7 of its CPU time for each I/O, at 128 KiB its throughput.
func bars(samples map[string][]sample, jobs []string) string {
	var b strings.Builder
	for _, job := range jobs {
		ours, theirs := median(samples["iserd"+"iser"+job]), median(samples["tgt"+"iser"+job])
		if theirs.iops == 0 {
			continue
		}
		iops, cpu := ours.iops/theirs.iops, ours.own/theirs.own
		least, most := 1.3, 0.7
		if !strings.HasPrefix(job, "4k:") {
			least, most = 1, math.Inf(1)
		}
		verdict := "met"
		if iops < least || cpu > most {
			verdict = "MISSED"
		}
		fmt.Fprintf(&b, "bar %s: %s, IOPS × %.2f (%.1f), CPU × %.2f (%.1f)\n", job, verdict, iops, least, cpu, most)
	}
	return b.String()
}

// median is that of each value by itself.
func median(s []sample) sample {
	if len(s) == 0 {
		return sample{}
	}
	middle := func(value func(sample) float64) float64 {
		values := make([]float64, len(s))
		for i, x := range s {
			values[i] = value(x)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{
		middle(func(x sample) float64 { return x.iops }),
		middle(func(x sample) float64 { return x.own }),
		middle(func(x sample) float64 { return x.all }),
	}
}

package vmlab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab/target"
	"github.com/iserd/iserd/test/vmlab"
)

// iserTarget is the configuration of the tests' target. Soft-RoCE of Linux 6.1
// now and then fails the initiator's connection when the target invalidates its
// keys ("rxe_reg_fast_mr: ... not free"): the second portal doesn't.
const iserTarget = `
log {
  level = "debug"
}
portal_group "rdma" {
  tag = 1
  portal "10.98.0.1:3260" { transport = "iser" }
  portal "10.98.0.1:3262" {
    transport = "iser"
    iser {
      remote_invalidation = false
      initial_r2t         = false
    }
  }
  portal "127.0.0.1:3261" {
    transport = "tcp"
  }
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

// setting is an environment variable, or what holds without it.
func setting(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
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

// fewKernels are kernels, or the first of them when not all is asked for.
func fewKernels() []vmlab.Kernel {
	if os.Getenv("ISERD_VM_FULL") == "" {
		return kernels()[:1]
	}
	return kernels()
}

// iserGuest runs a script with iserd and the kernel's initiator: $PORTAL is a
// portal that works with the kernel's soft-RoCE. The test fails when the script
// does, or when the kernel warns.
func iserGuest(t *testing.T, k vmlab.Kernel, limit time.Duration, config, script string, env ...string) vmlab.Result {
	t.Helper()
	share := t.TempDir()
	shareDaemon(t, share)
	portal := "10.98.0.1:3260,1"
	if k == vmlab.Kernel61 {
		portal = "10.98.0.1:3262,1"
	}
	g := vmlab.Guest{
		Kernel: k, Share: share, Timeout: limit, Script: script,
		Env: map[string]string{"CONFIG": config, "TARGET": "iqn.2026-11.com.example:vm", "PORTAL": portal},
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		g.Env[name] = value
	}
	r := vmlab.Boot(t, g)
	if bad := r.Trouble(); len(bad) > 0 {
		t.Errorf("kernel: %q", bad)
	}
	return r
}

// shareDaemon puts iserd where guests find it.
func shareDaemon(t *testing.T, share string) {
	t.Helper()
	bin, err := target.Binary()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(share, "iserd"), b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Block sizes and queue depths of TestISER: a few by default, all of the matrix
// with ISERD_VM_FULL=1.
const (
	someJobs = "512:1 4k:128 64k:32 1m:4 8m:1"
	allSizes = "512 1k 2k 4k 8k 16k 32k 64k 128k 256k 512k 1m 2m 4m 8m"
	allDepth = "1 2 4 8 16 32 64 128"
)

func jobs() string {
	if os.Getenv("ISERD_VM_FULL") == "" {
		return someJobs
	}
	var all []string
	for size := range strings.FieldsSeq(allSizes) {
		for depth := range strings.FieldsSeq(allDepth) {
			all = append(all, size+":"+depth)
		}
	}
	return strings.Join(all, " ")
}

// The kernel's own initiator, ib_iser, works with iserd over soft-RoCE: discovery,
// login, ext4 and xfs, verified I/O of all sizes in every combination of
// ImmediateData and InitialR2T, each as it was asked for, and UNMAP.
func TestISER(t *testing.T) {
	vmlab.Gate(t)
	limit := 20 * time.Minute
	if os.Getenv("ISERD_VM_FULL") != "" {
		limit = time.Hour
	}
	for _, kernel := range kernels() {
		t.Run(string(kernel), func(t *testing.T) {
			iserGuest(t, kernel, limit, iserTarget, `
				rxe_up 10.98.0.1 10.98.0.2
				iserd_start
				/tmp/iserd rdma
				iser_start max_sectors=16384
				iscsiadm -m discoverydb -t st -p 10.98.0.1:3260 -I rdma --discover
				iser_node $TARGET $PORTAL
				iser_login
				disk=$(iser_disk 0)
				modprobe xfs
				head -c 16m /dev/urandom >/tmp/random
				for fs in ext4 xfs; do
					mkfs.$fs -q ${force:-} /dev/$disk
					mount /dev/$disk /mnt
					cp /tmp/random /mnt/x
					umount /mnt
					iser_logout
					iser_login
					disk=$(iser_disk 0)
					case $fs in
					ext4) fsck.ext4 -fn /dev/$disk ;;
					xfs) xfs_repair -n /dev/$disk >/dev/null 2>&1 ;;
					esac || fail "fsck of $fs"
					mount /dev/$disk /mnt
					cmp /tmp/random /mnt/x || fail "a file on $fs is another one"
					umount /mnt
					force=-f
					say "$fs good"
				done
				iser_logout
				for r2t in Yes No; do
					# Only this portal leaves the choice to the initiator.
					[ $r2t = Yes ] || iser_node $TARGET 10.98.0.1:3262,1
					for immediate in Yes No; do
						iser_set node.session.iscsi.InitialR2T $r2t
						iser_set node.session.iscsi.ImmediateData $immediate
						iser_login
						iser_negotiated InitialR2T $r2t
						iser_negotiated ImmediateData $immediate
						disk=$(iser_disk 0)
						cat /sys/block/$disk/queue/max_hw_sectors_kb >/sys/block/$disk/queue/max_sectors_kb
						for job in $JOBS; do
							bs=${job%:*}
							case $bs in *m) io=16m ;; 64k | 128k | 256k | 512k) io=6m ;; 512) io=64k ;; *) io=1m ;; esac
							verify --rw=randwrite --bs=$bs --iodepth=${job#*:} --size=384m --io_size=$io
						done
						iser_logout
						say "InitialR2T=$r2t ImmediateData=$immediate good, $(cat /sys/module/ib_iser/parameters/max_sectors) sectors"
					done
				done
				say "unmap"
				iser_login
				disk=$(iser_disk 0)
				dd if=/tmp/random of=/dev/$disk bs=1M oflag=direct 2>/dev/null
				blkdiscard -o 1M -l 4M /dev/$disk
				dd if=/tmp/random of=/dev/$disk bs=1M seek=2 skip=2 count=1 oflag=direct conv=notrunc 2>/dev/null
				{
					head -c 1M /tmp/random
					head -c 1M /dev/zero
					tail -c +2097153 /tmp/random | head -c 1M
					head -c 2M /dev/zero
					tail -c +5242881 /tmp/random
				} >/tmp/want
				dd if=/dev/$disk of=/tmp/back bs=1M count=16 iflag=direct 2>/dev/null
				cmp /tmp/want /tmp/back || fail "what was unmapped, or beside it, is not as it should be"
				iser_logout
				rxe_counters
				[ "$(rnr_naks)" = 0 ] || fail "$(rnr_naks) RNR NAKs: a receive was missing"
				iserd_stop
				rdma resource show`, "JOBS="+jobs())
		})
	}
}

package vmlab_test

import (
	"os"
	"testing"
	"time"

	"github.com/iserd/iserd/test/vmlab"
)

// The target's adapter is taken away under load and comes back, again and again:
// the initiator recovers, its data is right, and nothing of the old adapters is
// left in iserd.
func TestISERRemoval(t *testing.T) {
	vmlab.Gate(t)
	for _, kernel := range removalKernels() {
		t.Run(string(kernel), func(t *testing.T) {
			iserGuest(t, kernel, 12*time.Minute, iserTarget, `
				rxe_up 10.98.0.1 10.98.0.2
				iserd_start
				iser_start
				iser_node $TARGET $PORTAL
				for round in $(seq 0 $ROUNDS); do
					iser_login
					disk=$(iser_disk 0)
					logins=$(grep -c 'logged in:' /tmp/iserd.log)
					fio --name=load --filename=/dev/$disk --direct=1 --rw=randrw --bs=4k --size=16m --iodepth=8 --time_based \
						--runtime=4 --ioengine=libaio --verify=crc32c --verify_fatal=1 --minimal >/tmp/fio.out 2>&1 &
					load=$!
					sleep 1.$((round * 37 % 100))
					rdma link delete rxe0
					sleep 0.$((round * 61 % 100))
					rdma link add rxe0 type rxe netdev wire0
					loaded "in round $round"
					[ $(grep -c 'logged in:' /tmp/iserd.log) -gt $logins ] || fail "nobody has noticed"
					iser_logout
					# Round 0 brings what is made once.
					iserd_baseline "round $round"
				done
				# One that iserd has found but not used goes as well.
				timeout 10 rdma link delete rxe1 || fail "an adapter that is not used is in use"
				iserd_stop
				say "$ROUNDS rounds good"`, "ROUNDS="+setting("ISERD_VM_REMOVALS", "3"))
		})
	}
}

// removalKernels are kernels(), but 6.12 alone unless more was asked for: ib_iser of
// 6.1 now and then fails a command when its connection is lost (see iserGuest).
func removalKernels() []vmlab.Kernel {
	if os.Getenv("ISERD_VM_KERNEL") == "" && os.Getenv("ISERD_VM_FULL") == "" {
		return []vmlab.Kernel{vmlab.Kernel612}
	}
	return kernels()
}

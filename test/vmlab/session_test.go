package vmlab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/vmlab"
)

// Logins and logouts, of the kernel's initiator and of libiscsi, leave nothing
// behind.
func TestISERLogins(t *testing.T) {
	vmlab.Gate(t)
	iserGuest(t, vmlab.Kernel612, 40*time.Minute, iserTarget, `
		rxe_up 10.98.0.1 10.98.0.2
		iserd_start
		iser_start
		iser_node $TARGET $PORTAL
		inquire() { iscsi-inq -i iqn.2026-11.com.example:libiscsi iser://10.98.0.1:3260/$TARGET/0 >/tmp/inquiry || fail "libiscsi, time $1"; }
		inquire 0
		iser_login
		iser_disk 0
		iser_logout
		iserd_baseline "the first login"
		for n in $(seq $LOGINS); do
			inquire $n
			[ $((n % 10)) != 0 ] || { iser_login; iser_logout; }
		done
		cat /tmp/inquiry
		[ $(grep -c 'logged in:' /tmp/iserd.log) -ge $((LOGINS + LOGINS / 10)) ] || fail "too few logins"
		iserd_baseline "$LOGINS logins of libiscsi and $((LOGINS / 10)) of the kernel"
		[ "$(rnr_naks)" = 0 ] || fail "$(rnr_naks) RNR NAKs: a receive was missing"
		iserd_stop`, "LOGINS="+setting("ISERD_VM_LOGINS", "100"))
}

// fileTarget is iserTarget with a disk that outlives the daemon and can grow.
var fileTarget = strings.NewReplacer(`backend "memory" "disk" { size = "512MiB" }`,
	`backend "file" "disk" { path = "/dev/shm/disk" }`, "backend.memory.disk", "backend.file.disk").Replace(iserTarget)

// The daemon is killed under load and started again: the initiator recovers, and
// reads what it has written.
func TestISERKill(t *testing.T) {
	vmlab.Gate(t)
	for _, kernel := range fewKernels() {
		t.Run(string(kernel), func(t *testing.T) {
			iserGuest(t, kernel, 12*time.Minute, fileTarget, `
				rxe_up 10.98.0.1 10.98.0.2
				truncate -s 512M /dev/shm/disk
				iserd_start
				iser_start
				iser_node $TARGET $PORTAL
				iser_login
				disk=$(iser_disk 0)
				for round in $(seq $ROUNDS); do
					fio --name=load --filename=/dev/$disk --direct=1 --rw=randrw --bs=4k --size=16m --iodepth=8 --time_based \
						--runtime=4 --ioengine=libaio --verify=crc32c --verify_fatal=1 --minimal >/tmp/fio.out 2>&1 &
					load=$!
					sleep 1.$((round * 37 % 100))
					kill -9 $daemon
					wait $daemon || true
					iserd_start
					loaded "in round $round"
					await "the session does not come back" logged_in
				done
				iser_logout
				iserd_stop
				say "$ROUNDS rounds good"`, "ROUNDS="+setting("ISERD_VM_KILLS", "2"))
		})
	}
}

// One logical unit over iSER and TCP at once: a reservation taken over the one is
// a conflict over the other, what is written over the one is read over the other,
// and a new size is told to both.
func TestISERAndTCP(t *testing.T) {
	vmlab.Gate(t)
	iserGuest(t, vmlab.Kernel61, 10*time.Minute, fileTarget, `
		rxe_up 10.98.0.1 10.98.0.2
		truncate -s 512M /dev/shm/disk
		iserd_start
		modprobe iscsi_tcp
		modprobe sg
		iser_start
		iser_node $TARGET $PORTAL
		iser_login
		a=$(iser_disk 0)
		iscsiadm -m node -T $TARGET -p 127.0.0.1:3261,1 -I default -o new >/dev/null
		iscsiadm -m node -T $TARGET -p 127.0.0.1:3261,1 -I default --login >/dev/null || fail "login over TCP"
		other() { for d in /sys/block/sd*; do d=${d##*/}; [ $d = $a ] || [ "$(cat /sys/block/$d/size)" = 0 ] || { echo $d; return; }; done; return 1; }
		await "no disk over TCP" other
		b=$(other)
		iscsiadm -m session

		say "data"
		head -c 1m /dev/urandom >/tmp/random
		dd if=/tmp/random of=/dev/$a bs=64k oflag=direct 2>/dev/null
		dd if=/dev/$b of=/tmp/back bs=64k count=16 iflag=direct 2>/dev/null
		cmp /tmp/random /tmp/back || fail "TCP reads other data than iSER has written"

		say "reservation"
		sg_persist -n --out --register --param-sark=0xa /dev/$a || fail "register over iSER"
		sg_persist -n --out --reserve --param-rk=0xa --prout-type=3 /dev/$a || fail "reserve over iSER"
		dd if=/tmp/random of=/dev/$a bs=4k count=1 oflag=direct 2>/dev/null || fail "the holder can't write"
		! dd if=/tmp/random of=/dev/$b bs=4k count=1 oflag=direct 2>/tmp/dd.out || fail "TCP writes to what is reserved over iSER"
		dmesg | grep -q "nexus error, dev $b" || { dmesg | tail; fail "no reservation conflict over TCP"; }
		sg_persist -n --out --release --param-rk=0xa --prout-type=3 /dev/$a
		dd if=/tmp/random of=/dev/$b bs=4k count=1 oflag=direct 2>/dev/null || fail "TCP can't write after the release"

		say "size"
		truncate -s 768M /dev/shm/disk
		/tmp/iserd lun resize $TARGET/0
		for d in $a $b; do
			sg_turs /dev/$d >/dev/null 2>&1 || true
			echo 1 >/sys/block/$d/device/rescan
			[ "$(cat /sys/block/$d/size)" = $((768 * 2048)) ] || fail "$d has $(cat /sys/block/$d/size) blocks"
		done
		[ "$(dmesg | grep -c 'Capacity data has changed')" -ge 2 ] || { dmesg | tail; fail "not both were told of the size"; }
		iscsiadm -m node --logout >/dev/null
		iserd_stop`)
}

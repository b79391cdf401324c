# ext4 on LUN $LUN0 and xfs on LUN $LUN1 are written and verified without a pause,
# while the host grows both, and adds and removes LUN 2. What an administrator does
# on the initiator's side is `iscsiadm -m session --rescan`, and nothing else.
iscsi_start
iscsi_discover
iscsi_login
ext4=$(iscsi_disk "$LUN0")
xfs=$(iscsi_disk "$LUN1")
mkfs.ext4 -q "$ext4"
mkfs.xfs -q "$xfs"
mkdir /tmp/ext4 /tmp/xfs
mount "$ext4" /tmp/ext4
mount "$xfs" /tmp/xfs
session=$(iscsiadm -m session | awk '{print $2}')

# load DIR: files are written, made durable, and read back from the disk, until
# /tmp/enough is there.
load() {
	n=0
	while [ ! -e /tmp/enough ]; do
		dd if=/dev/urandom of="/tmp/new.${1##*/}" bs=64k count=$((4 + n % 5 * 8)) status=none
		sum=$(sha256sum <"/tmp/new.${1##*/}")
		dd if="/tmp/new.${1##*/}" of="$1/load$((n % 8))" bs=64k conv=fsync status=none || return 1
		echo 1 >/proc/sys/vm/drop_caches
		[ "$(sha256sum <"$1/load$((n % 8))")" = "$sum" ] || return 1
		n=$((n + 1))
	done
	say "load on ${1##*/}: $n files verified"
}
load /tmp/ext4 &
load1=$!
load /tmp/xfs &
load2=$!
loads_run() { kill -0 $load1 && kill -0 $load2 || fail "the load has stopped"; }

# await FILE: until the host has made it.
await() {
	for _ in $(seq 600); do
		[ -e "/lab/$1" ] && return 0
		sleep 0.1
	done
	fail "the host did not say $1"
}

# size DISK: as the kernel has it, in MiB.
size() { echo $(($(blockdev --getsize64 "$1") / 1048576)); }

# told TEXT: the kernel's log has it, from a unit attention condition.
told() {
	for _ in $(seq 100); do
		dmesg | grep -q "$1" && return 0
		sleep 0.1
	done
	dmesg | tail -20
	fail "the kernel was not told: $1"
}
rescan() { iscsiadm -m session --rescan >/dev/null || fail "rescan"; }

say "mounted, $(size "$ext4") and $(size "$xfs") MiB"
await grown
told 'Capacity data has changed'
rescan
[ "$(size "$ext4")" = "$WANT0" ] && [ "$(size "$xfs")" = "$WANT1" ] ||
	fail "after the rescan the disks have $(size "$ext4") and $(size "$xfs") MiB, want $WANT0 and $WANT1"
resize2fs "$ext4" >/dev/null 2>&1 || fail "resize2fs"
xfs_growfs /tmp/xfs >/dev/null
fill() { # FS MIB: more than there was room for before
	dd if=/dev/urandom of=/tmp/$1/big bs=1M count="$2" conv=fsync status=none || fail "$1 has not grown"
	sha256sum /tmp/$1/big >/tmp/sum.$1
}
fill ext4 "$FILL0"
fill xfs "$FILL1"
loads_run
say "grown"

await added
told 'LUN assignments on this target have changed'
rescan
extra=$(iscsi_disk 2)
[ "$(size "$extra")" = "$WANT2" ] || fail "LUN 2 has $(size "$extra") MiB, want $WANT2"
dd if=/dev/urandom of="$extra" bs=1M count="$WANT2" oflag=direct status=none || fail "LUN 2 cannot be written"
loads_run
say "added"

await removed
# LOGICAL UNIT NOT SUPPORTED: the disk is gone for good.
dd if="$extra" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null && fail "LUN 2 is still there"
echo 1 >"/sys/block/${extra##*/}/device/delete"
rescan
[ ! -e "$extra" ] || fail "LUN 2 came back with a rescan"
loads_run
say "removed"

touch /tmp/enough
wait $load1 || fail "ext4: the load found errors"
wait $load2 || fail "xfs: the load found errors"
[ "$(iscsiadm -m session | awk '{print $2}')" = "$session" ] || fail "it is not the same session any more"
for fs in ext4 xfs; do
	echo 3 >/proc/sys/vm/drop_caches
	sha256sum --quiet -c /tmp/sum.$fs || fail "$fs: the data is not what was written"
done
umount /tmp/ext4 /tmp/xfs
fsck.ext4 -n -f "$ext4" >/tmp/fsck 2>&1 || { cat /tmp/fsck; fail "ext4 is damaged"; }
xfs_repair -n "$xfs" >/tmp/fsck 2>&1 || { cat /tmp/fsck; fail "xfs is damaged"; }
iscsi_logout
errors=$(kernel_errors | grep -v "${extra##*/}" || true)
[ -z "$errors" ] || { echo "$errors"; fail "I/O errors"; }
say "live: done in one session"

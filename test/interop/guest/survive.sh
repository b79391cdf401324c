# ext4 on LUN $LUN0, xfs on $LUN1 and fio on the bare disk of $LUN2 go on while
# the host stops or kills the daemon and restarts it. Each pass writes a new file, makes it
# durable, and reads files of earlier passes back from the disk. It ends when
# the host makes /lab/stop, with the count of errors and the longest stall.
iscsi_start
iscsi_discover
iscsi_set node.session.timeo.replacement_timeout 120
iscsi_login
ext4=$(iscsi_disk "$LUN0")
xfs=$(iscsi_disk "$LUN1")
raw=$(iscsi_disk "$LUN2")
mkfs.ext4 -q "$ext4"
mkfs.xfs -q "$xfs"
mkdir /tmp/ext4 /tmp/xfs
mount "$ext4" /tmp/ext4
mount "$xfs" /tmp/xfs

# pass DIR N: one file written, an earlier one verified. Sums are kept in
# memory: they do not depend on the disk.
pass() {
	sums=/tmp/sums.${1##*/}
	dd if=/dev/urandom of=/tmp/new bs=64k count=$((8 + $2 % 5 * 8)) status=none
	cp /tmp/new "$1/f$(($2 % 8))" || return 1
	sync -f "$1" || return 1
	grep -v " f$(($2 % 8))\$" "$sums" >/tmp/keep || true
	(cat /tmp/keep; echo "$(sha256sum </tmp/new | cut -d' ' -f1)  f$(($2 % 8))") >"$sums"
	echo 3 >/proc/sys/vm/drop_caches
	(cd "$1" && sha256sum --quiet -c "$sums") || return 1
}

# Random writes, 16 in flight, and their verification, again and again. It ends
# with the host's word, which may come in the middle of a pass of the others:
# only a run that failed leaves /tmp/fio.failed.
raw_passes() {
	n=0
	while [ ! -e /lab/stop ]; do
		fio --name=raw --filename="$raw" --direct=1 --ioengine=libaio --iodepth=16 \
			--rw=randwrite --bsrange=512-64k --blockalign=512 --size=32m --randseed=$((n + 1)) \
			--verify=crc32c --verify_fatal=1 --verify_state_save=0 >/tmp/fio.txt 2>&1 || { : >/tmp/fio.failed; return 1; }
		n=$((n + 1))
	done
	say "$n passes of fio"
}
raw_passes &
fio=$!

: >/tmp/sums.ext4
: >/tmp/sums.xfs
errors=0 passes=0 longest=0
say "running"
while [ ! -e /lab/stop ]; do
	begin=$(uptime_ms)
	for fs in ext4 xfs; do
		pass /tmp/$fs $passes || { errors=$((errors + 1)); say "pass $passes on $fs went wrong"; }
	done
	took=$(($(uptime_ms) - begin))
	[ $took -le $longest ] || longest=$took
	passes=$((passes + 1))
	[ ! -e /tmp/fio.failed ] || { cat /tmp/fio.txt; fail "fio found errors"; }
	say "pass $passes $took ms"
done
wait $fio || { cat /tmp/fio.txt; fail "fio found errors"; }

umount /tmp/ext4 /tmp/xfs
iscsi_logout
iscsi_login
fsck.ext4 -n -f "$(iscsi_disk "$LUN0")"
xfs_repair -n "$(iscsi_disk "$LUN1")" >/dev/null
mount "$(iscsi_disk "$LUN0")" /tmp/ext4
mount "$(iscsi_disk "$LUN1")" /tmp/xfs
for fs in ext4 xfs; do
	(cd /tmp/$fs && sha256sum --quiet -c /tmp/sums.$fs) || fail "$fs: files are not what was written"
done
umount /tmp/ext4 /tmp/xfs
iscsi_logout
say "result passes=$passes errors=$errors longest_ms=$longest kernel=$(kernel_errors | wc -l)"
[ -z "$(kernel_errors)" ] || { kernel_errors; fail "I/O errors reached the file systems"; }
[ $errors = 0 ] || fail "$errors passes went wrong"

# dm-multipath over two portals: fio verifies on the multipath device while the
# host cuts one path and then the other. What multipathd does, a loop here does:
# it tries the paths that have failed and puts them back. It ends when the host
# makes /lab/stop.
for m in dm_mod dm_multipath dm_round_robin; do
	modprobe "$m" || fail "module $m"
done
ip addr add "$LAB_ADDR2" dev vec0
iscsi_start
for portal in "$LAB_PORTAL" "$LAB_PORTAL2"; do
	LAB_PORTAL=$portal
	iscsi_node
	# A path that is cut is to fail its commands in seconds.
	iscsi_set node.session.timeo.replacement_timeout 1
	iscsi_set 'node.conn[0].timeo.noop_out_interval' 1
	iscsi_set 'node.conn[0].timeo.noop_out_timeout' 1
	iscsi_login
done
iscsi_disk "$LUN0" >/dev/null
sleep 1

# The paths: the disks of this logical unit, whatever the session.
paths=
for d in /sys/class/iscsi_session/session*/device/target*/*:"$LUN0"/block/*; do
	paths="$paths ${d##*/}"
done
set -- $paths
[ $# = 2 ] || fail "$# paths, want 2: $paths"
serial() { sg_vpd --page=di --quiet "/dev/$1" | sort | head -n 1; }
[ "$(serial "$1")" = "$(serial "$2")" ] || fail "the paths lead to different units"
number() { cat "/sys/block/$1/dev"; }
echo "0 $(cat "/sys/block/$1/size") multipath 1 queue_if_no_path 0 1 1 round-robin 0 2 1 $(number "$1") 1 $(number "$2") 1" >/tmp/table
dmsetup create --noudevsync mp /tmp/table || fail "dmsetup"
dmsetup mknodes mp
disk=/dev/mapper/mp

# checker: says which paths have failed, and puts them back when they answer.
checker() {
	while [ ! -e /lab/stop ]; do
		for p in $paths; do
			dmsetup status mp | grep -q "$(number "$p") F" || continue
			[ -e "/tmp/failed.$p" ] || { : >"/tmp/failed.$p"; say "path $p failed"; }
			if dd if="/dev/$p" of=/dev/null bs=4096 count=1 iflag=direct status=none 2>/dev/null; then
				dmsetup message mp 0 "reinstate_path $(number "$p")"
				rm "/tmp/failed.$p"
				say "path $p is back"
			fi
		done
		sleep 0.3
	done
}
checker &
checker=$!

passes=0 longest=0
say "running over $(echo $paths)"
while [ ! -e /lab/stop ]; do
	begin=$(uptime_ms)
	fio --name=mp --filename="$disk" --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite \
		--bsrange=512-64k --blockalign=512 --size=24m --randseed=$((passes + 1)) \
		--verify=crc32c --verify_fatal=1 --verify_state_save=0 >/tmp/fio.txt 2>&1 ||
		{ cat /tmp/fio.txt; fail "fio on the multipath device"; }
	took=$(($(uptime_ms) - begin))
	[ $took -le $longest ] || longest=$took
	passes=$((passes + 1))
	say "pass $passes $took ms"
done
wait $checker
! dmsetup status mp | grep -q " F " || fail "a path is not back"
dmsetup remove --noudevsync mp
for portal in "$LAB_PORTAL" "$LAB_PORTAL1"; do
	LAB_PORTAL=$portal
	iscsi_logout
done
say "result passes=$passes longest_ms=$longest"

# The kernel's initiator logs in, makes ext4 on LUN $LUN0 and xfs on $LUN1,
# writes, logs out, logs in, and finds everything as it was.
iscsi_start
iscsi_discover

# files DIR: writes what the check below wants to find.
files() {
	mkdir "$1/d"
	for i in $(seq 8); do
		dd if=/dev/urandom of="$1/d/f$i" bs=64k count=$((i * 8)) status=none
	done
	cp -r /etc "$1/etc"
	(cd "$1" && find d etc -type f -exec sha256sum {} + >/tmp/sums."${1##*/}")
}

iscsi_login
ext4=$(iscsi_disk "$LUN0")
xfs=$(iscsi_disk "$LUN1")
say "ext4 on $ext4, xfs on $xfs"
[ "$(cat "/sys/block/${xfs##*/}/queue/logical_block_size")" = "$BLOCK1" ] || fail "blocks of $xfs"
mkfs.ext4 -q "$ext4"
mkfs.xfs -q "$xfs"
mkdir /tmp/ext4 /tmp/xfs
mount "$ext4" /tmp/ext4
mount "$xfs" /tmp/xfs
files /tmp/ext4
files /tmp/xfs
umount /tmp/ext4 /tmp/xfs
iscsi_logout
[ ! -e "$ext4" ] || fail "$ext4 is still there after the logout"

iscsi_login
ext4=$(iscsi_disk "$LUN0")
xfs=$(iscsi_disk "$LUN1")
fsck.ext4 -n -f "$ext4"
xfs_repair -n "$xfs" >/dev/null
mount "$ext4" /tmp/ext4
mount "$xfs" /tmp/xfs
for fs in ext4 xfs; do
	n=$(wc -l </tmp/sums.$fs)
	[ "$n" -ge 8 ] || fail "only $n files on $fs"
	(cd /tmp/$fs && sha256sum --quiet -c /tmp/sums.$fs) || fail "$fs: files are not what was written"
	say "$fs: $n files are what was written"
done
fstrim -v /tmp/ext4 || say "no discard on LUN $LUN0"
umount /tmp/ext4 /tmp/xfs
iscsi_logout
[ -z "$(kernel_errors)" ] || { kernel_errors; fail "I/O errors"; }

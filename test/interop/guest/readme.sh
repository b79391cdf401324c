# The commands of README.md for the machine that uses a disk: $MOUNT, then $UNMOUNT.
# What the distribution does by itself is done here first: iscsid runs, and disks get
# their names in /dev/disk/by-path, as udev's 60-persistent-storage.rules gives them.
iscsi_start
(
	while sleep 0.1; do
		for d in /sys/class/iscsi_session/session*/device/target*/*/block/*; do
			[ -e "$d" ] || continue
			lun=${d%/block/*}
			lun=${lun##*:}
			mkdir -p /dev/disk/by-path
			iscsiadm -m session 2>/dev/null | sed -n 's/^tcp: \[[0-9]*\] \([^,]*\),[0-9]* \([^ ]*\).*/\1 \2/p' |
				while read -r portal name; do
					ln -sfn "/dev/${d##*/}" "/dev/disk/by-path/ip-$portal-iscsi-$name-lun-$lun"
				done
		done
	done
) &
names=$!

eval "$MOUNT"
mount | grep " /mnt type ext4 " || fail "nothing is mounted"
dd if=/dev/urandom of=/mnt/file bs=1M count=32 conv=fsync status=none
sum=$(sha256sum </mnt/file)
drop_caches
[ "$(sha256sum </mnt/file)" = "$sum" ] || fail "the file is not what was written"
eval "$UNMOUNT"
kill $names
[ -z "$(kernel_errors)" ] || { kernel_errors; fail "I/O errors"; }
say "readme: done"

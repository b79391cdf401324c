# ext4 is written without a pause, each file made durable, while the host stops the
# daemon in good order and starts it again. $PASSES times.
iscsi_start
iscsi_discover
iscsi_set node.session.timeo.replacement_timeout 120
iscsi_login
disk=$(iscsi_disk "$LUN")
mkfs.ext4 -q "$disk"
mkdir /tmp/fs
mount "$disk" /tmp/fs
n=0
say "running"
while [ ! -e /lab/stop ]; do
	dd if=/dev/urandom of=/tmp/new bs=64k count=4 status=none
	cp /tmp/new "/tmp/fs/f$((n % 16))" && sync -f /tmp/fs || fail "file $n"
	echo "$(sha256sum </tmp/new | cut -d' ' -f1)  f$((n % 16))" >"/tmp/sum.$((n % 16))"
	n=$((n + 1))
	say "file $n at $(uptime_ms)"
done
drop_caches
cat /tmp/sum.* >/tmp/sums
(cd /tmp/fs && sha256sum --quiet -c /tmp/sums) || fail "files are not what was written"
umount /tmp/fs
iscsi_logout
# The target has asked for the logouts, and the initiator says so.
grep -qi "requests logout" /tmp/iscsid.log || dmesg | grep -qi "requests logout\|target requests" ||
	fail "the initiator was not asked to log out"
[ -z "$(kernel_errors)" ] || { kernel_errors; fail "I/O errors"; }
say "stop: $n files are what was written"

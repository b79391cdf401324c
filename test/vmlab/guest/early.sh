#!/bin/sh
# First process in the initial file system: loads the drivers of the virtual
# machine's disks, mounts the root file system and hands over to it.
b=/bin/busybox
$b mount -t proc proc /proc
while read -r module; do
	$b insmod "/modules/$module"
done </modules/order
$b mount -t devtmpfs dev /dev
$b mount -t ext4 /dev/vda /mnt || exec $b sh
$b mount -t ext4 -o ro /dev/vdb /mnt/lib/modules
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 lab /mnt/lab
$b mount --move /dev /mnt/dev
$b mount --move /proc /mnt/proc
exec $b switch_root /mnt /bin/sh /lab/init.sh

#!/bin/sh
# First process of a lab VM after the initial file system. The host shares this
# run's directory as /lab: this file, lib.sh, env (variables for the script),
# files of the run, and guest.sh, whose exit status is left in /lab/status.
# What is written elsewhere is lost at the end.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
exec </dev/null >/dev/ttyS1 2>&1
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/lock /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t configfs configfs /sys/kernel/config 2>/dev/null
. /lab/env
hostname "$LAB_NAME"
ulimit -l unlimited
ip link set lo up

cd /tmp || exit 1
echo "vmlab: up after $(cut -d' ' -f1 /proc/uptime) s: $(uname -r)"
# A script that hangs leaves what there is to know before the host loses patience.
(
	sleep "$LAB_SECONDS"
	echo "vmlab: out of time"
	ps -eo pid,stat,wchan:30,args | grep -v ']$'
	[ ! -x /tmp/iserd ] || timeout 5 /tmp/iserd debug goroutines
	for log in /tmp/*.log; do
		echo "== $log"
		tail -n 40 "$log"
	done
	echo w >/proc/sysrq-trigger
	dmesg >/lab/dmesg
	sync
	echo o >/proc/sysrq-trigger
) &
sh -eu -c '. /lab/lib.sh; . /lab/guest.sh'
echo $? >/lab/status
dmesg >/lab/dmesg
sync
echo o >/proc/sysrq-trigger
sleep 60

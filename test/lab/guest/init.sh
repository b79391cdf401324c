#!/bin/sh
# First process of a lab guest. The host shares this run's directory as /lab:
# this file, lib.sh, env (variables for the script), and guest.sh, whose exit
# status is left in /lab/status. The root is read-only and shared with other
# guests, so everything that is written goes to memory.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/lock /run/var
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t tmpfs shm /dev/shm 2>/dev/null

. /lab/env
mount -t hostfs none /lib/modules -o "$LAB_MODULES"
hostname "$LAB_NAME"
ip link set lo up
if [ -n "$LAB_ADDR" ]; then
	ip addr add "$LAB_ADDR" dev vec0
	ip link set vec0 up
fi

cd /tmp || exit 1
echo "lab: up after $(cut -d' ' -f1 /proc/uptime) s"
sh -eu -c '. /lab/lib.sh; . /lab/guest.sh'
echo $? >/lab/status
sync
echo o >/proc/sysrq-trigger
sleep 60

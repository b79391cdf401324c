# Functions for guest scripts: the kernel's iSCSI initiator and its disks.
# Sourced with `set -eu` on, before the script. The host gives LAB_PORTAL
# (address:port) and LAB_TARGET (iSCSI name).

say() { echo "lab: $*"; }
fail() { echo "lab: FAIL: $*"; exit 1; }

# uptime_ms: milliseconds since boot.
uptime_ms() { awk '{printf "%d\n", $1 * 1000}' /proc/uptime; }

# iscsi_start: loads the initiator and starts iscsid with its data base in
# memory. There is no udev: disks get their names from devtmpfs.
iscsi_start() {
	for m in crc64_rocksoft t10-pi sd_mod sg iscsi_tcp; do
		modprobe "$m" || fail "module $m"
	done
	cp -a /etc/iscsi /tmp/iscsi.etc
	mount --bind /tmp/iscsi.etc /etc/iscsi
	mkdir -p /run/lock/iscsi /etc/iscsi/nodes /etc/iscsi/send_targets /etc/iscsi/ifaces
	echo "InitiatorName=iqn.2026-11.io.github.iserd:$LAB_NAME" >/etc/iscsi/initiatorname.iscsi
	iscsid -f >/tmp/iscsid.log 2>&1 &
	for _ in $(seq 50); do
		status=0
		iscsiadm -m session >/tmp/session.log 2>&1 || status=$?
		[ "$status" = 21 ] && return 0 # ISCSI_ERR_NO_OBJS_FOUND: iscsid answers
		sleep 0.1
	done
	cat /tmp/iscsid.log /tmp/session.log
	fail "iscsid does not answer"
}

# iscsi_discover: SendTargets; the target must be in the answer.
iscsi_discover() {
	iscsiadm -m discovery -t sendtargets -p "$LAB_PORTAL" >/tmp/targets || fail "discovery"
	grep -q " $LAB_TARGET\$" /tmp/targets || { cat /tmp/targets; fail "discovery does not list $LAB_TARGET"; }
}

# iscsi_node: the node record without asking the target.
iscsi_node() { iscsiadm -m node -T "$LAB_TARGET" -p "$LAB_PORTAL" -o new >/dev/null; }

# iscsi_set NAME VALUE: a setting of the node record, for the next login.
iscsi_set() { iscsiadm -m node -T "$LAB_TARGET" -p "$LAB_PORTAL" -o update -n "$1" -v "$2"; }

# iscsi_try_login: the status of the attempt is the caller's to judge.
iscsi_try_login() { iscsiadm -m node -T "$LAB_TARGET" -p "$LAB_PORTAL" --login >/tmp/login.log 2>&1; }

iscsi_login() {
	iscsi_try_login ||
		{ cat /tmp/login.log /tmp/iscsid.log; fail "login"; }
}

iscsi_logout() {
	iscsiadm -m node -T "$LAB_TARGET" -p "$LAB_PORTAL" --logout >/tmp/login.log 2>&1 ||
		{ cat /tmp/login.log /tmp/iscsid.log; fail "logout"; }
}

# iscsi_disk LUN: the disk's device name, as soon as the scan has found it.
iscsi_disk() {
	for _ in $(seq 200); do
		for d in /sys/class/iscsi_session/session*/device/target*/*:"$1"/block/*; do
			[ -b "/dev/${d##*/}" ] && echo "/dev/${d##*/}" && return 0
		done
		sleep 0.1
	done
	fail "no disk for LUN $1" >&2
}

# iscsi_negotiated KEY: the value in force in the session, as the kernel has it.
iscsi_negotiated() { iscsiadm -m session -P 2 | awk -v k="$1:" '$1 == k {print $2; exit}'; }

# drop_caches: the next read comes from the disk.
drop_caches() { sync; echo 3 >/proc/sys/vm/drop_caches; }

# kernel_errors: I/O errors that reached the block layer or a file system.
kernel_errors() { dmesg | grep -E 'I/O error|Buffer I/O|EXT4-fs error|XFS .*(error|Shutdown|corrupt)' || true; }

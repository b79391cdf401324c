# Functions for guest scripts: iserd as the target, the kernel's ib_iser as its
# initiator. Sourced after lib.sh.

# await WHAT COMMAND...: waits until the command succeeds, half a minute at most.
await() {
	what=$1
	shift
	for _ in $(seq 300); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.1
	done
	fail "$what"
}

# iserd_start: runs iserd with the configuration $CONFIG; its process is $daemon.
iserd_start() {
	if [ ! -x /tmp/iserd ]; then
		cp /lab/iserd /tmp/iserd
		echo "$CONFIG" >/tmp/iserd.hcl
		trap 'cp /tmp/iserd.log /lab/; tail -n 40 /tmp/iserd.log | cut -c1-250' EXIT
	fi
	/tmp/iserd serve -c /tmp/iserd.hcl >>/tmp/iserd.log 2>&1 &
	daemon=$!
	await "iserd does not answer" /tmp/iserd status
}

# iserd_stop: ends it in order.
iserd_stop() {
	kill "$daemon"
	wait "$daemon" || fail "iserd ended with status $?"
}

# iserd_holds: what the daemon has of the system, in one line. It alone of all
# processes uses RDMA; what the kernel has for itself has no process.
iserd_holds() {
	for kind in ctx pd cq qp mr cm_id; do
		printf '%s=%s ' $kind "$(rdma resource show $kind | grep -c ' pid ' || true)"
	done
	printf 'files=%s ' "$(ls "/proc/$daemon/fd" | wc -l)"
	printf 'goroutines=%s\n' "$(/tmp/iserd debug goroutines | grep -c '^goroutine ')"
}

# iserd_baseline WHAT: what it holds is the same as at the first call.
iserd_baseline() {
	if [ -z "${baseline:-}" ]; then
		baseline=$(iserd_holds)
		say "baseline: $baseline"
		return 0
	fi
	for _ in $(seq 30); do
		now=$(iserd_holds)
		[ "$now" = "$baseline" ] && say "baseline again after $1" && return 0
		sleep 0.5
	done
	/tmp/iserd debug goroutines >/lab/goroutines || true
	fail "after $1: $now, before: $baseline"
}

# iser_start: loads ib_iser and starts iscsid. There is no udev: disks get their
# names from devtmpfs. Options are those of ib_iser.
iser_start() {
	modprobe ib_iser "$@"
	modprobe sd_mod
	mkdir -p /etc/iscsi /var/lib/iscsi
	echo "InitiatorName=iqn.2026-11.com.example:vm-initiator" >/etc/iscsi/initiatorname.iscsi
	iscsid -f >/tmp/iscsid.log 2>&1 &
	await "iscsid does not answer" iscsid_answers
	iscsiadm -m iface -I rdma -o new >/dev/null
	iscsiadm -m iface -I rdma -o update -n iface.transport_name -v iser >/dev/null
}

iscsid_answers() {
	status=0
	iscsiadm -m session >/dev/null 2>&1 || status=$?
	[ "$status" = 21 ] # ISCSI_ERR_NO_OBJS_FOUND
}

# iser_node TARGET PORTAL: the node that the functions below mean.
iser_node() {
	node="-m node -T $1 -p $2 -I rdma"
	iscsiadm $node -o new >/dev/null
}

# iser_set NAME VALUE: a setting for the next login.
iser_set() { iscsiadm $node -o update -n "$1" -v "$2"; }

iser_login() {
	iscsiadm $node --login >/tmp/login.log 2>&1 ||
		{ cat /tmp/login.log /tmp/iscsid.log; fail "login"; }
}

iser_logout() {
	iscsiadm $node --logout >/tmp/login.log 2>&1 ||
		{ cat /tmp/login.log /tmp/iscsid.log; fail "logout"; }
}

# iser_disk LUN: the name of the disk, when it is there and has its size.
iser_disk() {
	for _ in $(seq 200); do
		for d in /sys/class/iscsi_session/session*/device/target*/*:"$1"/block/*; do
			d=${d##*/}
			[ -b "/dev/$d" ] && [ "$(cat "/sys/block/$d/size")" != 0 ] && echo "$d" && return 0
		done
		sleep 0.1
	done
	fail "no disk for LUN $1" >&2
}

# iser_negotiated KEY VALUE: the session has this value in force.
iser_negotiated() {
	got=$(iscsiadm -m session -P 2 | awk -v k="$1:" '$1 == k {print $2; exit}')
	[ "$got" = "$2" ] || fail "$1=$got in force, want $2"
}

# logged_in: there is a session, and all are logged in.
logged_in() {
	states=$(cat /sys/class/iscsi_session/session*/state)
	[ -n "$states" ] && ! echo "$states" | grep -qv LOGGED_IN
}

# verify NAME=VALUE...: fio writes to $disk, reads it back and compares.
verify() {
	fio --name=verify --filename="/dev/$disk" --direct=1 --ioengine=libaio --verify=crc32c --verify_fatal=1 \
		--randrepeat=0 --minimal "$@" >/tmp/fio.out 2>&1 ||
		{ cat /tmp/fio.out; dmesg | tail -n 20; fail "fio $*"; }
}

# loaded WHEN: the load $load has ended, without an error of the target's. ib_iser
# itself fails a command, in place of repeating it, that comes between the loss of
# the connection and its being noticed ("Failed to init task ..., err = -19").
# Data that differ are never right, and the disk has to work.
loaded() {
	wait "$load" && return 0
	if dmesg | grep -q 'iscsi_iser_task_init: Failed to init task' && ! grep -qE 'verify: bad|verify failed' /tmp/fio.out; then
		say "ib_iser has failed a command itself, $1"
		dmesg -C
		await "the session does not come back" logged_in
		verify --rw=randwrite --bs=4k --iodepth=8 --size=16m --io_size=1m
		return 0
	fi
	cat /tmp/fio.out
	dmesg | tail -n 20
	fail "fio, $1"
}

# rnr_naks: how often the target had no receive posted, as its device counts it.
# ib_iser's own device is not meant: it posts receives only after it has handed up
# the response that lets the next command out, the older ones a quarter at first,
# and has the sender repeat a burst of responses.
rnr_naks() { cat /sys/class/infiniband/rxe0/ports/1/hw_counters/send_rnr_err; }

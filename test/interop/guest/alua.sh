# The target is reached through $PORTAL_A and $PORTAL_B, two target port groups. The
# host changes their access states by command, then this side does, by SET TARGET
# PORT GROUPS. Each path must answer as its group's state says.
iscsi_start
iscsi_discover
grep -q "^$PORTAL_A,1 $LAB_TARGET\$" /tmp/targets && grep -q "^$PORTAL_B,2 $LAB_TARGET\$" /tmp/targets ||
	{ cat /tmp/targets; fail "discovery does not list both portal groups"; }
for LAB_PORTAL in "$PORTAL_A" "$PORTAL_B"; do
	iscsi_login
done

# path PORTAL: the disk of the session through it.
path() {
	sid=$(iscsiadm -m session | sed -n "s/.*\[\([0-9]*\)\] $1,.*/\1/p")
	for _ in $(seq 100); do
		for d in /sys/class/iscsi_session/"session$sid"/device/target*/*:0/block/*; do
			[ -b "/dev/${d##*/}" ] && echo "/dev/${d##*/}" && return 0
		done
		sleep 0.1
	done
	fail "no disk through $1" >&2
}
a=$(path "$PORTAL_A")
b=$(path "$PORTAL_B")
say "paths $a and $b"
sg() { echo "/dev/$(ls "/sys/block/${1##*/}/device/scsi_generic")"; }

# states WANT_A WANT_B: numbers, as REPORT TARGET PORT GROUPS has them, over both paths.
states() {
	for disk in "$a" "$b"; do
		sg_rtpg -d "$(sg "$disk")" >/tmp/rtpg 2>&1 || sg_rtpg -d "$(sg "$disk")" >/tmp/rtpg 2>&1 ||
			{ cat /tmp/rtpg; fail "REPORT TARGET PORT GROUPS on $disk"; }
		got=$(sed -n 's/.*asymmetric access state : 0x0\(.\).*/\1/p' /tmp/rtpg | tr '\n' ' ')
		[ "$got" = "$1 $2 " ] || { cat /tmp/rtpg; fail "$disk: states are $got, want $1 and $2"; }
	done
}
reads() { dd if="$1" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null; }
# told DISK: ASYMMETRIC ACCESS STATE CHANGED is pending on that path.
told() {
	sg_turs -v "$(sg "$1")" >/tmp/turs 2>&1 || true
	grep -qi 'asymmetric access state changed' /tmp/turs || { cat /tmp/turs; fail "$1 was not told"; }
}
await() {
	for _ in $(seq 300); do
		[ -e "/lab/$1" ] && return 0
		sleep 0.1
	done
	fail "the host did not say $1"
}

sg_inq "$(sg "$a")" >/tmp/inq
grep -q 'TPGS=3' /tmp/inq || { cat /tmp/inq; fail "INQUIRY does not announce ALUA"; }
n=0
for disk in "$a" "$b"; do
	n=$((n + 1))
	sg_vpd --page=di "$(sg "$disk")" >/tmp/di
	grep -q "Target port group: 0x$n\$" /tmp/di && grep -q "Relative target port: 0x$n\$" /tmp/di ||
		{ cat /tmp/di; fail "$disk: VPD page 83h does not name port and group $n"; }
done
states 0 1
reads "$a" && reads "$b" || fail "an active path does not read"
say "configured"

await standby
told "$a"
told "$b"
states 0 2
reads "$a" || fail "the active path does not read"
reads "$b" && fail "the path in standby reads"
say "standby"

await unavailable
told "$a"
told "$b"
states 0 3
reads "$b" && fail "the unavailable path reads"
say "unavailable"

# Explicit: this initiator moves to the other path, which says so on the first.
sg_stpg -v --tp=1,2 --state=2,0 "$(sg "$a")" >/tmp/stpg 2>&1 || { cat /tmp/stpg; fail "SET TARGET PORT GROUPS"; }
told "$b"
states 2 0
reads "$b" || fail "the path that was activated does not read"
reads "$a" && fail "the path that was put into standby reads"
say "explicit"

await reloaded
told "$a"
states 0 1
reads "$a" && reads "$b" || fail "an active path does not read"
LAB_PORTAL=$PORTAL_A iscsi_logout
LAB_PORTAL=$PORTAL_B iscsi_logout
say "alua: done"

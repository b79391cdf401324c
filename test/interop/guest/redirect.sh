# A login at $LAB_PORTAL, which sends it to $OTHER; then, under load, the other way
# round when the host has the session log out; then a LUN that is found without a
# rescan.
iscsi_start
iscsi_node
iscsi_login
disk=$(iscsi_disk 0)

# at PORTAL: the session is logged in there. The record of the node stays that of $LAB_PORTAL.
at() {
	for _ in $(seq 300); do
		iscsiadm -m session -P 1 >/tmp/sessions 2>&1 || true
		grep -q "Current Portal: $1," /tmp/sessions &&
			grep -q "iSCSI Connection State: LOGGED IN" /tmp/sessions &&
			grep -q "iSCSI Session State: LOGGED_IN" /tmp/sessions && return 0
		sleep 0.1
	done
	cat /tmp/sessions /tmp/iscsid.log
	fail "the session is not at $1"
}

at "$OTHER"
grep -q "Persistent Portal: $LAB_PORTAL," /tmp/sessions || { cat /tmp/sessions; fail "another record of the node"; }

# What is written is read back, again and again.
load() {
	n=0
	while [ ! -e /lab/done ]; do
		dd if=/dev/urandom of=/tmp/new bs=1M count=4 status=none
		dd if=/tmp/new of="$disk" bs=64k seek=$((n % 12 * 64)) oflag=direct status=none || return 1
		[ "$(dd if="$disk" bs=64k skip=$((n % 12 * 64)) count=64 iflag=direct status=none | sha256sum)" = "$(sha256sum </tmp/new)" ] || return 1
		n=$((n + 1))
	done
	say "load: $n times 4 MiB verified"
}
load &
load=$!
say "redirected to $OTHER"

at "$LAB_PORTAL"
say "moved to $LAB_PORTAL"

iscsi_disk 1 >/tmp/extra # nobody rescans
say "found LUN 1, $(cat /tmp/extra)"
wait $load || fail "the load found errors"
iscsi_logout
errors=$(kernel_errors)
[ -z "$errors" ] || { echo "$errors"; fail "I/O errors"; }
say "redirect: no errors"

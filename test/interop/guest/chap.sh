# Mutual CHAP by the kernel's initiator, with each algorithm in $ALGORITHMS; and
# attempts that must be refused, by either side.
iscsi_start
iscsi_node

# credentials USER SECRET TARGET_USER TARGET_SECRET
credentials() {
	iscsi_set node.session.auth.username "$1"
	iscsi_set node.session.auth.password "$2"
	iscsi_set node.session.auth.username_in "$3"
	iscsi_set node.session.auth.password_in "$4"
}

# refused WHAT: a login that must not succeed.
refused() {
	if iscsi_try_login; then
		fail "login with $1"
	fi
	say "refused: $1"
}

iscsi_set node.session.auth.authmethod None
refused "no authentication"

iscsi_set node.session.auth.authmethod CHAP
for algorithm in $ALGORITHMS; do
	iscsi_set node.session.auth.chap_algs "$algorithm"
	credentials "$CHAP_USER" "$SECRET" "$MUTUAL_USER" "$MUTUAL_SECRET"
	iscsi_login
	dd if="$(iscsi_disk "$LUN")" of=/dev/null bs=1M count=1 status=none
	iscsi_logout
	say "logged in with $algorithm"

	credentials "$CHAP_USER" "${SECRET}x" "$MUTUAL_USER" "$MUTUAL_SECRET"
	refused "a wrong secret, $algorithm"
	# Here it is the initiator that refuses the target's proof.
	credentials "$CHAP_USER" "$SECRET" "$MUTUAL_USER" "${MUTUAL_SECRET}x"
	refused "another secret of the target, $algorithm"
done

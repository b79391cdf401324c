# fio writes and verifies (crc32c) through the kernel's initiator, one login
# for each cell of the matrix in $CELLS: HeaderDigest/DataDigest/InitialR2T/
# ImmediateData. What the kernel says it negotiated must be what was asked for.
iscsi_start
iscsi_discover

# one KEY WANT: a negotiated value.
one() {
	got=$(iscsi_negotiated "$1")
	[ "$got" = "$2" ] || fail "cell $cell: $1=$got, want $2"
}

# The jobs of one cell, one after the other. At random most requests are small
# and most data is in large ones.
cat >/tmp/jobs <<.
[global]
direct=1
ioengine=libaio
verify=crc32c
verify_fatal=1
do_verify=1
verify_state_save=0
size=$SIZE
stonewall
[small]
rw=randwrite
bs=512
size=2m
iodepth=128
.
for depth in 1 32 128; do
	cat >>/tmp/jobs <<.
[random$depth]
rw=randwrite
bssplit=512/20:4k/30:16k/20:64k/15:256k/10:1m/5
blockalign=512
iodepth=$depth
[sequential$depth]
rw=write
bs=1m
iodepth=$depth
.
done

cell=0
for c in $CELLS; do
	cell=$((cell + 1))
	begin=$(uptime_ms)
	IFS=/ read -r header data r2t immediate <<-.
		$c
	.
	iscsi_set 'node.conn[0].iscsi.HeaderDigest' "$header"
	iscsi_set 'node.conn[0].iscsi.DataDigest' "$data"
	iscsi_set node.session.iscsi.InitialR2T "$r2t"
	iscsi_set node.session.iscsi.ImmediateData "$immediate"
	iscsi_set node.session.queue_depth 128
	iscsi_set node.session.cmds_max 256
	iscsi_login
	one HeaderDigest "$header"
	one DataDigest "$data"
	one InitialR2T "$r2t"
	one ImmediateData "$immediate"
	disk=$(iscsi_disk "$LUN")
	fio --filename="$disk" --eta=never --output-format=json --output="/lab/fio.$cell" /tmp/jobs ||
		{ cat "/lab/fio.$cell"; fail "fio in cell $cell"; }
	iscsi_logout
	say "cell $cell: HeaderDigest=$header DataDigest=$data InitialR2T=$r2t ImmediateData=$immediate: $(($(uptime_ms) - begin)) ms"
done
[ -z "$(kernel_errors)" ] || { kernel_errors; fail "I/O errors"; }
say "done"

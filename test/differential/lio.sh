# LIO as a peer: a fileio disk of $SIZE bytes in memory, thin provisioned, open to
# everybody at the guest's address. It serves until the host makes /lab/stop.
for m in configfs target_core_mod target_core_file iscsi_target_mod; do
	modprobe "$m" || fail "module $m"
done
config=/sys/kernel/config
mount -t configfs none $config 2>/dev/null || mountpoint -q $config || fail "configfs"
mkdir -p /tmp/target/pr /tmp/target/alua
echo /tmp/target >$config/target/dbroot

disk=$config/target/core/fileio_0/disk
mkdir -p $disk
truncate -s "$SIZE" /tmp/disk
echo "fd_dev_name=/tmp/disk,fd_dev_size=$SIZE" >$disk/control
echo 1 >$disk/enable # before its attributes: the kernel takes them for granted then
echo 1 >$disk/attrib/emulate_tpu
echo 1 >$disk/attrib/emulate_tpws

mkdir -p $config/target/iscsi
tpg=$config/target/iscsi/$LAB_TARGET/tpgt_1
mkdir -p "$tpg/lun/lun_0" "$tpg/np/$LAB_PORTAL"
ln -s $disk "$tpg/lun/lun_0/disk"
echo 1 >"$tpg/attrib/generate_node_acls"
echo 1 >"$tpg/attrib/cache_dynamic_acls"
echo 0 >"$tpg/attrib/demo_mode_write_protect"
echo 0 >"$tpg/attrib/authentication"
echo 1 >"$tpg/enable"
say "LIO is up, Linux $(uname -r)"
while [ ! -e /lab/stop ]; do sleep 0.2; done

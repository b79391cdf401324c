# sg3_utils on the kernel's disks: LUN $LUN0 and $LUN1 are thin and of 64 MiB. Every
# tool has its expected exit status, and what it prints is matched.

# want STATUS PATTERN COMMAND...: the command ends with this status and prints
# something that matches the extended regular expression ("" for anything).
checks=0
want() {
	status=$1 pattern=$2 got=0
	shift 2
	"$@" >/tmp/out 2>&1 || got=$?
	[ $got = "$status" ] || { cat /tmp/out; fail "$*: status $got, want $status"; }
	[ -z "$pattern" ] || grep -Eq "$pattern" /tmp/out || { cat /tmp/out; fail "$*: does not print '$pattern'"; }
	checks=$((checks + 1))
}
# What sg3_utils end with, sg3_utils(8).
ok=0 not_ready=2 illegal=5 attention=6 protect=7 miscompare=14 range=22 conflict=24

# generic DISK: its name as a SCSI generic device, which sg_xcopy wants.
generic() { echo /dev/"$(ls "/sys/block/${1##*/}/device/scsi_generic")"; }

iscsi_start
iscsi_node
iscsi_login
a=$(iscsi_disk "$LUN0")
b=$(iscsi_disk "$LUN1")

bs=512

# Who it is. Every VPD page that is listed can be read and is decoded.
want $ok 'version=0x06.*' sg_inq "$a"
want $ok 'CmdQue=1' sg_inq "$a"
want $ok 'Vendor identification: ISERD' sg_inq "$a"
want $ok 'SBC-4' sg_inq -d "$a"
want $ok '' sg_vpd --page=sv --hex "$a"
pages=$(sg_vpd --page=sv --raw "$a" | od -An -v -tx1 -j4)
[ "$(echo $pages)" = "00 80 83 86 8f b0 b1 b2" ] || fail "VPD pages $pages"
for page in $pages; do
	want $ok "^ 00 +00 $page " sg_vpd --page="0x$page" --hex "$a"
done
want $illegal "" sg_vpd --force --page=0xb6 "$a"
want $ok 'naa|NAA' sg_vpd --page=di "$a"
want $ok 'iqn.2026-11.io.github.iserd:test,t,0x0001' sg_vpd --page=di "$a"
want $ok 'SIMPSUP=1' sg_vpd --page=ei "$a"
want $ok 'block -> block' sg_vpd --page=tpc "$a"
want $ok 'Maximum compare and write length: 255 blocks' sg_vpd --page=bl "$a"
want $ok 'Maximum unmap LBA count: 1048576' sg_vpd --page=bl "$a"
want $ok 'Non-rotating' sg_vpd --page=bdc "$a"
want $ok 'LBPRZ\): 1' sg_vpd --page=lbpv "$a"
want $ok 'Provisioning type: 2' sg_vpd --page=lbpv "$a"
[ "$(sg_vpd --page=sn "$a")" != "$(sg_vpd --page=sn "$b")" ] || fail "both disks have one serial number"

# What it can do.
want $ok 'imples 2 lun entries' sg_luns "$a"
want $ok '0001000000000000' sg_luns "$a"
want $ok 'c101000000000000' sg_luns --select=1 "$a"
want $illegal '' sg_luns --select=9 "$a"
want $ok 'Compare and write' sg_opcodes "$a"
want $ok 'Extended copy\(LID1\)' sg_opcodes "$a"
want $ok 'Sanitize, overwrite' sg_opcodes "$a"
want $ok 'Command is supported' sg_opcodes --opcode=0x89 "$a"
want $ok 'NOT supported' sg_opcodes --opcode=0xa5 "$a"
want $ok 'Logical unit reset' sg_opcodes --tmf "$a"
want $ok 'Block.*length=512 bytes|block length=512 bytes' sg_readcap --long "$a"
want $ok 'lbpme=1, lbprz=1' sg_readcap --long "$a"
want $ok 'Read-Write error recovery' sg_modes --page=1 "$a"
want $ok 'Caching' sg_modes --page=8 "$a"
want $illegal '' sg_modes --page=0x18 "$a"
want $ok '0x19.*Statistics' sg_logs --list "$a"
want $ok 'Informational exceptions' sg_logs --list "$a"
want $ok 'IE asc = 0x0' sg_logs --page=ie "$a"
want $ok '19 00 00 50' sg_logs --page=0x19 --hex "$a"
want $illegal '' sg_logs --page=0x0d "$a"
want $ok '' sg_turs "$a"
want $ok 'No additional sense' sg_requests "$a"
want $ok 'GOOD' sg_senddiag --test "$a"
want $ok '^[0-9]{13}' sg_timestamp "$a"
want $ok '' sg_sync "$a"
want $ok '' sg_start "$a"
want $ok '' sg_prevent "$a"
want $ok '' sg_prevent --allow "$a"
want $ok '' sg_read_buffer --mode=de "$a"

# Target port groups: sg_stpg takes the way to the disk away and gives it back.
want $ok 'target port group id : 0x1 ' sg_rtpg "$a"
want $ok 'asymmetric access state : 0x00 \(active/optimized\)' sg_rtpg --decode "$a"
want $ok 'TPGS=3' sg_inq "$a"
want $ok '' sg_stpg --standby "$a"
want $ok 'asymmetric access state : 0x02 \(standby\)' sg_rtpg --decode "$a"
want $ok '' sg_turs --low "$b" # another unit has a state of its own
sg_requests "$a" >/dev/null
want $not_ready '' sg_turs --low "$a"
want $ok '' sg_stpg --active "$a"
want $ok '0x01 \(active/non optimized\)' sg_rtpg --decode "$a"
want $ok '' sg_stpg --optimized "$a"
want $ok 'asymmetric access state : 0x00 \(active/optimized\)' sg_rtpg --decode "$a"
want $ok 'Illegal request' sg_stpg --tp=77 --state=0 "$a"
sg_turs "$a" >/dev/null 2>&1 || true # unit attention

# COMPARE AND WRITE: 512 bytes to compare with, 512 to write.
dd if=/dev/zero of=/tmp/zero bs=$bs count=1 status=none
dd if=/dev/urandom of=/tmp/one bs=$bs count=1 status=none
dd if=/dev/urandom of=/tmp/two bs=$bs count=1 status=none
cat /tmp/zero /tmp/one >/tmp/caw
want $ok '' sg_compare_and_write --in=/tmp/caw --lba=100 --num=1 --xferlen=1024 "$a"
want $miscompare '' sg_compare_and_write --in=/tmp/caw --lba=100 --num=1 --xferlen=1024 "$a"
cat /tmp/one /tmp/two >/tmp/caw
want $ok '' sg_compare_and_write --in=/tmp/caw --lba=100 --num=1 --xferlen=1024 "$a"
drop_caches
dd if="$a" of=/tmp/got bs=$bs skip=100 count=1 iflag=direct status=none
cmp /tmp/got /tmp/two || fail "COMPARE AND WRITE wrote something else"
want $ok '' sg_verify --lba=0 --count=128 "$a"
want $ok '' sg_verify --lba=100 --in=/tmp/two --ndo=512 "$a"
want $miscompare '' sg_verify --lba=100 --in=/tmp/one --ndo=512 "$a"
want $ok '' sg_write_verify --16 --lba=101 --num=1 --in=/tmp/one "$a"

# EXTENDED COPY from one disk to the other.
dd if=/dev/urandom of=/tmp/data bs=64k count=64 status=none
dd if=/tmp/data of="$a" bs=64k seek=16 oflag=direct status=none
want $ok '' sg_xcopy if="$(generic "$a")" of="$(generic "$b")" bs=$bs count=8192 skip=2048 seek=4096
drop_caches
dd if="$b" of=/tmp/got bs=64k skip=32 count=64 iflag=direct status=none
cmp /tmp/got /tmp/data || fail "sg_xcopy copied something else"
want $ok 'Maximum segment length' sg_copy_results --params "$a"
want $illegal '' sg_copy_results --status "$a" # of list identifier 0, which nobody used

# UNMAP gives capacity back, and it reads as zeros.
want $ok 'mapped' sg_get_lba_status --lba=2048 "$a"
want $ok '' sg_unmap --force --lba=2048 --num=8192 "$a"
want $ok 'LBA: 0x0*800  blocks: +[0-9]+  deallocated' sg_get_lba_status --lba=2048 "$a"
drop_caches
dd if="$a" bs=64k skip=16 count=64 iflag=direct status=none | tr -d '\000' | wc -c | grep -qx 0 || fail "UNMAP left data"
want $range '' sg_unmap --force --lba=131072 --num=8 "$a"
want $range '' sg_unmap --force --lba=0 --num=1048577 "$a"

# WRITE SAME, with a block of data, with none, and with UNMAP.
want $ok '' sg_write_same --16 --in=/tmp/two --xferlen=$bs --lba=2048 --num=64 "$a"
drop_caches
for i in 0 31 63; do
	dd if="$a" of=/tmp/got bs=$bs skip=$((2048 + i)) count=1 iflag=direct status=none
	cmp /tmp/got /tmp/two || fail "WRITE SAME at block $i"
done
want $ok '' sg_write_same --10 --in=/tmp/one --xferlen=$bs --lba=2048 --num=8 "$a"
want $ok '' sg_write_same --ndob --lba=2048 --num=32 "$a"
drop_caches
dd if="$a" bs=$bs skip=2048 count=32 iflag=direct status=none | tr -d '\000' | wc -c | grep -qx 0 || fail "WRITE SAME with NDOB"
dd if="$a" of=/tmp/got bs=$bs skip=2080 count=1 iflag=direct status=none
cmp /tmp/got /tmp/two || fail "WRITE SAME with NDOB wrote too much"
want $ok '' sg_write_same --unmap --ndob --lba=2048 --num=64 "$a"
want $ok 'deallocated' sg_get_lba_status --lba=2048 "$a"
want $range '' sg_write_same --ndob --lba=131071 --num=2 "$a"

# Persistent reservations of one initiator.
want $ok 'NO registered' sg_persist --in --read-keys "$a"
want $ok 'Persist Through Power Loss Capable\(PTPL_C\): 1' sg_persist --in --report-capabilities "$a"
want $ok '' sg_persist --out --register --param-sark=0xabc --param-aptpl "$a"
want $ok '0xabc' sg_persist --in --read-keys "$a"
want $conflict '' sg_persist --out --reserve --param-rk=0xabd --prout-type=5 "$a"
want $ok '' sg_persist --out --reserve --param-rk=0xabc --prout-type=5 "$a"
want $ok 'Write Exclusive, registrants only' sg_persist --in --read-reservation "$a"
want $ok 'Reservation holder' sg_persist --in --read-full-status "$a"
want $ok 'iqn.2026-11.io.github.iserd:guest' sg_persist --in --read-full-status "$a"
want $ok '' sg_persist --out --preempt --param-rk=0xabc --param-sark=0xabc --prout-type=3 "$a"
want $ok 'Exclusive Access' sg_persist --in --read-reservation "$a"
want $ok '' sg_persist --out --release --param-rk=0xabc --prout-type=3 "$a"
want $ok 'NO reservation' sg_persist --in --read-reservation "$a"
want $ok '' sg_persist --out --clear --param-rk=0xabc "$a"
want $ok 'NO registered' sg_persist --in --read-keys "$a"
want $illegal '' sg_persist --out --register --param-sark=0xabc --param-aptpl --param-alltgpt --prout-type=5 --transport-id=6 "$a"

# SANITIZE and FORMAT UNIT leave zeros, and say how far they are.
dd if=/tmp/data of="$b" bs=64k oflag=direct status=none
want $ok '' sg_sanitize --block --quick --wait "$b"
drop_caches
dd if="$b" bs=1M iflag=direct status=none | tr -d '\000' | wc -c | grep -qx 0 || fail "SANITIZE, block erase, left data"
want $ok '' sg_sanitize --overwrite --zero --quick --wait "$b"
printf '\252\252\252\252' >/tmp/pattern
want $ok '' sg_sanitize --overwrite --pattern=/tmp/pattern --quick --wait "$b"
drop_caches
dd if="$b" bs=1M iflag=direct status=none | tr -d '\252' | wc -c | grep -qx 0 || fail "SANITIZE, overwrite, left data"
want $illegal '' sg_sanitize --crypto --quick --wait "$b" # nothing is encrypted
want $ok '' sg_sanitize --fail --quick --wait "$b"
want $ok '' sg_format --format --quick --wait "$b"
drop_caches
dd if="$b" bs=1M iflag=direct status=none | tr -d '\000' | wc -c | grep -qx 0 || fail "FORMAT UNIT left data"

iscsi_logout
say "result checks=$checks kernel=$(kernel_errors | wc -l)"

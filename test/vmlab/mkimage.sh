#!/usr/bin/env bash
# Builds what a lab VM boots from, once, from the package sources that this
# machine's apt uses:
#
#   mkimage.sh root BASE OUT        OUT/root.img: the guest's root file system,
#                                   which is the directory BASE and more packages
#   mkimage.sh kernel BASE OUT      OUT/vmlinuz, OUT/modules.img, OUT/initrd.img:
#                                   the kernel that the Debian package KERNEL,
#                                   of the environment, depends on; EARLY_INIT is
#                                   the first program of initrd.img
#
# BASE is a root directory with kmod in it; it is only read.
#
# Safe to run many times at once: the first builds, the others wait for it.
set -euo pipefail

what=${1:?usage: mkimage.sh root|kernel BASE OUT} base=${2:?} out=${3:?}
# Beside what the base has: the RDMA libraries, the peers, and the tools that
# say what happened and where the time goes.
packages=(ibverbs-providers librdmacm1 ibverbs-utils rdmacm-utils tgt libiscsi-bin tcpdump linux-perf)
# What the initial file system needs to find the root file system and the
# shared directory.
early=(virtio_pci virtio_blk ext4 9p 9pnet_virtio)
# Drivers for hardware that the VM does not have.
useless=(drivers/{gpu,media,usb,iio,input,staging,isdn,hid,platform,mmc,bluetooth,comedi,hwmon,leds,power,rtc,thermal,video,char}
	drivers/net/{wireless,ethernet,can,wwan,usb,fddi,hamradio,arcnet,ieee802154} drivers/infiniband/hw sound net/{bluetooth,wireless,mac80211,can,nfc})

say() { printf 'vmlab: %s\n' "$*"; }
die() {
	printf 'vmlab: %s\n' "$*" >&2
	exit 1
}

apt() { apt-get -qq -o APT::Sandbox::User=root "$@"; }

# download DIR PACKAGE...: their .deb files, from the machine's own sources.
download() {
	local dir=$1
	shift
	(cd "$dir" && apt download "$@" >/dev/null)
}

# kmod COMMAND ARG...: the base's depmod and modprobe, on the host.
kmod() {
	local lib=$base/usr/lib/x86_64-linux-gnu
	"$lib/ld-linux-x86-64.so.2" --library-path "$lib" --argv0 "$1" "$base/usr/bin/kmod" "${@:2}"
}

root() {
	say "building the guest's root file system (about a minute, once)"
	cp -a "$base" "$tmp/root"
	rm -f "$tmp/root/.complete"
	# The host's package lists, resolved against what the guest has installed.
	mkdir -p "$tmp/debs/partial" "$tmp/root/debs"
	apt -y --no-install-recommends --download-only -o Dir::State::status="$tmp/root/var/lib/dpkg/status" \
		-o Dir::Cache::archives="$tmp/debs" -o Debug::NoLocking=1 install "${packages[@]}" >/dev/null
	mv "$tmp"/debs/*.deb "$tmp/root/debs/"
	printf '#!/bin/sh\nexit 101\n' >"$tmp/root/usr/sbin/policy-rc.d"
	chmod +x "$tmp/root/usr/sbin/policy-rc.d"
	DEBIAN_FRONTEND=noninteractive chroot "$tmp/root" sh -c 'dpkg -i /debs/*.deb' >"$tmp/dpkg.log" 2>&1 || {
		tail -n 20 "$tmp/dpkg.log" >&2
		die "dpkg did not finish"
	}
	rm -rf "$tmp"/root/debs "$tmp"/root/usr/share/{doc,man,locale,info}
	mkdir -p "$tmp/root/lab" "$tmp/root/lib/modules"
	mke2fs -q -t ext4 -O ^has_journal -m 0 -L root -d "$tmp/root" "$tmp/root.img" 1500M >/dev/null
	mv "$tmp/root.img" "$out/root.img"
}

kernel() {
	local image version tree
	image=$(apt-cache depends "$KERNEL" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ {print $2; exit}')
	[ -n "$image" ] || die "apt knows no $KERNEL: run apt-get update"
	version=${image#linux-image-}
	say "building the guest's kernel $version (half a minute, once)"
	mkdir -p "$tmp/debs" "$tmp/tree" "$tmp/busybox"
	download "$tmp/debs" "$image" busybox-static
	dpkg -x "$tmp"/debs/linux-image-*.deb "$tmp/tree"
	dpkg -x "$tmp"/debs/busybox-static_*.deb "$tmp/busybox"
	tree=$tmp/tree/lib/modules/$version
	(cd "$tree/kernel" && rm -rf "${useless[@]}")
	kmod depmod -b "$tmp/tree" "$version"

	mkdir -p "$tmp/early"/{bin,dev,proc,sys,mnt,modules}
	cp "$tmp/busybox/bin/busybox" "$tmp/early/bin/"
	ln -s busybox "$tmp/early/bin/sh"
	# In the order of loading, each once.
	for module in "${early[@]}" crc32c_generic; do
		kmod modprobe -d "$tmp/tree" -S "$version" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$tmp/order"
	while read -r file; do
		cp "$file" "$tmp/early/modules/"
		printf '%s\n' "${file##*/}"
	done <"$tmp/order" >"$tmp/early/modules/order"
	cp "$EARLY_INIT" "$tmp/early/init"
	chmod +x "$tmp/early/init"
	(cd "$tmp/early" && find . | "$tmp/busybox/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$out/initrd.img"

	mke2fs -q -t ext4 -O ^has_journal -m 0 -L modules -d "$tmp/tree/lib/modules" "$tmp/modules.img" 600M >/dev/null
	mv "$tmp/modules.img" "$out/modules.img"
	cp "$tmp"/tree/boot/vmlinuz-* "$out/vmlinuz"
}

[ -e "$out/.complete" ] && exit 0
[ "$(id -u)" = 0 ] || die "building the guest needs root"
mkdir -p "$(dirname "$out")"
exec 9>"$out.lock"
flock -n 9 || {
	say "another process builds it, waiting"
	flock 9
}
[ -e "$out/.complete" ] && exit 0
rm -rf "$out" "$out.part"
tmp=$out.part/tmp
final=$out out=$out.part
mkdir -p "$tmp"
"$what"
rm -rf "$tmp"
touch "$out/.complete"
mv "$out" "$final"
say "$what is ready ($(du -sh "$final" | cut -f1))"

#!/usr/bin/env bash
# Builds the kernel's software iWARP driver, siw, which Debian does not build,
# from Debian's own source package against the headers of a lab kernel:
#
#   mksiw.sh KERNEL OUT     OUT/siw.ko for the kernel in the directory KERNEL,
#                           which mkimage.sh has made
#
# Nothing is installed. Safe to run many times at once.
set -euo pipefail

kernel=${1:?usage: mksiw.sh KERNEL OUT} out=${2:?}

say() { printf 'vmlab: %s\n' "$*"; }
die() {
	printf 'vmlab: %s\n' "$*" >&2
	exit 1
}

# depends PACKAGE PATTERN: the package that it depends on and that matches.
depends() { apt-cache depends "$1" | awk -v want="$2" '$1 == "Depends:" && $2 ~ want {print $2; exit}'; }

siw() {
	local version headers common kbuild release build source
	version=$(debugfs -R 'ls -p /' "$kernel/modules.img" 2>/dev/null | awk -F/ '$6 ~ /^[0-9]/ {print $6; exit}')
	[ -n "$version" ] || die "no modules in $kernel"
	headers=linux-headers-$version
	common=$(depends "$headers" '^linux-headers-.*-common$')
	kbuild=$(depends "$headers" '^linux-kbuild-')
	[ -n "$common" ] && [ -n "$kbuild" ] ||
		die "apt has no headers for kernel $version any more: remove $kernel, so that a newer one is built"
	release=$(apt-cache show "$headers" | awk '$1 == "Version:" {print $2; exit}')
	source=linux-source-$(echo "$version" | cut -d. -f1,2)
	say "building siw for kernel $version (half a minute, once)"
	mkdir -p "$tmp/debs" "$tmp/tree" "$tmp/source"
	(cd "$tmp/debs" && apt-get -qq -o APT::Sandbox::User=root download "$headers" "$common=$release" "$kbuild" "$source=$release" >/dev/null)
	for deb in "$tmp"/debs/linux-headers-*.deb "$tmp"/debs/linux-kbuild-*.deb; do
		dpkg -x "$deb" "$tmp/tree"
	done
	dpkg-deb --fsys-tarfile "$tmp/debs/$source"_*.deb | tar -xO "./usr/src/$source.tar.xz" | xz -dc |
		tar -x -C "$tmp/source" --strip-components=5 --wildcards '*/drivers/infiniband/sw/siw/*'
	build=$tmp/tree/usr/src/$headers
	sed -i "s#/usr/src/#$tmp/tree/usr/src/#g" "$build/Makefile"
	make -s -C "$build" M="$tmp/source" CONFIG_RDMA_SIW=m CONFIG_DEBUG_INFO_BTF_MODULES= CC=gcc-12 modules >"$tmp/make.log" 2>&1 || {
		tail -n 20 "$tmp/make.log" >&2
		die "siw did not build"
	}
	strip --strip-debug "$tmp/source/siw.ko"
	mv "$tmp/source/siw.ko" "$out/"
}

[ -e "$out/.complete" ] && exit 0
mkdir -p "$(dirname "$out")"
exec 9>"$out.lock"
flock 9
[ -e "$out/.complete" ] && exit 0
rm -rf "$out" "$out.part"
final=$out
out=$out.part
tmp=$out/tmp
mkdir -p "$tmp"
siw
rm -rf "$tmp"
touch "$out/.complete"
mv "$out" "$final"
say "siw is ready"

#!/usr/bin/env bash
# Builds the root directory of the lab's user-mode Linux guests, once, with
# debootstrap and from the package sources that this machine's apt uses.
#
#   mkroot.sh DIR      builds DIR unless it is there already
#
# Safe to run many times at once: the first builds, the others wait for it.
set -euo pipefail

dir=${1:?usage: mkroot.sh DIR}
# What the guest runs: the initiator, the file systems, the load, and the
# tools that say what happened.
packages=open-iscsi,fio,e2fsprogs,xfsprogs,sg3-utils,iproute2,procps,kmod,dmsetup

say() { printf 'lab: %s\n' "$*"; }
die() { printf 'lab: %s\n' "$*" >&2; exit 1; }

[ -e "$dir/.complete" ] && exit 0
[ "$(id -u)" = 0 ] || die "building the guest's root needs root (debootstrap does)"
command -v debootstrap >/dev/null || die "debootstrap is not installed: run scripts/setup"

mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
if ! flock -n 9; then
	say "another process builds the guest's root, waiting for it"
	flock 9
fi
[ -e "$dir/.complete" ] && exit 0

# shellcheck source=/dev/null
. /etc/os-release
suite=${VERSION_CODENAME:?/etc/os-release names no release to install from}
# SITE and components of the first source that has this release.
targets=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)' |
	awk -v s="$suite" '$2 == s && $4 == "Packages"')
mirror=$(awk 'NR == 1 {print $1}' <<<"$targets")
[ -n "$mirror" ] || die "apt has no source for $suite: check /etc/apt/sources.list and run apt-get update"
components=$(awk -v m="$mirror" '$1 == m {print $3}' <<<"$targets" | sort -u | paste -sd,)

proxy=$(apt-config shell p Acquire::http::Proxy)
if [ -n "$proxy" ]; then
	eval "$proxy"
	export http_proxy=$p
fi

say "building the guest's root from $suite in $dir (about a minute, once)"
rm -rf "$dir" "$dir.part"
log=$dir.log
if ! debootstrap --variant=minbase --components="$components" --include="$packages" \
	"$suite" "$dir.part" "$mirror" >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	tail -n 20 "$dir.part/debootstrap/debootstrap.log" >&2 || true
	die "debootstrap did not finish"
fi
rm -rf "$dir.part"/var/cache/apt/archives/*.deb "$dir.part"/var/lib/apt/lists/* \
	"$dir.part"/usr/share/{doc,man,locale}
# Mount points that the guest's init fills: its own run's files and the
# kernel's modules. The root itself is mounted read-only and shared.
mkdir -p "$dir.part/lab" "$dir.part/lib/modules"
# The kernel hands lab=DIR of its command line to init as a variable.
cat >"$dir.part/lab-init" <<'INIT'
#!/bin/sh
/bin/mount -n -t proc proc /proc
/bin/mount -n -t hostfs none /lab -o "$lab"
exec /bin/sh /lab/init.sh
INIT
chmod +x "$dir.part/lab-init"
touch "$dir.part/.complete"
mv "$dir.part" "$dir"
say "guest's root is ready ($(du -sh "$dir" | cut -f1))"

#!/bin/bash
# Gets a stock Debian kernel, unchanged and without installing it, for guests to boot.
# usage: fetch-kernel.sh [--refresh] NAME...     NAME: 6.1-generic 6.1-cloud 6.12-generic 6.12-cloud
# result: build/guest/NAME/{vmlinuz,version,lib/modules/VERSION/}
# --refresh asks apt for the newest package even where one is in the cache already.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
cache=${RINGLET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringlet}/kernels
PATH=$PATH:/usr/sbin:/sbin
tmp=

die() {
	echo "fetch-kernel.sh: $*" >&2
	exit 1
}

cleanup() {
	if [ -n "$tmp" ]; then rm -rf "$tmp"; fi
}
trap cleanup EXIT

metapackage() {
	case $1 in
	6.1-generic) echo linux-image-amd64 ;;
	6.1-cloud) echo linux-image-cloud-amd64 ;;
	6.12-generic) echo linux-image-6.12-amd64 ;;
	6.12-cloud) echo linux-image-6.12-cloud-amd64 ;;
	*) die "no kernel is called '$1'; there are 6.1-generic 6.1-cloud 6.12-generic 6.12-cloud" ;;
	esac
}

# The package that holds the kernel is named after its version; the metapackage depends on the newest one.
resolve() {
	local meta pkg
	meta=$(metapackage "$1")
	pkg=$(apt-cache depends --important "$meta" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
	[ -n "$pkg" ] || die "apt knows no $meta; run: sudo apt-get update
  (6.12 comes from the suite bookworm-security, 6.1 from bookworm; both must be in /etc/apt/sources.list.d)"
	case $pkg in
	linux-image-"${1%-*}".*) echo "$pkg" ;;
	*) die "$meta is $pkg here, not a ${1%-*} kernel; Debian 12 (bookworm) has it" ;;
	esac
}

# Fills the cache: $cache/NAME/{boot,lib,...} as the package holds them, with modules.dep.
fetch() {
	local name=$1 pkg version
	pkg=$(resolve "$name")
	version=${pkg#linux-image-}
	if [ "$(cat "$cache/$name/version" 2>/dev/null)" = "$version" ]; then return; fi

	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	chmod 755 "$tmp" # mktemp's 0700 keeps apt's own user out
	(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$pkg") >&2 ||
		die "cannot download $pkg; the lists of apt may be older than the archive, run: sudo apt-get update"
	mkdir "$tmp/root"
	dpkg-deb -x "$tmp/$pkg"_*.deb "$tmp/root" || die "cannot unpack $pkg"
	if [ ! -d "$tmp/root/lib/modules" ]; then # merged /usr
		mkdir -p "$tmp/root/lib"
		mv "$tmp/root/usr/lib/modules" "$tmp/root/lib/"
	fi
	depmod -b "$tmp/root" "$version" || die "depmod failed; it is in the package kmod: sudo apt-get install kmod"
	echo "$version" >"$tmp/root/version"
	rm -rf "${cache:?}/$name"
	mv "$tmp/root" "$cache/$name"
	rm -rf "$tmp"
	tmp=
}

place() {
	local name=$1 out=$repo/build/guest/$1 version
	version=$(cat "$cache/$name/version")
	if [ "$(cat "$out/version" 2>/dev/null)" = "$version" ]; then return; fi

	mkdir -p "$repo/build/guest"
	tmp=$(mktemp -d "$repo/build/guest/.tmp.XXXXXX")
	chmod 755 "$tmp"
	mkdir "$tmp/lib"
	# Hundreds of megabytes: hard links where the cache is on the same file system.
	cp -al "$cache/$name/lib/modules" "$tmp/lib/" 2>/dev/null || {
		rm -rf "$tmp/lib/modules"
		cp -a "$cache/$name/lib/modules" "$tmp/lib/"
	}
	cp "$cache/$name/boot/vmlinuz-$version" "$tmp/vmlinuz"
	echo "$version" >"$tmp/version"
	# Kept where it is there: make and others may hold results in the directory.
	mkdir -p "$out"
	rm -rf "$out/version" "$out/lib" "$out/vmlinuz"
	mv "$tmp/lib" "$tmp/vmlinuz" "$out/"
	mv "$tmp/version" "$out/" # last: it says that the rest is there
	rm -rf "$tmp"
	tmp=
}

refresh=no
if [ "${1:-}" = --refresh ]; then
	refresh=yes
	shift
fi
[ $# -gt 0 ] || die "usage: fetch-kernel.sh [--refresh] NAME..., for example 6.12-cloud"
mkdir -p "$cache"
exec {lock}>"$cache/.lock"
flock "$lock" # make -j, and the lab, may ask for the same kernel at once
for name; do
	metapackage "$name" >/dev/null
	if [ $refresh = yes ] || [ ! -e "$cache/$name/version" ]; then fetch "$name"; fi
	place "$name"
done

#!/bin/bash
# Builds a kernel of our own out of Debian's source package and guest-images/NAME.config.
# A line "# base: OTHER" in it says that OTHER.config comes first.
# usage: build-kernel.sh [--refresh] NAME...     NAME: small crash
# result: build/guest/NAME/{vmlinux,bzImage,version,config}
# A kernel is built once for a source version and a configuration, and kept in the cache. --refresh asks apt for newer source.
# While it is built (ten minutes of one processor) it takes 3 GB in the cache.
#   JOBS=N            at once (default: as many as there are processors)
set -euo pipefail

source=linux-source-6.12
here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
cache=${RINGLET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringlet}/kernels
tmp=

die() {
	echo "build-kernel.sh: $*" >&2
	exit 1
}

cleanup() {
	if [ -n "$tmp" ]; then rm -rf "$tmp"; fi
}
trap cleanup EXIT

need() { # PROGRAM PACKAGE
	command -v "$1" >/dev/null || die "$1 is missing; run: sudo apt-get install $2"
}

need_all() {
	local header
	need gcc gcc
	need make make
	need flex flex
	need bison bison
	need bc bc
	need lz4 lz4
	need xz xz-utils
	need perl perl
	for header in gelf.h:libelf-dev openssl/opensslv.h:libssl-dev; do
		echo "#include <${header%:*}>" | gcc -E -x c - >/dev/null 2>&1 ||
			die "${header%:*} is missing; run: sudo apt-get install ${header#*:}"
	done
}

fragment() { # NAME: with those that it is based on
	local base
	base=$(sed -n 's/^# base: //p' "$here/$1.config")
	if [ -n "$base" ]; then fragment "$base"; fi
	cat "$here/$1.config"
}

candidate() {
	local version
	version=$(apt-cache policy $source 2>/dev/null | awk '$1 == "Candidate:" { print $2 }')
	case $version in
	'' | '(none)') die "apt knows no $source; run: sudo apt-get update
  (it comes from the suite bookworm-security, which must be in /etc/apt/sources.list.d)" ;;
	esac
	echo "$version"
}

# Lines of the fragment that Kconfig did not take: a word that this source does not know, or one that lacks what it depends on.
refused() { # FRAGMENT CONFIG
	grep -E '^(CONFIG_[A-Z0-9_]+=|# CONFIG_[A-Z0-9_]+ is not set)' "$1" | while IFS= read -r line; do
		case $line in
		'#'*)
			line=${line#\# }
			if grep -q "^${line%% *}=" "$2"; then echo "${line%% *}=n"; fi
			;;
		*) grep -qxF -- "$line" "$2" || echo "$line" ;;
		esac
	done
}

# One place, one user and one date, so that the same source and configuration are the same kernel.
kernel_make() {
	LC_ALL=C KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=ringlet KBUILD_BUILD_HOST=ringlet \
		KBUILD_BUILD_VERSION=1 make -s -C "$tmp/$source" LOCALVERSION= "$@"
}

build() { # NAME VERSION KEY
	local name=$1 version=$2 key=$3 missing
	need_all
	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	chmod 755 "$tmp" # mktemp's 0700 keeps apt's own user out
	(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$source=$version") >&2 ||
		die "cannot download $source $version; the lists of apt may be older than the archive, run: sudo apt-get update"
	dpkg-deb --fsys-tarfile "$tmp/$source"_*.deb | tar -xO "./usr/src/$source.tar.xz" | tar -xJ -C "$tmp" || die "cannot unpack $source"

	fragment "$name" >"$tmp/fragment"
	kernel_make KCONFIG_ALLCONFIG="$tmp/fragment" allnoconfig >"$tmp/log" 2>&1 || {
		tail -n 20 "$tmp/log" >&2
		die "$name.config cannot be made a configuration"
	}
	missing=$(refused "$tmp/fragment" "$tmp/$source/.config")
	[ -z "$missing" ] || die "$source $version does not take these lines of guest-images/$name.config:
$missing"
	echo "build-kernel.sh: building $name from $source $version; this takes some minutes" >&2
	kernel_make -j "${JOBS:-$(nproc)}" vmlinux bzImage >"$tmp/log" 2>&1 || {
		tail -n 20 "$tmp/log" >&2
		die "the kernel $name cannot be built"
	}

	mkdir "$tmp/new"
	cp "$tmp/$source/vmlinux" "$tmp/new/vmlinux"
	cp "$tmp/$source/arch/x86/boot/bzImage" "$tmp/new/bzImage"
	cp "$tmp/$source/.config" "$tmp/new/config"
	kernel_make kernelrelease >"$tmp/new/version"
	echo "$key" >"$tmp/new/key"
	rm -rf "${cache:?}/$name"
	mv "$tmp/new" "$cache/$name"
	rm -rf "$tmp"
	tmp=
}

place() { # NAME
	local name=$1 out=$repo/build/guest/$1 file
	mkdir -p "$out"
	if [ -e "$out/version" ] && cmp -s "$cache/$name/key" "$out/key"; then return; fi
	rm -f "$out/version"
	for file in vmlinux bzImage config key; do
		cp "$cache/$name/$file" "$out/.new" # not onto a file that a guest may be made from just now
		mv "$out/.new" "$out/$file"
	done
	cp "$cache/$name/version" "$out/version" # last: it says that the rest is there
}

refresh=no
if [ "${1:-}" = --refresh ]; then
	refresh=yes
	shift
fi
[ $# -gt 0 ] || die "usage: build-kernel.sh [--refresh] NAME..., for example small"
mkdir -p "$cache"
exec {lock}>"$cache/.lock-build"
flock "$lock" # make -j, and the lab, may ask for the same kernel at once
for name; do
	[ -e "$here/$name.config" ] || die "no guest-images/$name.config; there are: $(cd "$here" && echo *.config)"
	config=$(fragment "$name" | sha256sum | cut -c 1-16)
	have=$(cat "$cache/$name/key" 2>/dev/null || true)
	if [ $refresh = yes ] || [ "${have#* }" != "$config" ]; then
		version=$(candidate)
		if [ "$have" != "$version $config" ]; then build "$name" "$version" "$version $config"; fi
	fi
	place "$name"
done

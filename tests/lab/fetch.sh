#!/bin/bash
# Gets what the lab is made of and prints where it is: three lines, the emulator, its firmware directory (empty for
# an installed emulator, which knows its own), the kernel directory. Nothing is installed.
# usage: fetch.sh
#   LAB_QEMU=PROGRAM  use that emulator instead of looking for one
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
cache=${RINGLET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringlet}
kernel=6.12-generic # 6.1 has no vDPA, a cloud kernel no 9p
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
tmp=

die() {
	echo "lab: $*" >&2
	exit 1
}

cleanup() {
	if [ -n "$tmp" ]; then rm -rf "$tmp"; fi
}
trap cleanup EXIT

version_of() {
	"$@" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\.[0-9]*\).*/\1/p'
}

# Multi-threaded TCG before 8.1 loses races with kernels that patch their own text: guests and the lab itself then
# break now and then, which looks exactly like a fault of ours.
new_enough() {
	local version=$1
	[ -n "$version" ] && [ "$(printf '%s\n8.1\n' "$version" | sort -V | head -1)" = 8.1 ]
}

# bookworm-backports through the mirror that apt is set up for, without touching the system's sources or lists.
fetch_emulator() {
	local mirror opts deb
	mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
	[ -n "$mirror" ] || die "QEMU 8.1 or newer is needed and is not installed; run: sudo apt-get install qemu-system-x86"
	[ -e "$keyring" ] || die "$keyring is missing; run: sudo apt-get install debian-archive-keyring"

	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	chmod 755 "$tmp"
	mkdir -p "$tmp"/{etc,lists/partial,cache/archives/partial,debs,qemu}
	echo "deb [signed-by=$keyring] $mirror bookworm-backports main" >"$tmp/etc/backports.list"
	opts=(-qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$tmp/etc" -o "Dir::State::Lists=$tmp/lists"
		-o "Dir::Cache=$tmp/cache" -o APT::Sandbox::User=root)
	apt-get "${opts[@]}" update >&2 || die "cannot read bookworm-backports from $mirror"
	(cd "$tmp/debs" && apt-get "${opts[@]}" download qemu-system-x86 qemu-system-common qemu-system-data >&2 &&
		apt-get -qq -o APT::Sandbox::User=root download seabios >&2) ||
		die "cannot download QEMU from bookworm-backports; if seabios was not found, run: sudo apt-get update"
	for deb in "$tmp"/debs/*.deb; do
		dpkg-deb -x "$deb" "$tmp/qemu"
	done
	rm -rf "$cache/qemu"
	mv "$tmp/qemu" "$cache/qemu"
	rm -rf "$tmp"
	tmp=
}

emulator() {
	local found version
	if [ -n "${LAB_QEMU:-}" ]; then
		version=$(version_of "$LAB_QEMU")
		[ -n "$version" ] || die "LAB_QEMU=$LAB_QEMU does not run or is not QEMU"
		new_enough "$version" || die "LAB_QEMU=$LAB_QEMU is QEMU $version, whose multi-threaded emulation breaks guests;
  it takes 8.1 or newer: leave LAB_QEMU unset and the lab fetches one"
		echo "$LAB_QEMU"
		echo
		return
	fi
	found=$(command -v qemu-system-x86_64 || true)
	if [ -n "$found" ] && new_enough "$(version_of "$found")"; then
		echo "$found"
		echo
		return
	fi
	if [ ! -x "$cache/qemu/usr/bin/qemu-system-x86_64" ]; then fetch_emulator; fi
	found=$cache/qemu/usr/bin/qemu-system-x86_64
	if ldd "$found" | grep -q 'not found'; then
		die "the emulator lacks libraries; Debian's own package brings them, run: sudo apt-get install qemu-system-x86"
	fi
	version=$(version_of "$found")
	new_enough "$version" || die "$found is QEMU ${version:-(it does not run)} and not 8.1 or newer; run: rm -rf $cache/qemu and try again"
	echo "$found"
	echo "$cache/qemu/usr/share"
}

mkdir -p "$cache"
exec {lock}>"$cache/.lock-lab"
flock "$lock" # two labs may start at once
emulator
"$repo/guest-images/fetch-kernel.sh" "$kernel"
echo "$repo/build/guest/$kernel"

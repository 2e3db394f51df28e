#!/bin/bash
# Makes build/guest/tools.img: an ext4 file system with what tests run in a guest (iperf3, fio, ...) and the libraries of these, copied
# from this machine. A guest mounts it read-only; tests/lab/guest/tools is how it is used there.
# usage: mktools.sh     after: scripts/setup.sh tools
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

programs=(bash iperf3 fio ethtool lspci mkfs.ext4 e2fsck blkdiscard blockdev ping ip tc sockperf cmp dd socat)
guest=$(cd "$(dirname "$0")/.." && pwd)/build/guest
tmp=

die() {
	echo "mktools.sh: $*" >&2
	exit 1
}

cleanup() {
	if [ -n "$tmp" ]; then rm -rf "$tmp"; fi
}
trap cleanup EXIT

mkdir -p "$guest"
tmp=$(mktemp -d "$guest/.tools.XXXXXX")
root=$tmp/root
mkdir -p "$root"/{dev,etc,proc,sys,tmp,run,bin,usr/share}
for program in "${programs[@]}"; do
	file=$(command -v "$program") || die "$program is missing; run: scripts/setup.sh tools"
	cp -L "$file" "$root/bin/$program"
	ldd "$file" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }'
done | sort -u >"$tmp/libraries"
while read -r file; do
	mkdir -p "$root${file%/*}"
	cp -L "$file" "$root$file"
done <"$tmp/libraries"
cp -L /usr/share/misc/pci.ids* "$root/usr/share/" 2>/dev/null || true
ln -s bash "$root/bin/sh"
echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
# The journal would want to be replayed, which a read-only disk cannot have.
truncate -s $(($(du -sm "$root" | cut -f 1) + 24))M "$tmp/tools.img"
mke2fs -q -F -t ext4 -O ^has_journal -d "$root" "$tmp/tools.img"
mv "$tmp/tools.img" "$guest/tools.img"

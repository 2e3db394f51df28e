#!/bin/bash
# Puts kernel modules and all they depend on into a directory, decompressed, and prints their file names in load order.
# usage: modules.sh KERNEL_DIR DEST MODULE...     KERNEL_DIR: as fetch-kernel.sh leaves it
# A module that is built in needs no file; one that the kernel was built without is named on stderr and left out.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

kernel=$1 dest=$2
shift 2
version=$(cat "$kernel/version")
command -v modprobe >/dev/null || {
	echo "modules.sh: no modprobe here; run: sudo apt-get install kmod" >&2
	exit 1
}
mkdir -p "$dest"

for module; do
	# -C: what this machine's /etc/modprobe.d says is no business of the guest.
	if ! modprobe -C /dev/null -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null; then
		echo "modules.sh: kernel $version has no module $module" >&2
	fi
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
	name=${file##*/}
	name=${name%%.ko*}.ko
	case $file in
	*.ko) cp "$file" "$dest/$name" ;;
	*.ko.xz) xz -dc "$file" >"$dest/$name" ;;
	*.ko.zst) zstd -dqc "$file" >"$dest/$name" ;;
	*) echo "modules.sh: do not know how to unpack $file" >&2; exit 1 ;;
	esac
	echo "$name"
done

#!/bin/bash
# Makes a disk with DPDK's testpmd and its virtio driver for a guest, uio_pci_generic of the guest's kernel, and guest.sh.
# usage: pack.sh KERNEL OUT     KERNEL: a directory of build/guest
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../../.." && pwd)
kernel=$1 out=$2
release=$("$repo/tests/peers/fetch.sh" bookworm)
libraries=$release/usr/lib/x86_64-linux-gnu
for loader in "$release"/{usr/,}lib64/ld-linux-x86-64.so.2; do [ ! -e "$loader" ] || break; done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

mkdir -p "$tmp/root/modules" "$tmp/root/lib"
chmod 755 "$tmp/root" # DPDK loads no driver from where everybody may write
install -m 644 "$here/guest.sh" "$tmp/root"
"$repo/guest-images/modules.sh" "$repo/build/guest/$kernel" "$tmp/root/modules" uio_pci_generic >"$tmp/root/modules/order"
[ -s "$tmp/root/modules/order" ] || {
	echo "pack.sh: no uio_pci_generic in $kernel" >&2
	exit 1
}
drivers=("$libraries"/dpdk/pmds-*/librte_{bus_pci,mempool_ring,net_virtio}.so.??)
cp -L "$loader" "$tmp/root/lib/ld.so"
install -m 755 "$release/usr/bin/dpdk-testpmd" "$tmp/root/testpmd"
for file in "$release/usr/bin/dpdk-testpmd" "${drivers[@]}"; do
	"$loader" --library-path "$libraries:$release/lib/x86_64-linux-gnu" --list "$file"
done | awk '$2 == "=>" { print $3 }' | sort -u | xargs cp -L -t "$tmp/root/lib"
cp -L "${drivers[@]}" "$tmp/root/lib"
truncate -s $(($(du -sm "$tmp/root" | cut -f 1) + 16))M "$tmp/image"
mke2fs -q -F -t ext4 -O ^has_journal -d "$tmp/root" "$tmp/image"
mv "$tmp/image" "$out"

#!/bin/bash
# Makes the lab's initramfs: busybox, the modules, tests/lab/init.
# usage: image.sh KERNEL_DIR OUT     does nothing where OUT is newer than what it is made from
set -euo pipefail

# Disk, network and vhost halves of both sides: the lab is a host with everything a VMM may be given.
modules="sch_ingress act_mirred cls_u32 virtio_pci 9p 9pnet_virtio overlay virtio_console kvm-amd kvm-intel tun vhost_net vhost_scsi vhost_vsock vhost_vdpa
	target_core_file vduse bridge veth virtio_net virtio_blk 8021q loop ext4"

here=$(cd "$(dirname "$0")" && pwd)
kernel=$1 out=$2

fresh() {
	local source
	[ -e "$out" ] || return 1
	for source in "$here/init" "$here/image.sh" "$kernel/version"; do
		if [ "$source" -nt "$out" ]; then return 1; fi
	done
}

exec {lock}>"$out.lock"
flock "$lock"
if fresh; then exit 0; fi

busybox=$(command -v busybox) && ! ldd "$busybox" >/dev/null 2>&1 || {
	echo "lab: a static busybox is missing; run: sudo apt-get install busybox-static" >&2
	exit 1
}
tmp=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/root/bin" "$tmp/root/modules"
install -m 755 "$busybox" "$tmp/root/bin/busybox"
install -m 755 "$here/init" "$tmp/root/init"
# shellcheck disable=SC2086 # a list of words
"$here/../../guest-images/modules.sh" "$kernel" "$tmp/root/modules" $modules >"$tmp/order"
mv "$tmp/order" "$tmp/root/modules/order"
(cd "$tmp/root" && find . -mindepth 1 | cpio --quiet -o -H newc -R 0:0) >"$tmp/image"
mv "$tmp/image" "$out"

#!/bin/bash
# Makes the small initramfs that our guests boot: our init, busybox, a few modules of the kernel NAME.
# usage: mkinitramfs.sh NAME...     after fetch-kernel.sh NAME and with build/guest/init built
# result: build/guest/NAME/initramfs.cpio (newc, not compressed: the kernel unpacks it faster than any packed one)
set -euo pipefail

# Loaded by init in this order, each after what it depends on.
modules=${RINGLET_GUEST_MODULES:-pvpanic pvpanic-mmio button evdev}
# ... and these where there is a virtio device.
virtio_modules=${RINGLET_GUEST_VIRTIO_MODULES:-virtio_pci virtio_mmio virtio_net virtio_blk virtio_console virtio_balloon virtio-rng}
# There for modprobe, and for the kernel itself when something is mounted.
other_modules=${RINGLET_GUEST_OTHER_MODULES:-ext4 8021q vmw_vsock_virtio_transport virtio_scsi sd_mod virtiofs}

here=$(cd "$(dirname "$0")" && pwd)
guest=$(cd "$here/.." && pwd)/build/guest
PATH=$PATH:/usr/sbin:/sbin
tmp=

die() {
	echo "mkinitramfs.sh: $*" >&2
	exit 1
}

need() { # COMMAND PACKAGE
	command -v "$1" >/dev/null || die "$1 is missing; run: sudo apt-get install $2"
}

cleanup() {
	if [ -n "$tmp" ]; then rm -rf "$tmp"; fi
}
trap cleanup EXIT

add_busybox() {
	local root=$1 busybox=$2 applet
	install -m 755 "$busybox" "$root/bin/busybox"
	"$busybox" --list-full | while read -r applet; do
		case $applet in
		bin/busybox | linuxrc | sbin/init) continue ;; # init is ours
		esac
		echo "$applet"
	done >"$tmp/applets"
	(cd "$root" && sed 's,/[^/]*$,,' "$tmp/applets" | sort -u | xargs mkdir -p &&
		while read -r applet; do printf '%s\0' "$applet"; done <"$tmp/applets" | xargs -0 -n 1 ln -sf /bin/busybox)
}

add_etc() {
	local root=$1
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	printf 'root:x:0:\ntty:x:5:\n' >"$root/etc/group"
	echo '127.0.0.1 localhost' >"$root/etc/hosts"
	echo ringlet >"$root/etc/hostname"
	cat >"$root/etc/profile" <<'P'
hostname -F /etc/hostname
PS1='\h:\w\$ '
P
}

add_modules() {
	local name=$1 root=$2 version dir
	version=$(cat "$guest/$name/version")
	dir=/lib/modules/$version
	# shellcheck disable=SC2086 # lists of words
	{
		"$here/modules.sh" "$guest/$name" "$root$dir" $modules | sed "s,^,$dir/," >"$root/lib/modules/ringlet.order"
		"$here/modules.sh" "$guest/$name" "$root$dir" $virtio_modules | sed "s,^,$dir/," >"$root/lib/modules/ringlet.virtio"
		"$here/modules.sh" "$guest/$name" "$root$dir" $other_modules >/dev/null
	}
	cp "$guest/$name/lib/modules/$version/modules.builtin" "$root$dir/" 2>/dev/null || true
	depmod -b "$root" "$version" 2>/dev/null
	# busybox reads the text.
	rm -f "$root$dir"/modules.*.bin "$root$dir"/modules.devname "$root$dir"/modules.softdep "$root$dir"/modules.symbols
}

make_one() {
	local name=$1 root busybox
	[ -e "$guest/$name/version" ] || die "there is no kernel $name in build/guest; run: guest-images/fetch-kernel.sh $name"
	[ -x "$guest/init" ] || die "build/guest/init is missing; run: make build/guest/init"
	busybox=$(command -v busybox) || die "busybox is missing; run: sudo apt-get install busybox-static"
	if ldd "$busybox" >/dev/null 2>&1; then die "$busybox is not static; run: sudo apt-get install busybox-static"; fi

	tmp=$(mktemp -d "$guest/$name/.tmp.XXXXXX")
	root=$tmp/root
	mkdir -p "$root"/{bin,dev,etc,lib/modules,mnt,proc,root,run,sys,tmp}
	install -m 755 "$guest/init" "$root/init"
	add_busybox "$root" "$busybox"
	add_etc "$root"
	add_modules "$name" "$root"

	# One date and one order, so that the same contents are the same file.
	find "$root" -exec touch -h -d @0 {} +
	(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) >"$tmp/initramfs.cpio"
	mv "$tmp/initramfs.cpio" "$guest/$name/initramfs.cpio"
	rm -rf "$tmp"
	tmp=
}

need cpio cpio
need depmod kmod
need xz xz-utils
[ $# -gt 0 ] || die "usage: mkinitramfs.sh NAME..., for example 6.12-cloud"
for name; do
	make_one "$name"
done

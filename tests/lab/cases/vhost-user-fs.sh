#!/bin/bash
# A directory of the host by virtiofsd, the C one and the Rust one: read, written, and a root to live in.
# timeout: 300
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
trap 'peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
patience=$((patience / 2))
root=$tmp/root
mkdir -p "$root"/{bin,dir}
head -c 4M /dev/urandom >"$root/data"
cp "$(command -v busybox)" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
for kind in c rust; do
	rm -f "$root/written"
	peer_virtiofsd "$tmp/fs.sock" "$root" $kind || fail "no virtiofsd in $kind"
	in_guest --fs "vhost-user,path=$tmp/fs.sock,tag=shared" -- '
modprobe virtiofs || fail "the guest has no driver"
mkdir /tmp/fs && mount -t virtiofs shared /tmp/fs || fail "it cannot be mounted"
echo "sha $(sha256sum /tmp/fs/data | cut -d " " -f 1)"
dd if=/dev/urandom of=/tmp/written bs=64k count=32 2>/dev/null
cp /tmp/written /tmp/fs/written && sync || fail "it cannot be written"
echo "written $(sha256sum /tmp/written | cut -d " " -f 1)"
ln -s data /tmp/fs/dir/link-$$ && mv /tmp/fs/dir/link-$$ /tmp/fs/dir/moved && rm /tmp/fs/dir/moved || fail "links"
[ "$(chroot /tmp/fs /bin/busybox sh -c "cd / && busybox ls")" = "$(ls /tmp/fs)" ] || fail "nobody can live there"
umount /tmp/fs || fail "umount"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
	expect_status 0 "using a directory by virtiofsd in $kind"
	grep -q "sha $(sha "$root/data")" "$tmp/out" || fail "the guest reads something else"
	grep -q "written $(sha "$root/written")" "$tmp/out" || fail "the host has something else than the guest has written"
	peer_stop "$tmp/fs.sock"
done

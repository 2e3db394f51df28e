#!/bin/bash
# An image as the root: whole and in a partition, read-only below an overlay and written to.
# timeout: 900
# only: test-all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../root-lib.bash"
patience=$((patience / 4))
mkdir -p "$tmp/root/bin"
cp "$(command -v busybox)" "$tmp/root/bin/busybox"
ln -s busybox "$tmp/root/bin/sh"
echo "of the image" >"$tmp/root/file"
truncate -s 64M "$tmp/ext4"
mkfs.ext4 -q -d "$tmp/root" "$tmp/ext4" || fail "no image can be made"
sum=$(sha "$tmp/ext4")
try='/bin/busybox cat /file; echo new >/file && /bin/busybox cat /file; /bin/busybox grep " / " /proc/mounts | /bin/busybox cut -d " " -f 1'

for kernel in 6.12-generic 6.1-cloud; do # ext4 as a module, and built in
	root_run $kernel --root "$tmp/ext4" -- sh -c "$try"
	expect_status 0 "a command in an image under $kernel"
	[ "$(tr '\n' ' ' <"$tmp/out")" = "of the image new overlay " ] || fail "the guest sees something else"
	[ "$(sha "$tmp/ext4")" = "$sum" ] || fail "the image has changed"
done

root_run 6.12-generic --disk build/guest/tools.img,ro --root "$tmp/ext4,rw" -- sh -c "$try"
expect_status 0 "a command in a writable image"
[ "$(tr '\n' ' ' <"$tmp/out")" = "of the image new /dev/vdb " ] || fail "the guest sees something else, or the user's disk is not the first"
[ "$(debugfs -R 'cat file' "$tmp/ext4" 2>/dev/null)" = new ] || fail "what was written has not arrived"
e2fsck -fn "$tmp/ext4" >"$tmp/fsck" 2>&1 || { cat "$tmp/fsck"; fail "the image is not clean"; }

command -v mkfs.xfs >/dev/null && command -v mkfs.btrfs >/dev/null || fail "no mkfs.xfs or mkfs.btrfs; run: scripts/setup.sh images"
truncate -s 300M "$tmp/xfs"
cat >"$tmp/proto" <<X
none
0 0
d--755 0 0
bin d--755 0 0
busybox ---755 0 0 $(command -v busybox)
sh l--777 0 0 busybox
$
file ---644 0 0 $tmp/root/file
$
X
mkfs.xfs -q -p "$tmp/proto" "$tmp/xfs" || fail "no image can be made"
truncate -s 128M "$tmp/btrfs"
mkfs.btrfs -q --rootdir "$tmp/root" "$tmp/btrfs" || fail "no image can be made"
for kernel in 6.12-cloud 6.1-generic; do # both are modules, which want others
	for image in xfs btrfs; do
		root_run $kernel --root "$tmp/$image" -- sh -c "$try"
		expect_status 0 "a command in an image of $image under $kernel"
		[ "$(tr '\n' ' ' <"$tmp/out")" = "of the image new overlay " ] || fail "the guest sees something else"
		root_run $kernel --root "$tmp/$image,rw" -- sh -c "echo of the image >/file; $try; echo of the image >/file"
		expect_status 0 "a command in a writable image of $image under $kernel"
		[ "$(tr '\n' ' ' <"$tmp/out")" = "of the image new /dev/vda " ] || fail "the guest sees something else"
	done
done
xfs_repair -n "$tmp/xfs" >"$tmp/fsck" 2>&1 && btrfs check "$tmp/btrfs" >>"$tmp/fsck" 2>&1 || { cat "$tmp/fsck"; fail "an image is not clean"; }

truncate -s 1M "$tmp/disk"
cat "$tmp/ext4" >>"$tmp/disk"
truncate -s 66M "$tmp/disk"
# One of type 0x83, 131072 sectors from number 2048 on.
printf '\0\0\0\0\x83\0\0\0\0\x08\0\0\0\0\x02\0' | dd of="$tmp/disk" bs=1 seek=446 conv=notrunc status=none
printf '\x55\xaa' | dd of="$tmp/disk" bs=1 seek=510 conv=notrunc status=none
root_run 6.12-cloud --root "$tmp/disk" -- sh -c "$try"
expect_status 0 "a command in an image with a partition"
[ "$(tr '\n' ' ' <"$tmp/out")" = "new new overlay " ] || fail "the guest sees something else"

head -c 1M /dev/zero >"$tmp/zero"
root_run 6.12-cloud --root "$tmp/zero" -- true
expect_status 125 "an image of zeroes"
expect_line "$tmp/err" 'neither a directory nor an image with a file system'

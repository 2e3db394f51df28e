#!/bin/bash
# A guest uses a disk: verified random I/O, whole contents both ways, discard, zeroes, a file system.
# usage: blk-case.sh KERNEL TRANSPORT QUEUES KEYS     6.1-cloud mmio 4 aio=sync,direct
. "$(dirname "$0")/lib.sh"

kernel=$1 transport=$2 queues=$3 keys=$4
image=$tmp/disk.img
case ,$keys, in
*,direct,*) # a file system that has O_DIRECT
	truncate -s 200M "$tmp/fs.img" && mke2fs -q "$tmp/fs.img" && mkdir "$tmp/fs" && mount -o loop "$tmp/fs.img" "$tmp/fs" ||
		fail "no file system for the image"
	trap 'umount -l "$tmp/fs"; rm -rf "$tmp"' EXIT
	image=$tmp/fs/disk.img
	;;
esac
head -c 64M /dev/urandom >"$image"
before=$(sha "$image")

in_guest -c 2 --disk "$image,serial=ringlet-42,queues=$queues,transport=$transport,$keys" -- "
queues=$queues before=$before"'
[ "$(cat /sys/block/vdb/serial)" = ringlet-42 ] || fail "the serial number is $(cat /sys/block/vdb/serial)"
[ "$(cat /sys/block/vdb/size)" = 131072 ] || fail "its size is $(cat /sys/block/vdb/size)"
[ "$(ls /sys/block/vdb/mq | wc -l)" = "$(( queues < 2 ? queues : 2 ))" ] || fail "it has $(ls /sys/block/vdb/mq | wc -l) queues"
[ "$(sha256sum /dev/vdb | cut -d " " -f 1)" = "$before" ] || fail "the guest reads something else"
t fio --name=v --filename=/dev/vdb --direct=1 --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --size=8M \
	--verify=crc32c --verify_fatal=1 --output-format=terse >/tmp/fio || { cat /tmp/fio; fail "fio found wrong data"; }
t blkdiscard -o 16M -l 16M /dev/vdb || fail "blkdiscard"
t blkdiscard -z -o 32M -l 8M /dev/vdb || fail "blkdiscard -z"
[ "$(dd if=/dev/vdb bs=1M skip=32 count=8 2>/dev/null | tr -d "\\000" | wc -c)" = 0 ] || fail "zeroes read as something else"
t blockdev --setro /dev/vdb || fail "blockdev --setro"
! dd if=/dev/zero of=/dev/vdb bs=4k count=1 oflag=direct 2>/dev/null || fail "a read-only device was written"
t blockdev --setrw /dev/vdb
t mkfs.ext4 -q -F /dev/vdb || fail "mkfs"
mkdir /tmp/fs && mount -t ext4 /dev/vdb /tmp/fs || fail "mount"
dd if=/dev/urandom of=/tmp/fs/file bs=1M count=8 2>/dev/null
cp /tmp/fs/file /tmp/fs/copy && sync && cmp /tmp/fs/file /tmp/fs/copy || fail "a copy differs"
umount /tmp/fs && t e2fsck -f -n /dev/vdb >/dev/null || fail "e2fsck"
echo "sha $(sha256sum /dev/vdb | cut -d " " -f 1)"
! dmesg | grep -iE "I/O error|virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
expect_status 0 "using the disk"
grep -q "sha $(sha "$image")" "$tmp/out" || fail "the file holds something else than the guest has written"
# The 16 MiB were given back, but for what mkfs and the files needed of them.
[ "$(du -k "$image" | cut -f 1)" -lt $((60 << 10)) ] || fail "discarded space was not given back"

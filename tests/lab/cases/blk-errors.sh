#!/bin/bash
# A full file system and a file cut short under a running guest: I/O errors there, and nothing else.
. "$(dirname "$0")/../lib.sh"
mkdir "$tmp/small"
mount -t tmpfs -o size=8M none "$tmp/small" || fail "no tmpfs"
trap 'umount -l "$tmp/small"; rm -rf "$tmp"' EXIT
truncate -s 64M "$tmp/small/disk.img" # sparse: there is no room for what it promises
truncate -s 16M "$tmp/short.img"
socat -u TCP-LISTEN:9001,reuseaddr,bind=127.0.0.1 EXEC:"truncate -s 4M $tmp/short.img" &
in_guest --disk "$tmp/small/disk.img" --disk "$tmp/short.img" --net user -- '
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2
! dd if=/dev/urandom of=/dev/vdb bs=1M count=32 oflag=direct 2>/dev/null || fail "32 MiB were written where 8 fit"
dd if=/dev/vdb of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null || fail "no reading after a full disk"
t blkdiscard /dev/vdb || fail "no discarding on a full disk"
dd if=/dev/urandom of=/dev/vdb bs=1M count=4 oflag=direct 2>/dev/null || fail "no writing after room was made"
echo now | nc 10.0.2.2 9001
sleep 2
! dd if=/dev/vdc of=/dev/null bs=64k skip=128 count=1 iflag=direct 2>/dev/null || fail "something was read beyond the end of the file"
dd if=/dev/vdc of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null || fail "what is left of the file cannot be read"
dmesg | grep -q "I/O error, dev vdb" && dmesg | grep -q "I/O error, dev vdc" || fail "the kernel was told of no error"
'
expect_status 0 "errors of the host"

#!/bin/bash
# What a guest has synced is there after Ringlet was killed, and the file system is whole.
# timeout: 180
. "$(dirname "$0")/../lib.sh"
truncate -s 64M "$tmp/disk.img"
mke2fs -q -t ext4 "$tmp/disk.img" || fail "mke2fs"
patience=$((patience / 2))
in_guest --disk "$tmp/disk.img" --disk "$tmp/disk.img,ro" -- 'true'
expect_status 125 "opening an image twice"
expect_line "$tmp/err" 'given twice'
(
	for ((i = 0; i < 300; i++)); do
		if grep -aq synced "$tmp/out" 2>/dev/null; then
			sleep 1
			pkill -KILL -f "disk $tmp/disk.img" # Ringlet's command line
			break
		fi
		sleep 0.2
	done
) &
in_guest --disk "$tmp/disk.img" -- '
mkdir /tmp/fs && mount -t ext4 /dev/vdb /tmp/fs || fail "mount"
dd if=/dev/urandom of=/tmp/fs/kept bs=1M count=4 2>/dev/null
sync
echo "synced $(sha256sum /tmp/fs/kept | cut -d " " -f 1)"
while :; do dd if=/dev/urandom of=/tmp/fs/lost bs=64k count=64 2>/dev/null; done
'
expect_status 137 "SIGKILL"
kept=$(sed -n 's/^synced //p' "$tmp/out")
in_guest --disk "$tmp/disk.img" -- '
t e2fsck -p /dev/vdb; [ $? -le 1 ] || fail "e2fsck found more than a journal to replay"
mkdir /tmp/fs && mount -t ext4 /dev/vdb /tmp/fs || fail "mount"
echo "found $(sha256sum /tmp/fs/kept | cut -d " " -f 1)"
'
expect_status 0 "looking at what is left"
grep -q "found $kept" "$tmp/out" || fail "the synced file differs"

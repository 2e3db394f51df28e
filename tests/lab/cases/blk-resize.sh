#!/bin/bash
# An image that grows while it is used: "ringlet ctl" tells the guest.
. "$(dirname "$0")/../lib.sh"
truncate -s 16M "$tmp/disk.img"
socat -u TCP-LISTEN:9001,reuseaddr,bind=127.0.0.1 \
	SYSTEM:"cat; truncate -s 32M $tmp/disk.img; $ringlet ctl growing resize-disk disk1 >$tmp/ctl 2>&1; echo status \$? >>$tmp/ctl" &
in_guest --name growing --disk "$tmp/disk.img" --net user -- '
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2
[ "$(cat /sys/block/vdb/size)" = 32768 ] || fail "it began with $(cat /sys/block/vdb/size) sectors"
echo now | nc 10.0.2.2 9001
for i in 1 2 3 4 5 6 7 8 9 10; do
	[ "$(cat /sys/block/vdb/size)" = 65536 ] && break
	sleep 1
done
[ "$(cat /sys/block/vdb/size)" = 65536 ] || fail "it has $(cat /sys/block/vdb/size) sectors and not 65536"
dd if=/dev/urandom of=/dev/vdb bs=1M seek=30 count=2 oflag=direct 2>/dev/null || fail "the new part cannot be written"
'
show "$tmp/ctl"
expect_status 0 "growing a disk"
expect_line "$tmp/ctl" 'status 0'

#!/bin/bash
# A disk served by QEMU's storage daemon: content both ways, verified I/O, a driver bound again under load; a daemon that dies
# with nothing on its way and returns; one that dies under load, whose disk works again once its driver is bound again.
# timeout: 400
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
trap 'peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
image=$tmp/disk.img sock=$tmp/blk.sock
patience=$((patience / 3))
head -c 64M /dev/urandom >"$image"
before=$(sha "$image")

guest_said() { # LINE
	local i
	for ((i = 0; i < 400; i++)); do
		! grep -aq "^$1" "$tmp/out" || return 0
		sleep 0.2
	done
	fail "the guest does not come to: $1"
}

peer_qsd_vhost_blk "$sock" "$image" raw 2 || fail "no storage daemon"
in_guest -c 2 --disk "vhost-user,path=$sock,queues=2" -- "
before=$before"'
[ "$(cat /sys/block/vdb/size)" = 131072 ] || fail "its size is $(cat /sys/block/vdb/size)"
[ "$(ls /sys/block/vdb/mq | wc -l)" = 2 ] || fail "it has $(ls /sys/block/vdb/mq | wc -l) queues"
[ "$(sha256sum /dev/vdb | cut -d " " -f 1)" = "$before" ] || fail "the guest reads something else"
t fio --name=v --filename=/dev/vdb --direct=1 --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --size=8M \
	--verify=crc32c --verify_fatal=1 --output-format=terse >/tmp/fio || { cat /tmp/fio; fail "fio found wrong data"; }
t blkdiscard -z -o 32M -l 8M /dev/vdb || fail "blkdiscard -z"
[ "$(dd if=/dev/vdb bs=1M skip=32 count=8 2>/dev/null | tr -d "\\000" | wc -c)" = 0 ] || fail "zeroes read as something else"
disk=$(basename "$(readlink -f /sys/block/vdb/device)")
for i in 1 2 3 4 5; do
	dd if=/dev/vdb of=/dev/null bs=64k iflag=direct 2>/dev/null & load=$!
	usleep $((i * 20000))
	echo $disk >/sys/bus/virtio/drivers/virtio_blk/unbind || fail "round $i: unbind"
	wait $load 2>/dev/null
	echo $disk >/sys/bus/virtio/drivers/virtio_blk/bind || fail "round $i: bind"
done
t mkfs.ext4 -q -F /dev/vdb || fail "mkfs"
mkdir /tmp/fs && mount -t ext4 /dev/vdb /tmp/fs || fail "mount"
dd if=/dev/urandom of=/tmp/fs/file bs=1M count=8 2>/dev/null
umount /tmp/fs && t e2fsck -f -n /dev/vdb >/dev/null || fail "e2fsck"
echo "sha $(sha256sum /dev/vdb | cut -d " " -f 1)"
! dmesg | grep -iE "I/O error|virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
expect_status 0 "using the disk"
grep -q "sha $(sha "$image")" "$tmp/out" || fail "the file holds something else than the guest has written"

# A daemon dies with the shell that started it, so it is the guest that goes into the background.
: >"$tmp/out"
(
	in_guest --disk "vhost-user,path=$sock,reconnect=200ms" -- '
disk=$(basename "$(readlink -f /sys/block/vdb/device)")
dd if=/dev/urandom of=/tmp/a bs=1M count=4 2>/dev/null
dd if=/tmp/a of=/dev/vdb bs=1M oflag=direct 2>/dev/null || fail "a write"
echo idle
sleep 6
t dd if=/dev/vdb bs=1M count=4 iflag=direct 2>/dev/null | cmp - /tmp/a || fail "other data after the return"
! dmesg | grep -iE "I/O error|virtio.*(fail|error|bad)" || fail "the driver has noticed"
echo busy
dd if=/dev/urandom of=/dev/vdb bs=64k seek=128 oflag=direct 2>/dev/null &
sleep 8
echo $disk >/sys/bus/virtio/drivers/virtio_blk/unbind || fail "unbind"
echo $disk >/sys/bus/virtio/drivers/virtio_blk/bind || fail "bind"
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vdb ] && break; sleep 1; done
t dd if=/dev/vdb bs=1M count=4 iflag=direct 2>/dev/null | cmp - /tmp/a || fail "other data after the driver was bound again"
'
	exit "$status"
) &
guest=$!
for state in idle busy; do
	guest_said $state
	sleep 1
	peer_kill "$sock"
	sleep 1
	peer_restart "$sock" || fail "the daemon does not start again"
done
status=0
wait "$guest" || status=$?
expect_status 0 "a daemon that dies and returns"

#!/bin/bash
# A disk served by QEMU's storage daemon through VDUSE: the same as a file's, resets under load, a daemon that dies and returns.
#   TEST_KILLS=3    how often it dies: more than 20 want a longer time limit, 5 s each
# timeout: 300
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
trap 'peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT

image=$tmp/disk.img name=vd0
patience=$((patience / 3))
head -c 64M /dev/urandom >"$image"
before=$(sha "$image")

run_guest --disk vdpa,path=/dev/vhost-vdpa-77 -- true
expect_status 125 "a device that does not exist"
expect_line "$tmp/err" 'vdpa dev add name'

peer_qsd_vduse "$name" "$image" raw 2 || fail "no storage daemon"
node=$(peers_vdpa "$name") || fail "no /dev/vhost-vdpa-N"

run_guest --net "vdpa,path=$node" -- true
expect_status 125 "a disk as a net"
expect_line "$tmp/err" 'is a block device'

# 1. Content both ways, verified I/O; unbind, bind and a reset under load: the daemon must live (it aborts where a device
#    is reset with requests in flight).
in_guest -c 2 --disk "vdpa,path=$node" -- "
before=$before"'
[ "$(cat /sys/block/vdb/size)" = 131072 ] || fail "its size is $(cat /sys/block/vdb/size)"
[ "$(sha256sum /dev/vdb | cut -d " " -f 1)" = "$before" ] || fail "the guest reads something else"
t fio --name=v --filename=/dev/vdb --direct=1 --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --size=8M \
	--verify=crc32c --verify_fatal=1 --output-format=terse >/tmp/fio || { cat /tmp/fio; fail "fio found wrong data"; }
disk=$(basename "$(readlink -f /sys/block/vdb/device)")
for i in 1 2 3 4 5 6 7 8 9 10; do
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
peer_alive "$name" || { peer_show "$name"; fail "the storage daemon has died of it"; }
grep -q "sha $(sha "$image")" "$tmp/out" || fail "the file holds something else than the guest has written"

# 2. kill -9 and return under verified load: the daemon's log has what was in flight, the guest sees a pause. A daemon dies
#    with the shell that started it, so it is the guest that goes into the background. It is told of the end by a disk.
kills=${TEST_KILLS:-3}
patience=$((patience + kills * 4))
truncate -s 4K "$tmp/mail"
: >"$tmp/out"
(
	in_guest --disk "vdpa,path=$node" --disk "$tmp/mail" -- '
(
	until [ "$(tr -s " " </sys/block/vdb/stat | cut -d " " -f 6)" -gt 0 ]; do usleep 100000; done
	echo now
) &
rounds=0 read=0
until [ "$(dd if=/dev/vdc bs=4k count=1 iflag=direct 2>/dev/null | head -n 1)" = enough ]; do
	t fio --name=v --filename=/dev/vdb --direct=1 --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --size=32M --time_based \
		--runtime=15 --verify=crc32c --verify_fatal=1 --verify_backlog=256 --randseed=$rounds --terse-version=3 \
		--output-format=terse >/tmp/fio || { cat /tmp/fio; fail "fio found wrong data"; }
	rounds=$((rounds + 1)) read=$((read + $(tail -n 1 /tmp/fio | cut -d ";" -f 6)))
done
echo "verified $rounds times, $read KiB"
echo "after $(sha256sum /dev/vdb | cut -d " " -f 1)"
! dmesg | grep -iE "I/O error" || fail "the kernel complains"
'
	exit "$status"
) &
guest=$!
for ((i = 0; i < 300; i++)); do
	grep -aq '^now' "$tmp/out" && break
	sleep 0.2
done
for ((i = 0; i < kills; i++)); do
	sleep "1.$((RANDOM % 10))"
	kill -0 "$guest" || fail "the guest has ended before kill $((i + 1))"
	peer_kill "$name"
	sleep "0.$((RANDOM % 10))"
	peer_restart "$name" || fail "the daemon does not start again after kill $((i + 1))"
done
printf 'enough\n' | dd of="$tmp/mail" conv=notrunc status=none
status=0
wait "$guest" || status=$?
expect_status 0 "a daemon that dies and returns"
verified=$(sed -n 's/^verified \([0-9]* times, [0-9]* KiB\).*/\1/p' "$tmp/out")
case $verified in
'' | '0 times'* | *' 0 KiB') fail "the guest has verified nothing" ;;
esac
grep -q "after $(sha "$image")" "$tmp/out" || fail "the file holds something else than the guest reads"
echo "lab: the daemon was killed $kills times; verified $verified"

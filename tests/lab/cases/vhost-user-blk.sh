#!/bin/bash
# A disk served by QEMU's storage daemon: content both ways, verified I/O, a driver bound again under load; a daemon that dies
# with nothing on its way and returns; one that dies under load, whose disk stands still until the guest was reset, and works then.
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

# A daemon dies with the shell that started it, so it is the guest that goes into the background. It is told what to do
# by a disk of its own. A driver may wait for ever for requests that died with a daemon, as Linux's does, so it is a
# reset of the whole guest that brings the disk back, and nothing less.
truncate -s 4K "$tmp/mail"
tell() { # WORD
	printf '%s\n' "$1" | dd of="$tmp/mail" conv=notrunc status=none
}
: >"$tmp/out"
(
	in_guest --name away --reboot again --disk "vhost-user,path=$sock,reconnect=200ms" --disk "$tmp/mail" -- '
mail() { dd if=/dev/vdc bs=4k count=1 iflag=direct 2>/dev/null | head -n 1; }
told() { until [ "$(mail)" = "$1" ]; do usleep 200000; done; }
if [ "$(mail)" = reset ]; then
	echo second life
	t dd if=/dev/vdb bs=1M count=4 iflag=direct 2>/dev/null >/tmp/b
	echo "second $(sha256sum /tmp/b | cut -d " " -f 1)"
	t fio --name=v --filename=/dev/vdb --direct=1 --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --offset=8M --size=4M \
		--verify=crc32c --verify_fatal=1 --output-format=terse >/tmp/fio || { cat /tmp/fio; fail "fio found wrong data"; }
	! dmesg | grep -iE "I/O error|virtio.*(fail|error|bad)" || fail "the driver complains"
	exit
fi
dd if=/dev/urandom of=/tmp/a bs=1M count=4 2>/dev/null
dd if=/tmp/a of=/dev/vdb bs=1M oflag=direct 2>/dev/null || fail "a write"
echo "first $(sha256sum /tmp/a | cut -d " " -f 1)"
echo idle
told back
t dd if=/dev/vdb bs=1M count=4 iflag=direct 2>/dev/null | cmp - /tmp/a || fail "other data after the return"
! dmesg | grep -iE "I/O error|virtio.*(fail|error|bad)" || fail "the driver has noticed"
while :; do dd if=/dev/zero of=/dev/vdb bs=64k seek=128 count=64 oflag=direct 2>/dev/null; done &
echo busy
told lost
for i in 1 2 3; do
	sleep 1
	echo "alive $i"
done
told reset
echo b >/proc/sysrq-trigger
'
	exit "$status"
) &
guest=$!
guest_said idle
peer_kill "$sock"
sleep 1
peer_restart "$sock" || fail "the daemon does not start again"
tell back
guest_said busy
sleep 1
# Between two requests a daemon may die without harm. Those of a direct write follow one another, so a few deaths do.
for ((i = 0; i < 20; i++)); do
	peer_kill "$sock"
	sleep 0.5
	! grep -q 'disk1: .*stands still until its driver resets it' "$tmp/err" || break
	peer_restart "$sock" || fail "the daemon does not start again"
	sleep 1
done
[ "$i" != 20 ] || fail "no death of the daemon has cost a request"
grep -q 'disk1: .*is gone: .*what it was doing is lost with it' "$tmp/err" || fail "nothing says why the disk stands still"
tell lost
guest_said 'alive 3'
timeout 10 "$ringlet" ctl away stats >"$tmp/ctl" || fail "ringlet does not answer while a disk stands still"
peer_restart "$sock" || fail "the daemon does not start again"
tell reset
status=0
wait "$guest" || status=$?
expect_status 0 "a daemon that dies and returns"
grep -q '^second life' "$tmp/out" || fail "the guest was not reset"
[ "$(sed -n 's/^second //p' "$tmp/out" | tail -n 1)" = "$(sed -n 's/^first //p' "$tmp/out")" ] ||
	fail "the disk holds something else after the guest was reset"
[ "$(grep -c 'stands still until' "$tmp/err")" = 1 ] || fail "it stands still again"

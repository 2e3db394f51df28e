#!/bin/bash
# Takes the driver from net and disk and gives it back, again and again under load; the data stays right.
# usage: rebind-case.sh TRANSPORT ROUNDS
# timeout: 300
. "$(dirname "$0")/lib.sh"
transport=$1 rounds=$2
make_tap 1500
head -c 16M /dev/urandom >"$tmp/disk.img"
in_guest -c 2 --transport "$transport" --disk "$tmp/disk.img" --net tap,ifname=tap0 --rng -- "
rounds=$rounds sum=$(sha "$tmp/disk.img")"'
driver() { # of a block or net device: its place in sysfs
	basename "$(readlink -f "$1/device")"
}
disk=$(driver /sys/block/vdb) net=$(driver /sys/class/net/eth0)
echo "$disk $net" | grep -q "virtio.* virtio" || fail "not virtio devices: $disk $net"
up() {
	ip link set eth0 up 2>/dev/null && ip addr add 10.1.0.2/24 dev eth0 2>/dev/null
}
up
for i in $(seq $rounds); do
	dd if=/dev/vdb of=/dev/null bs=64k iflag=direct 2>/dev/null & load=$!
	ping -f -c 2000 10.1.0.1 >/dev/null 2>&1 & ping=$!
	usleep $((i % 7 * 20000))
	echo $disk >/sys/bus/virtio/drivers/virtio_blk/unbind || fail "round $i: unbind of the disk"
	echo $net >/sys/bus/virtio/drivers/virtio_net/unbind || fail "round $i: unbind of the net"
	kill $load $ping 2>/dev/null
	wait $load $ping 2>/dev/null
	echo $disk >/sys/bus/virtio/drivers/virtio_blk/bind || fail "round $i: bind of the disk"
	echo $net >/sys/bus/virtio/drivers/virtio_net/bind || fail "round $i: bind of the net"
	up
done
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping after $rounds rounds"
[ "$(sha256sum /dev/vdb | cut -d " " -f 1)" = "$sum" ] || fail "the disk reads something else after $rounds rounds"
rmmod virtio_net && modprobe virtio_net || fail "rmmod and modprobe of virtio_net"
for i in 1 2 3 4 5; do up && break; sleep 1; done
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping after modprobe"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
expect_status 0 "taking drivers away and giving them back"

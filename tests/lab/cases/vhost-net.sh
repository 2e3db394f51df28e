#!/bin/bash
# tap with vhost=on: the kernel serves both pairs; whole files cross both ways, a driver that is bound again finds
# the device as it was, and none of our threads has seen a kick.
. "$(dirname "$0")/../lib.sh"
modprobe vhost_net 2>/dev/null
[ -e /dev/vhost-net ] || skip "no /dev/vhost-net"
make_tap 1500 multi_queue
mkdir "$tmp/www"
head -c 4M /dev/urandom >"$tmp/www/data"
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
socat -u TCP-LISTEN:9000,reuseaddr OPEN:"$tmp/uploaded",creat &

in_guest -c 2 --stats="$tmp/stats" --net tap,ifname=tap0,queues=2,vhost=on -- '
up() { ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"; }
up
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping with one pair"
t ethtool -L eth0 combined 2 || fail "the driver does not get 2 pairs"
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping with two pairs"
wget -q -O /tmp/data http://10.1.0.1/data || fail "no download"
echo "sha $(sha256sum /tmp/data | cut -d " " -f 1)"
device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
for i in 1 2 3; do
	echo "$device" >/sys/bus/virtio/drivers/virtio_net/unbind && echo "$device" >/sys/bus/virtio/drivers/virtio_net/bind ||
		fail "the driver cannot be bound again"
	up
	t ping -q -c 1 -W 5 10.1.0.1 || fail "no ping after the driver was bound again"
done
nc 10.1.0.1 9000 </tmp/data || fail "no upload"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
expect_status 0 "talking to the host"
data=$(sha "$tmp/www/data")
grep -q "sha $data" "$tmp/out" || fail "what the guest got differs from what the host has"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"

# Without the device it says what to do, and does not go on without it.
mv /dev/vhost-net /dev/vhost-net.away
run_guest --net tap,ifname=tap0,queues=2,vhost=on
mv /dev/vhost-net.away /dev/vhost-net
[ "$status" != 0 ] || fail "it runs without what was asked for"
grep -q "modprobe vhost_net" "$tmp/err" || fail "it does not say what to do"

#!/bin/bash
# tap with vhost=on: the kernel serves all four pairs, each with traffic of its own; whole files cross both ways, and a driver
# that is bound again finds the device as it was. A tap that is removed takes the link down.
# timeout: 300
. "$(dirname "$0")/../lib.sh"
modprobe vhost_net 2>/dev/null
[ -e /dev/vhost-net ] || skip "no /dev/vhost-net"
make_tap 1500 multi_queue
mkdir "$tmp/www"
head -c 2M /dev/urandom >"$tmp/www/data"
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
socat -u TCP-LISTEN:9000,reuseaddr OPEN:"$tmp/uploaded",creat &

said() { # LINE: waits until the guest has
	local i
	for ((i = 0; i < 600; i++)); do
		! grep -aq "^$1" "$tmp/out" 2>/dev/null || return 0
		sleep 0.2
	done
}
(
	said pairs
	# A thread of the kernel a pair.
	cat /proc/[0-9]*/task/[0-9]*/comm 2>/dev/null | grep -c '^vhost-[0-9]' >"$tmp/threads"
	said remove
	ip link del tap0
) &
in_guest -c 4 --net tap,ifname=tap0,queues=4,vhost=on -- '
# What Linux counts for each pair: doorbells, and interrupts of frames that came.
sent() { # PAIR
	t ethtool -S eth0 | sed -n "s/^ *tx$1_kicks: //p"
}
came() { # PAIR
	set -- $(grep "virtio.*-input\.$1$" /proc/interrupts)
	echo $(($2 + $3 + $4 + $5))
}
up() { ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"; }
up
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping with one pair"
t ethtool -L eth0 combined 2 || fail "the driver does not get 2 pairs"
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping with two pairs"
t ethtool -L eth0 combined 4 || fail "the driver does not get 4 pairs"
for pair in 0 1 2 3; do
	eval "came$pair=$(came $pair) sent$pair=$(sent $pair)"
done
# A flow is sent by the pair of its processor, and its answers come by the same.
for cpu in 0 1 2 3; do
	taskset -c $cpu wget -q -O /tmp/data$cpu http://10.1.0.1/data || echo "no download" >/tmp/data$cpu &
	eval "load$cpu=$!"
done
wait $load0 $load1 $load2 $load3
echo pairs
for pair in 0 1 2 3; do
	echo "sha $(sha256sum /tmp/data$pair | cut -d " " -f 1)"
	came=$(($(came $pair) - came$pair)) sent=$(($(sent $pair) - sent$pair))
	echo "pair $pair: $came interrupts, $sent doorbells"
	[ $came -ge 5 ] && [ $sent -ge 20 ] || fail "pair $pair has had no traffic"
done
device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
for i in 1 2 3; do
	echo "$device" >/sys/bus/virtio/drivers/virtio_net/unbind && echo "$device" >/sys/bus/virtio/drivers/virtio_net/bind ||
		fail "the driver cannot be bound again"
	up
	t ping -q -c 1 -W 5 10.1.0.1 || fail "no ping after the driver was bound again"
done
nc 10.1.0.1 9000 </tmp/data0 || fail "no upload"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
echo remove
for i in $(seq 100); do
	[ "$(cat /sys/class/net/eth0/carrier)" = 0 ] && break
	usleep 200000
done
[ "$i" != 100 ] || fail "the link stays up without a tap"
'
expect_status 0 "talking to the host"
data=$(sha "$tmp/www/data")
[ "$(grep -c "sha $data" "$tmp/out")" = 4 ] || fail "what the guest got differs from what the host has"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"

[ "$(cat "$tmp/threads")" = 4 ] || fail "$(cat "$tmp/threads") threads of vhost and not 4"
sed -n 's/^pair/lab: pair/p' "$tmp/out" | tr -d '\r'
expect_line "$tmp/err" 'net0: its tap has ended'

# Without the device it says what to do, and does not go on without it.
make_tap 1500 multi_queue
mv /dev/vhost-net /dev/vhost-net.away
run_guest --net tap,ifname=tap0,queues=2,vhost=on
mv /dev/vhost-net.away /dev/vhost-net
[ "$status" != 0 ] || fail "it runs without what was asked for"
grep -q "modprobe vhost_net" "$tmp/err" || fail "it does not say what to do"

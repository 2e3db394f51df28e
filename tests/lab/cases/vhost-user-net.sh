#!/bin/bash
# A card served by DPDK: pings that testpmd answers, before and after it was killed, driver bound again while it is away; whole
# files both ways through Open vSwitch.
# timeout: 400
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
trap 'peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
export PEER_OVS_NET=host
patience=$((patience / 3))

# 1. testpmd answers ARP and ping by itself. A peer dies with the shell that started it, so it is the guest that goes into the background.
peer_testpmd_vhost "$tmp/net.sock" server 2 icmpecho || fail "no testpmd"
: >"$tmp/out"
(
	in_guest -c 2 --net "vhost-user,path=$tmp/net.sock,queues=2,reconnect=200ms" -- '
up() { ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"; }
up
t ethtool -i eth0 | grep -q "driver: virtio_net" || fail "not the driver of virtio-net"
t ethtool -L eth0 combined 2 || fail "the driver does not get 2 pairs"
t ping -q -c 5 -i 0.2 10.1.0.1 || fail "no ping"
t ping -q -c 3 -i 0.2 -s 1400 10.1.0.1 || fail "no large ping"
echo now
for i in $(seq 90); do
	t ping -q -c 1 -W 1 10.1.0.1 >/dev/null || break
done
[ "$i" != 90 ] || fail "it was never away"
device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
echo "$device" >/sys/bus/virtio/drivers/virtio_net/unbind && echo "$device" >/sys/bus/virtio/drivers/virtio_net/bind ||
	fail "the driver cannot be bound again while nobody serves the card"
up
echo away
for i in $(seq 90); do
	t ping -q -c 1 -W 1 10.1.0.1 >/dev/null && break
done
t ping -q -c 5 -i 0.2 10.1.0.1 || fail "no ping after the return"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
	exit "$status"
) &
guest=$!
for ((i = 0; i < 300; i++)); do
	grep -aq '^now' "$tmp/out" && break
	sleep 0.2
done
sleep 1
peer_kill "$tmp/net.sock"
for ((i = 0; i < 300; i++)); do
	grep -aq '^away' "$tmp/out" && break
	sleep 0.2
done
peer_restart "$tmp/net.sock" || fail "testpmd does not start again"
status=0
wait "$guest" || status=$?
expect_status 0 "a testpmd that dies and returns"
peer_stop "$tmp/net.sock"

# 2. The switch, with the host at its own port.
peer_ovs "$tmp/ovs" && peer_ovs_port "$tmp/ovs" p0 "$tmp/o0" || fail "no switch"
ip addr add 10.1.0.1/24 dev br0 && ip link set br0 up || fail "the switch has no port here"
mkdir "$tmp/www"
head -c 4M /dev/urandom >"$tmp/www/data"
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
socat -u TCP-LISTEN:9000,reuseaddr OPEN:"$tmp/uploaded",creat &
in_guest --net "vhost-user,path=$tmp/o0,server" -- '
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"
for i in $(seq 30); do t ping -q -c 1 -W 1 10.1.0.1 >/dev/null && break; done
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping"
wget -q -O /tmp/data http://10.1.0.1/data || fail "no download"
echo "sha $(sha256sum /tmp/data | cut -d " " -f 1)"
nc 10.1.0.1 9000 </tmp/data || fail "no upload"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
expect_status 0 "talking to the host through the switch"
data=$(sha "$tmp/www/data")
grep -q "sha $data" "$tmp/out" || fail "what the guest got differs from what the host has"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"

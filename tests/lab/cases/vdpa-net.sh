#!/bin/bash
# A card served by DPDK's testpmd through VDUSE: pings that it answers, a driver bound again, a testpmd that dies and returns.
# timeout: 300
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
trap 'peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
name=vn0
patience=$((patience / 2))
peer_testpmd_vduse "$name" 1 icmpecho || fail "no testpmd"
node=$(peers_vdpa "$name") || fail "no /dev/vhost-vdpa-N"

run_guest --disk "vdpa,path=$node" -- true
expect_status 125 "a card as a disk"

# A peer dies with the shell that started it, so it is the guest that goes into the background.
: >"$tmp/out"
(
	in_guest --net "vdpa,path=$node" -- '
up() { ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"; }
up
t ping -q -c 5 -i 0.2 10.1.0.1 || fail "no ping"
t ping -q -c 3 -i 0.2 -s 1400 10.1.0.1 || fail "no large ping"
device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
for i in 1 2 3 4 5; do
	echo "$device" >/sys/bus/virtio/drivers/virtio_net/unbind && echo "$device" >/sys/bus/virtio/drivers/virtio_net/bind ||
		fail "the driver cannot be bound again"
	up
	t ping -q -c 1 -W 5 10.1.0.1 || fail "no ping after the driver was bound again"
done
echo now
sleep 5
for i in $(seq 60); do t ping -q -c 1 -W 1 10.1.0.1 >/dev/null && break; done
t ping -q -c 5 -i 0.2 10.1.0.1 || fail "no ping after the return"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
	exit "$status"
) &
guest=$!
for ((i = 0; i < 500; i++)); do
	grep -aq '^now' "$tmp/out" && break
	sleep 0.2
done
peer_kill "$name"
sleep 1
peer_restart "$name" || fail "testpmd does not start again"
status=0
wait "$guest" || status=$?
expect_status 0 "a testpmd that dies and returns"

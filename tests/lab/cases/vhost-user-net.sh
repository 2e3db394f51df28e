#!/bin/bash
# A card served by DPDK: whole files through testpmd that is killed, stopped and started again meanwhile, the driver bound again
# while nobody serves it, a reset of the guest; whole files both ways through Open vSwitch.
# timeout: 600
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
trap 'peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
export PEER_OVS_NET=host
patience=$((patience * 2 / 3)) # of the first guest; the second has the rest
sock=$tmp/net.sock
vcpus=$(($(nproc) < 2 ? 1 : 2))

guest_said() { # LINE [TIMES]
	local i
	for ((i = 0; i < 600; i++)); do
		[ "$(grep -ac "^$1" "$tmp/out")" -lt "${2:-1}" ] || return 0
		kill -0 "$guest" 2>/dev/null || break
		sleep 0.2
	done
	show "$tmp/err"
	peer_show "$sock" 60
	fail "the guest does not come to: $1"
}

# A disk tells the guest what to do.
truncate -s 4K "$tmp/mail"
tell() { # WORD
	printf '%s\n' "$1" | dd of="$tmp/mail" conv=notrunc status=none
}

# DPDK polls without a pause. Where there is one processor it shall leave most of it to the guest and the host. Nice is not
# enough for that, since Linux shares a processor fairly between sessions first.
give_way() { # HANDLE
	local file
	file=/proc/$(peer_pid "$1")/autogroup
	[ ! -e "$file" ] || echo 10 >"$file" || fail "testpmd cannot be made to give way"
}

# testpmd's other port is a tap of this host.
attach() {
	local log before
	log=$(peer_log "$sock")
	before=$(grep -ac '^Port 1 is attached' "$log")
	peer_testpmd_say "$sock" "port attach net_tap0,iface=dtap0,mac=fixed"
	peers_until "$sock" 60 "[ \$(grep -ac '^Port 1 is attached' $log) -gt $before ]" || fail "testpmd has no tap"
	peer_testpmd_say "$sock" "port start 1"
	peer_testpmd_say "$sock" start
	if ! ip addr add 10.1.0.1/24 dev dtap0 || ! ip link set dtap0 up; then fail "testpmd's tap is not there"; fi
	give_way "$sock"
}

back() {
	peer_restart "$sock" || fail "testpmd does not start again"
	attach
}

# 1. testpmd. A peer dies with the shell that started it, so it is the guest that goes into the background.
ip link del tap0 2>/dev/null || true # of the case before, with the same address
mkdir "$tmp/www"
head -c 2M /dev/urandom >"$tmp/www/data"
data=$(sha "$tmp/www/data")
# Locked, all of the guest's memory would have to be found before it answers: seconds in an emulator, of the five it has.
peer_testpmd_vhost "$sock" server 2 none --no-mlockall || fail "no testpmd"
attach
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
socat -u TCP-LISTEN:9000,reuseaddr OPEN:"$tmp/uploaded",creat &
: >"$tmp/out"
(
	in_guest -c "$vcpus" --reboot again --net "vhost-user,path=$sock,queues=2,reconnect=200ms" --disk "$tmp/mail" -- "
data=$data"'
mail() { dd if=/dev/vdb bs=4k count=1 iflag=direct 2>/dev/null | head -n 1; }
told() { until [ "$(mail)" = "$1" ]; do usleep 200000; done; }
up() { ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"; }
found() {
	for i in $(seq 60); do t ping -q -c 1 -W 1 10.1.0.1 >/dev/null && return; done
	fail "no ping"
}
download() {
	wget -q -O /tmp/data http://10.1.0.1/data || fail "no download"
	[ "$(sha256sum /tmp/data | cut -d " " -f 1)" = $data ] || fail "what the guest got differs from what the host has"
}
up
found
if [ "$(mail)" = reset ]; then
	download
	nc 10.1.0.1 9000 </tmp/data || fail "no upload"
	echo second life
	exit
fi
t ethtool -i eth0 | grep -q "driver: virtio_net" || fail "not the driver of virtio-net"
t ethtool -L eth0 combined 2 || fail "the driver does not get 2 pairs"
t ping -q -c 3 -i 0.2 -s 1400 10.1.0.1 || fail "no large ping"
echo load
files=0
until [ "$(mail)" = enough ]; do
	download
	files=$((files + 1))
	echo "file $files"
done
echo idle
told away
device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
echo "$device" >/sys/bus/virtio/drivers/virtio_net/unbind && echo "$device" >/sys/bus/virtio/drivers/virtio_net/bind ||
	fail "the driver cannot be bound again while nobody serves the card"
up
echo bound
told back
found
download
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
echo reset
told reset
echo b >/proc/sysrq-trigger
'
	exit "$status"
) &
guest=$!
guest_said load
guest_said file
for i in 1 2 3; do
	peer_kill "$sock"
	sleep "0.$((RANDOM % 10))"
	back
	guest_said file "$(($(grep -ac '^file' "$tmp/out") + 1))"
	sleep "0.$((RANDOM % 10))"
done
kill -STOP -- "-$(peer_pid "$sock")"
sleep 3
kill -CONT -- "-$(peer_pid "$sock")"
guest_said file "$(($(grep -ac '^file' "$tmp/out") + 1))"
tell enough
guest_said idle
peer_kill "$sock"
tell away
guest_said bound
back
tell back
guest_said reset
tell reset
status=0
wait "$guest" || status=$?
expect_status 0 "a testpmd that dies and returns"
grep -q '^second life' "$tmp/out" || fail "the guest was not reset"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"
[ "$(grep -c 'net0: .*is gone' "$tmp/err")" = 4 ] || fail "it was not gone four times"
peer_stop "$sock"

# 2. The switch, with the host at its own port.
peer_ovs "$tmp/ovs" && peer_ovs_port "$tmp/ovs" p0 "$tmp/o0" || fail "no switch"
give_way "$tmp/ovs"
ip addr add 10.1.0.1/24 dev br0 && ip link set br0 up || fail "the switch has no port here"
rm "$tmp/uploaded"
socat -u TCP-LISTEN:9000,reuseaddr OPEN:"$tmp/uploaded",creat &
patience=$((patience / 2))
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
grep -q "sha $data" "$tmp/out" || fail "what the guest got differs from what the host has"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"

#!/bin/bash
# A guest and its host talk through a tap: ping, whole files both ways, iperf3 both ways, VLAN.
# usage: net-case.sh KERNEL TRANSPORT QUEUES MTU KEYS     6.1-cloud pci 4 9000 packed=on,tso=off
. "$(dirname "$0")/lib.sh"

kernel=$1 transport=$2 queues=$3 mtu=$4 keys=$5
make_tap "$mtu" "$([ "$queues" = 1 ] || echo multi_queue)"
ip link add link tap0 name tap0.5 type vlan id 5 && ip addr add 10.5.0.1/24 dev tap0.5 && ip link set tap0.5 up ||
	fail "the host has no VLAN device"
mkdir "$tmp/www"
head -c 4M /dev/urandom >"$tmp/www/data"
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
iperf3 -s -D
socat -u TCP-LISTEN:9000,reuseaddr OPEN:"$tmp/uploaded",creat &

in_guest -c 2 --net "tap,ifname=tap0,queues=$queues,mtu=$mtu,transport=$transport,$keys" -- "
queues=$queues mtu=$mtu"'
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"
[ "$(cat /sys/class/net/eth0/mtu)" = $mtu ] || fail "the driver has MTU $(cat /sys/class/net/eth0/mtu)"
t ethtool -i eth0 | grep -q "driver: virtio_net" || fail "not the driver of virtio-net"
if [ $queues -gt 1 ]; then
	t ethtool -L eth0 combined $queues || fail "the driver does not get $queues pairs"
	[ "$(ls -d /sys/class/net/eth0/queues/tx-* | wc -l)" -ge $queues ] || fail "fewer queues than $queues"
fi
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping"
t ping -q -c 2 -i 0.2 -M do -s $((mtu - 28)) 10.1.0.1 || fail "no ping as large as the MTU"
wget -q -O /tmp/data http://10.1.0.1/data || fail "no download"
echo "sha $(sha256sum /tmp/data | cut -d " " -f 1)"
nc 10.1.0.1 9000 </tmp/data || fail "no upload"
t iperf3 -c 10.1.0.1 -n 4M -P 2 >/tmp/iperf || { cat /tmp/iperf; fail "iperf3 to the host"; }
t iperf3 -c 10.1.0.1 -n 4M -P 2 -R >/tmp/iperf || { cat /tmp/iperf; fail "iperf3 from the host"; }
modprobe 8021q && ip link add link eth0 name eth0.5 type vlan id 5 || fail "no VLAN device"
ip addr add 10.5.0.2/24 dev eth0.5 && ip link set eth0.5 up
t ping -q -c 2 -i 0.2 10.5.0.1 || fail "no ping through the VLAN"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
expect_status 0 "talking to the host"
data=$(sha "$tmp/www/data")
grep -q "sha $data" "$tmp/out" || fail "what the guest got differs from what the host has"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"

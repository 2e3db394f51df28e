# What bench/vhost.py has a Linux guest do, after tests/lab/guest/prelude.sh: prints "bench NAME VALUE" lines.
# $seconds: of each measurement.
ip link set eth0 up && ip addr add 10.9.0.2/24 dev eth0 || fail "there is no eth0"
t ping -q -c 20 -i 0.05 10.9.0.1 >/dev/null || fail "no ping"
echo "features $(cat /sys/class/net/eth0/device/features)"

interrupts() { awk '/virtio.*-(in|out)put/ { n += $2 } END { print n }' /proc/interrupts; }
packets() { cat /sys/class/net/eth0/statistics/tx_packets /sys/class/net/eth0/statistics/rx_packets | awk '{ n += $1 } END { print n }'; }

t ping -q -c 400 -i 0.005 10.9.0.1 >/tmp/ping
sed -n 's|^rtt [^=]*= \([0-9.]*\)/\([0-9.]*\)/.*|bench ping-min-ms \1\nbench ping-ms \2|p' /tmp/ping

iperf() { # NAME OPTIONS...
	local name=$1 i p
	shift
	i=$(interrupts)
	p=$(packets)
	t iperf3 -c 10.9.0.1 -f k -t "$seconds" -O 1 "$@" >/tmp/iperf 2>&1 || fail "iperf3 $*: $(tail -n 1 /tmp/iperf)"
	sed -n "s|.* \([0-9.]*\) Kbits/sec.*receiver.*|bench $name-kbit \1|p" /tmp/iperf
	awk -v i=$(($(interrupts) - i)) -v p=$(($(packets) - p)) -v n="$name" 'BEGIN { printf "bench %s-interrupts-a-packet %.4f\n", n, i / p }'
}
iperf tcp-out
iperf tcp-in -R
echo "bench end 1"

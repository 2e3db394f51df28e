# What bench/linux.py has a Linux guest do, after tests/lab/guest/prelude.sh: prints "bench NAME VALUE" lines.
# $seconds: of each measurement.
ip link set eth0 up && ip addr add 10.9.0.2/24 dev eth0 || fail "there is no eth0"
t ping -q -c 20 -i 0.05 10.9.0.1 >/dev/null || fail "no ping"

t ping -q -c 300 -i 0.005 10.9.0.1 >/tmp/ping
sed -n 's|^rtt [^=]*= [^/]*/\([0-9.]*\)/.*|bench ping-ms \1|p' /tmp/ping

iperf() { # NAME OPTIONS...
	local name=$1
	shift
	t iperf3 -c 10.9.0.1 -f k -t "$seconds" -O 1 "$@" >/tmp/iperf 2>&1 || fail "iperf3 $*: $(tail -n 1 /tmp/iperf)"
	sed -n "s|.* \([0-9.]*\) Kbits/sec.*receiver.*|bench $name-kbit \1|p" /tmp/iperf
}
iperf tcp-out
iperf tcp-in -R
# 18 bytes of payload make a frame of 64.  What leaves the guest is counted; losses on the host are not the device's.
before=$(cat /sys/class/net/eth0/statistics/tx_packets)
t iperf3 -c 10.9.0.1 -u -l 18 -b 0 -t "$seconds" >/tmp/iperf 2>&1 || fail "iperf3 -u: $(tail -n 1 /tmp/iperf)"
after=$(cat /sys/class/net/eth0/statistics/tx_packets)
echo "bench udp64-pps $(((after - before) / seconds))"

disk() { # DEPTH
	t fio --name=r --filename=/dev/vdb --direct=1 --rw=randread --bs=4k --ioengine=libaio --iodepth="$1" --runtime="$seconds" \
		--ramp_time=1 --time_based --thread --output-format=terse --terse-version=3 >/tmp/fio || fail "fio"
	awk -F ';' -v d="$1" '{ print "bench read" d "-iops " $8; print "bench read" d "-lat-us " $40 }' /tmp/fio
}
disk 32
disk 1

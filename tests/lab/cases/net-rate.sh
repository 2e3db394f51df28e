#!/bin/bash
# rate= holds both directions to what was said.
. "$(dirname "$0")/../lib.sh"
make_tap 1500
mkdir "$tmp/www"
head -c 6M /dev/urandom >"$tmp/www/data"
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
socat -u TCP-LISTEN:9000,reuseaddr OPEN:/dev/null &
in_guest --net tap,ifname=tap0,rate=1M -- '
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0
now() { cut -d " " -f 1 /proc/uptime | tr -d .; } # hundredths of a second
a=$(now); wget -q -O /tmp/data http://10.1.0.1/data || fail "no download"
b=$(now); nc 10.1.0.1 9000 </tmp/data || fail "no upload"
c=$(now)
echo "down $((b - a)) up $((c - b))"
[ $((b - a)) -ge 540 ] && [ $((b - a)) -le 1500 ] || fail "6 MiB at 1 MiB/s came in within $((b - a)) hundredths of a second"
[ $((c - b)) -ge 500 ] && [ $((c - b)) -le 1500 ] || fail "6 MiB at 1 MiB/s went out within $((c - b)) hundredths of a second"
'
expect_status 0 "a limited rate"

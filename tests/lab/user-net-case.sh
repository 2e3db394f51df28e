#!/bin/bash
# The user-mode network: DHCP, a name of the host's, a download of so many MiB, a forwarded port.
# usage: user-net-case.sh KERNEL TRANSPORT MIB
. "$(dirname "$0")/lib.sh"
kernel=$1 transport=$2 mib=$3
mkdir "$tmp/www"
head -c "${mib}M" /dev/urandom >"$tmp/www/data"
busybox httpd -p 127.0.0.1:8080 -h "$tmp/www"
dnsmasq --no-daemon --no-hosts --no-resolv --listen-address=127.0.0.53 --bind-interfaces \
	--address=/served.example/10.0.2.2 >"$tmp/dns" 2>&1 &
echo "nameserver 127.0.0.53" >"$tmp/resolv.conf"
mount --bind "$tmp/resolv.conf" "$(realpath /etc/resolv.conf)" || fail "resolv.conf cannot be replaced"
trap 'umount "$(realpath /etc/resolv.conf)"; rm -rf "$tmp"' EXIT
(
	for ((i = 0; i < 200; i++)); do
		socat -u TCP:127.0.0.1:2222 OPEN:"$tmp/forwarded",creat 2>/dev/null && [ -s "$tmp/forwarded" ] && break
		sleep 0.5
	done
) &
in_guest --transport "$transport" --net user,hostfwd=tcp:127.0.0.1:2222-:22 -- '
ip link set eth0 up
udhcpc -i eth0 -n -q -t 5 -s /bin/true >/tmp/dhcp 2>&1 || { cat /tmp/dhcp; fail "no DHCP"; }
grep -q "10.0.2.15" /tmp/dhcp || { cat /tmp/dhcp; fail "DHCP gave another address"; }
ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2
nslookup served.example 10.0.2.3 | grep -q 10.0.2.2 || fail "no answer to a look-up"
echo nameserver 10.0.2.3 >/etc/resolv.conf
wget -q -O - http://served.example:8080/data | sha256sum | sed "s/^/sha /"
echo "from the guest" | nc -l -p 22 || fail "nobody came to the forwarded port"
'
expect_status 0 "using the network"
grep -q "sha $(sha "$tmp/www/data")" "$tmp/out" || fail "what the guest got differs from what the host has"
[ "$(cat "$tmp/forwarded")" = "from the guest" ] || fail "the forwarded port gave something else"

#!/bin/bash
# A card changes between this process and the kernel while a file crosses it both ways: nothing is lost, and a move to
# what does not serve it changes nothing.  MOVES: how often.
# timeout: 300
. "$(dirname "$0")/../lib.sh"
moves=${MOVES:-6}
[ -e /dev/vhost-net ] || fail "no /dev/vhost-net in the lab"
make_tap 1500
mkdir "$tmp/www"
head -c 24M /dev/urandom >"$tmp/www/data"
busybox httpd -p 10.1.0.1:80 -h "$tmp/www"
socat -u TCP-LISTEN:9000,reuseaddr OPEN:"$tmp/uploaded",creat &
ctl() {
	"$ringlet" ctl moved "$@"
}
(
	for ((i = 0; i < 300; i++)); do
		ping -q -c 1 -W 1 10.1.0.2 >/dev/null 2>&1 && break
	done
	ctl datapath net0 vhost-user,path=/nowhere && echo "moved to nowhere"
	ctl datapath disk7 /dev/null && echo "moved what is not there"
	for ((i = 0; i < moves; i++)); do
		ctl datapath net0 tap,vhost=on || echo "refused: vhost"
		sleep 0.3
		ctl datapath net0 tap || echo "refused: tap"
		sleep 0.3
	done
	ctl stats
	touch "$tmp/moved"
) >"$tmp/ctl" 2>&1 &
mover=$!
in_guest -c 1 --name moved --net tap,ifname=tap0 -- '
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping"
for i in 1 2 3; do
	wget -q -O /tmp/data http://10.1.0.1/data || fail "no download"
	echo "sha $(sha256sum /tmp/data | cut -d " " -f 1)"
done
nc 10.1.0.1 9000 </tmp/data || fail "no upload"
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping at the end"
! dmesg | grep -iE "virtio.*(fail|error|bad)|WARNING|BUG:" || fail "the kernel complains"
'
wait "$mover"
show "$tmp/ctl"
expect_status 0 "talking to the host"
data=$(sha "$tmp/www/data")
[ "$(grep -c "sha $data" "$tmp/out")" = 3 ] || fail "what the guest got differs from what the host has"
[ "$(sha "$tmp/uploaded")" = "$data" ] || fail "what the host got differs from what the guest sent"
! grep -E "refused|moved to nowhere|moved what is not" "$tmp/ctl" || fail "moves went wrong"
[ "$(grep -c 'from this process to' "$tmp/ctl")" = "$moves" ] || fail "fewer moves than $moves"

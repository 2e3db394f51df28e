#!/bin/bash
# Two TCP streams, one each way, go on while their card changes between a tap at a bridge, the kernel on that tap, and DPDK at another
# port of the bridge, from each to each. After each the guest tells the bridge where it is now, which is seen at that port.
# timeout: 500
# only: test-all
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
. tests/lab/cases/move-lib.bash
. tests/lab/cases/move-streams.bash
trap 'guest_gone; segment_down; peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
rounds=$(((${TEST_MOVES:-6} + 5) / 6))
sock=$tmp/net.sock mac=52:54:00:00:00:77
[ -e /dev/vhost-net ] || fail "no /dev/vhost-net in the lab"

segment_down() { # the address is other cases' too
	local link
	for link in br0 tap0 sw0; do ip link del $link 2>/dev/null; done
}

# testpmd takes frames as they are from the card to its own tap, sw0, and back.
segment_up() {
	local link command
	segment_down
	peer_testpmd_vhost "$sock" server 1 none || fail "no testpmd"
	peer_testpmd_ask "$sock" "port attach net_tap0,iface=sw0"
	[ -e /sys/class/net/sw0 ] || fail "testpmd makes no tap"
	for command in "port start 1" "set fwd io" start; do peer_testpmd_ask "$sock" "$command"; done
	# It never sleeps. Threads of it wait for each other spinning, so they must not differ, but all of it may stand back.
	echo 10 >"/proc/$(peer_pid "$sock")/autogroup" || renice -n 10 -g "$(peer_pid "$sock")" || fail "testpmd does not stand back"
	ip link add br0 type bridge && ip addr add 10.1.0.1/24 dev br0 && ip link set br0 up || fail "no bridge"
	ip tuntap add dev tap0 mode tap vnet_hdr || fail "no tap can be made"
	for link in tap0 sw0; do ip link set $link master br0 up || fail "$link is no port"; done
	setpriv --pdeathsig KILL tests/lab/cases/move-arp.py tap0 sw0 >"$tmp/arp" 2>&1 &
	until grep -q watching "$tmp/arp"; do sleep 0.1; done
}

announced() { # PORT
	grep -c "^$1 $mac 10.1.0.2$" "$tmp/arp"
}

announced_again() { # PORT TIMES
	[ "$(announced "$1")" -gt "$2" ]
}

reached_by() { # PORT
	bridge fdb show br br0 | grep -q "^$mac dev $1 "
}

move_to() { # PORT WHO
	local before
	before=$(announced "$1")
	move net0 "$2"
	until_so 20 "the guest's announcement at $1" announced_again "$1" "$before"
	until_so 20 "the guest at $1 for the bridge" reached_by "$1"
	streams_carry
}

segment_down
segment_up
streams_start
guest_starts --net "tap,ifname=tap0,csum=off,mac=$mac" -- "$streams_guest"
guest_says streaming 200
streams_carry
before=$(handles)
for ((round = 0; round < rounds; round++)); do
	for who in sw0 tap0,vhost=on tap0 tap0,vhost=on sw0 tap0; do
		case $who in
		sw0) move_to sw0 "vhost-user,path=$sock" ;;
		*) move_to tap0 "tap,ifname=$who" ;;
		esac
	done
done
after=$(handles)
streams_end
guest_ends "two streams"
streams_compare
report_moves $((6 * rounds))
echo "announcements: $(announced tap0) at the tap, $(announced sw0) at DPDK's port"
[ "$before" = "$after" ] || fail "before: $before; after $((6 * rounds)) moves, back where it was: $after"

#!/bin/bash
# A VM in its sandbox: every thread is confined while a card goes from this process to the kernel's vhost and to a user-mode
# network and back, a disk goes from a storage daemon to io_uring and back, and a storage daemon that was killed is reached again.
# timeout: 400
. "$(dirname "$0")/../lib.sh"
PEER_LOGS=$tmp/peers
. tests/peers/lib.sh
trap 'peer_stop_all; if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
[ -e /dev/vhost-net ] || fail "no /dev/vhost-net in the lab"
make_tap 1500
image=$tmp/disk.img sock=$tmp/blk.sock
head -c 16M /dev/urandom >"$image"
before=$(sha "$image")
cp "$image" "$tmp/other.img"
peer_qsd_vhost_blk "$sock" "$image" raw 1 || fail "no storage daemon"

ctl() {
	"$ringlet" ctl boxed "$@" || echo "refused: $*"
}
said() { # LINE
	local i
	for ((i = 0; i < 600; i++)); do
		! grep -aq "^$1" "$tmp/out" || return 0
		sleep 0.2
	done
	return 1
}
(
	said up || exit
	vm=$(pgrep -f -- '--name boxed' | head -n 1)
	for task in /proc/"$vm"/task/*; do
		grep -q '^Seccomp:.2$' "$task/status" || echo "refused: $(cat "$task/comm") has no filter"
		grep -q '^CapEff:.0*$' "$task/status" || echo "refused: $(cat "$task/comm") has capabilities"
	done
	ctl datapath net0 tap,vhost=on
	ctl datapath net0 user
	ctl datapath net0 tap,ifname=tap0
	ctl datapath disk1 "$tmp/other.img"
	ctl datapath disk1 "vhost-user,path=$sock,reconnect=100ms"
	peer_kill "$sock"
	peer_restart "$sock" || echo "refused: no second storage daemon"
	ctl stats >/dev/null
	touch "$tmp/moved"
	while [ -e /proc/"$vm" ]; do sleep 0.2; done
	peer_stop_all
) >"$tmp/ctl" 2>&1 &
mover=$!
in_guest -c 2 --name boxed --vsock 77 --net tap,ifname=tap0 --disk "vhost-user,path=$sock,reconnect=100ms" -- "
before=$before"'
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"
t ping -q -c 2 -i 0.2 10.1.0.1 || fail "no ping"
echo up
for i in 1 2 3 4 5 6 7 8; do
	[ "$(dd if=/dev/vdb bs=64k iflag=direct 2>/dev/null | sha256sum | cut -d " " -f 1)" = "$before" ] || fail "round $i: the guest reads something else"
	sleep 1
done
t ping -q -c 3 -i 0.2 10.1.0.1 || fail "no ping at the end"
'
wait "$mover"
show "$tmp/ctl"
expect_status 0 "reading and pinging"
! grep -E "refused" "$tmp/ctl" || fail "something was refused"
[ -e "$tmp/moved" ] || fail "the moves did not come to their end"
! grep -a "sandbox:" "$tmp/err" "$tmp/out" || fail "a call was not allowed"

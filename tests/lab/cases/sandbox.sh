#!/bin/bash
# A VM in its sandbox: every thread is confined while a card goes from this process to the kernel's vhost and to a user-mode
# network and back, a disk goes from a storage daemon to io_uring and back, and a storage daemon that was killed is reached again.
# The guest does what it reads, a word at a time, so that nothing is on its way when the daemon is killed (it tracks nothing).
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
asked=0
ask() { # WORD: the guest does it and has said so
	asked=$((asked + 1))
	echo "$1 $asked" >&3
	local i
	for ((i = 0; i < 300; i++)); do
		! grep -aq "^done $asked" "$tmp/out" || return 0
		sleep 0.2
	done
	echo "refused: $1: no answer in a minute"
}
mkfifo "$tmp/words"
(
	exec 3>"$tmp/words"
	ask both
	looked=0
	vm=$(pgrep -f -- '--name boxed' | head -n 1)
	for task in /proc/"$vm"/task/*; do
		state=$(cat "$task/status" 2>/dev/null)
		# One that has just ended, or the kernel's own.
		case $state in '' | Name:?vhost-* | Name:?iou-*) continue ;; esac
		looked=$((looked + 1))
		grep -q '^Seccomp:.2$' <<<"$state" || echo "refused: no filter: $state"
		grep -q '^CapEff:.0*$' <<<"$state" || echo "refused: capabilities: $state"
	done
	[ $looked -ge 6 ] || echo "refused: only $looked threads"
	ctl datapath net0 tap,vhost=on
	ask both
	ctl datapath net0 user
	ask read
	ctl datapath net0 tap,ifname=tap0
	ctl datapath disk1 "$tmp/other.img"
	ask both
	ctl datapath disk1 "vhost-user,path=$sock,reconnect=100ms"
	ask both
	peer_kill "$sock"
	peer_restart "$sock" || echo "refused: no second storage daemon"
	ask both
	ctl stats >/dev/null
	touch "$tmp/moved"
	echo "end 0" >&3
	exec 3>&-
	while [ -e /proc/"$vm" ]; do sleep 0.2; done
	peer_stop_all
) >"$tmp/ctl" 2>&1 &
mover=$!
input=$tmp/words
in_guest -c 2 --name boxed --stdin --vsock 77 --net tap,ifname=tap0,csum=off,tso=off --disk "vhost-user,path=$sock,reconnect=100ms" -- "
before=$before"'
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"
while read -r word number; do
	[ "$word" != end ] || break
	[ "$word" != both ] || t ping -q -c 2 -i 0.2 10.1.0.1 || fail "$number: no ping"
	[ "$(dd if=/dev/vdb bs=64k iflag=direct 2>/dev/null | sha256sum | cut -d " " -f 1)" = "$before" ] || fail "$number: the guest reads something else"
	echo "done $number"
done
'
wait "$mover"
show "$tmp/ctl"
expect_status 0 "reading and pinging"
! grep -E "refused" "$tmp/ctl" || fail "something was refused"
[ -e "$tmp/moved" ] || fail "the moves did not come to their end"
! grep -a "sandbox:" "$tmp/err" "$tmp/out" || fail "a call was not allowed"

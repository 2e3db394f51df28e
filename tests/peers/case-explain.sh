# "ringlet explain" of disks and cards that real daemons serve, and --trace control.
# shellcheck shell=bash disable=SC2154 # cases.sh

sock=$tmp/blk.sock

told() { # PATTERN [WHAT: of the guest g]
	ctl_explain "${2:-disk0}" >"$tmp/explained" || fail "explain: status $?"
	grep -qE -- "$1" "$tmp/explained" || fail "no line like '$1' in: $(cat "$tmp/explained")"
}
ctl_explain() { timeout 20 "$ringlet" explain "$tmp/g.ctl" "$@"; }

with_daemon() { # OPTION...
	truncate -s 8M "$tmp/d.img"
	peer_qsd_vhost_blk "$sock" "$tmp/d.img,locking=off" || fail "no storage daemon"
	guest_start g blk "depth=4 wait=irq" -d "vhost-user,path=$sock,reconnect=100ms$1" --trace control
	guest_ready g
	guest_grows g requests 0 200
}

test_disk_by_a_daemon() {
	with_daemon ""
	told '^  served by vhost-user at .*/blk.sock, connected; of the protocol: MQ .*CONFIG'
	told '^ +9 FLUSH +yes +yes +took$'
	told '^ +34 RING_PACKED +yes +no +off +packed=off, vhost-user$'
	told '^ +0 256/256 +vhost-user +- +0 +- '
	told 'nothing that is seen from here makes it slow'
	guest_line g 'ringlet: trace: [0-9.]+ disk0 vhost-user > SET_VRING_ENABLE need_reply queue=0 num=0x1'
	guest_say g h # what is on its way at the end would be lost
	sleep 0.5
	peer_kill "$sock"
	until_true 10 away || fail "nothing says that it is away: $(cat "$tmp/explained")"
	peer_restart "$sock"
	until_true 20 back || fail "nothing says that it is back: $(cat "$tmp/explained")"
	guest_say g g
	guest_quit g
}
away() { ctl_explain disk0 >"$tmp/explained" && grep -q 'Its back end is away' "$tmp/explained"; }
back() { ctl_explain disk0 >"$tmp/explained" && grep -q 'connected, has come back 1 time;' "$tmp/explained"; }

test_doorbells_by_exit() {
	with_daemon ",notify=exit,event_idx=off"
	told 'doorbell is an exit to Ringlet instead of an ioeventfd \(notify=exit\)'
	told 'No EVENT_IDX: .*\(removed by event_idx=off\)'
	told '^ +0 256/256 +vhost-user +0 +[1-9][0-9]+ +- '
	guest_quit g
}

test_moved() { # the ledger is the new datapath's
	with_daemon ""
	told '^ +34 RING_PACKED .*packed=off, vhost-user$'
	ctl g datapath disk0 "$tmp/d.img" || fail "no move"
	told '^ +34 RING_PACKED .*packed=off$'
	told '^ +0 256/256 +this process +[0-9]+ +[0-9]+ +[0-9]+ '
	guest_quit g
}

# A guest's frames through DPDK's testpmd and back, compared.
# shellcheck shell=bash disable=SC2154
sock=$tmp/net.sock

# Ringlet connects, testpmd listens.
connect() { # PAIRS GUEST-ARGUMENTS NET-OPTIONS [TESTPMD...]
	local pairs=$1 arguments=$2 options=$3
	shift 3
	peer_testpmd_vhost "$sock" server "$pairs" "${@:-io}" || fail "no testpmd"
	guest_run g net "count=4000 $arguments" -n "vhost-user,path=$sock$options"
	peer_stop "$sock"
}

test_split() { connect 1 "" ""; }
test_split_24() { PEER_DPDK=trixie connect 1 "" ""; }
test_packed() { connect 1 "packed=1" ",packed=on"; }
test_packed_24() { PEER_DPDK=trixie connect 1 "packed=1" ",packed=on"; }
test_irq() { connect 1 "wait=irq" ""; }
test_irq_intx() { connect 1 "wait=irq intx=1" ""; }
test_irq_packed() { connect 1 "wait=irq packed=1" ",packed=on"; }
test_mmio() { connect 1 "transport=mmio wait=irq" ",transport=mmio"; }
test_macswap() { connect 1 "swap=1" "" macswap; }
test_no_mergeable_buffers() { connect 1 "mrg=0" ""; }
test_mergeable_buffers_in_pieces() { connect 1 "room=256 window=16" ""; }
test_mergeable_buffers_in_pieces_packed() { connect 1 "room=256 window=16 packed=1" ",packed=on"; }
test_no_event_idx() { connect 1 "event_idx=0 wait=irq" ""; }
test_no_event_idx_device() { connect 1 "wait=irq" ",event_idx=off"; }
test_no_indirect() { connect 1 "indirect=0" ""; }
test_small_ring() { connect 1 "window=8" ",queue-size=32"; }
test_two_pairs() { connect 2 "pairs=2" ",queues=2"; }
test_two_pairs_packed_24() { PEER_DPDK=trixie connect 2 "pairs=2 packed=1" ",queues=2,packed=on"; }
test_one_pair_of_two() { connect 2 "" ",queues=2"; }
test_exit_and_ioctl() { connect 1 "wait=irq" ",notify=exit,irq=ioctl"; }
test_mtu() { connect 1 "" ",mtu=1400"; }

test_pairs_while_running() {
	peer_testpmd_vhost "$sock" server 2 io || fail "no testpmd"
	guest_start g net "pairs=2 lossy=1" -n "vhost-user,path=$sock,queues=2"
	guest_ready g
	for ((round = 0; round < 10; round++)); do
		guest_ask g 1 pairs
		guest_grows g got "$(guest_count g got)" 200
		guest_ask g 2 pairs
		guest_grows g got "$(guest_count g got)" 200
	done
	guest_quit g
}

# Ringlet listens, testpmd connects.
server() { # PAIRS GUEST-ARGUMENTS NET-OPTIONS
	guest_start g net "count=4000 $2" -n "vhost-user,path=$sock,server$3"
	until_true 5 peers_listens "$sock" || fail "nobody listens"
	peer_testpmd_vhost "$sock" client "$1" io || fail "no testpmd"
	guest_end g 40
	[ ! -S "$sock" ] || fail "the socket is left"
}

test_server() { server 1 "" ""; }
test_server_24() { PEER_DPDK=trixie server 1 "" ""; }
test_server_packed_two_pairs() { server 2 "pairs=2 packed=1" ",packed=on,queues=2"; }

test_client_first() { # testpmd waits for us
	peer_testpmd_vhost "$sock" client 1 io || fail "no testpmd"
	guest_run g net "count=4000" -n "vhost-user,path=$sock,server"
}

test_waits_for_its_server() {
	guest_start g net "count=2000" -n "vhost-user,path=$sock,wait=30s"
	sleep 1
	guest_alive g || fail "it does not wait"
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_end g 40
}

test_nobody_there() {
	guest_start g net "" -n "vhost-user,path=$sock,wait=300ms"
	until_true 10 guest_ended g || fail "it waits for ever"
	wait "${guest_pid[g]}"
	[ $? = 125 ] || fail "another status than 125"
	grep -q "$sock" "$tmp/g.err" || fail "it does not say where nobody is"
	cat "$tmp/g.err"
}

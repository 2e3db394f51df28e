# "ringlet ctl NAME datapath": a running device changes who serves it, under verified load.
# shellcheck shell=bash disable=SC2154,SC2015
count=${COUNT:-20}

# A tap whose other end sends back what it gets.
tap_up() {
	tap=peert$$
	ip tuntap add "$tap" mode tap vnet_hdr && ip link set "$tap" up || fail "no tap"
	setpriv --pdeathsig KILL tests/peers/reflect.py "$tap" >"$tmp/reflect" 2>&1 &
	until_true 10 grep -sq reflecting "$tmp/reflect" || fail "nobody sends back: $(cat "$tmp/reflect")"
}
at_end() { [ -z "${tap:-}" ] || ip link del "$tap"; }

moved() { # GUEST DEVICE WHO
	ctl "$1" datapath "$2" "$3" >"$tmp/moved" 2>&1 || fail "datapath $2 $3: $(cat "$tmp/moved")"
	cat "$tmp/moved" >>"$tmp/all.moved"
}

refused() { # GUEST DEVICE WHO PATTERN
	if ctl "$1" datapath "$2" "$3" >"$tmp/moved" 2>&1; then fail "it is moved to $3"; fi
	cat "$tmp/moved"
	grep -qE -- "$4" "$tmp/moved" || fail "the refusal does not name '$4'"
}

summary() { sed -nE 's/.* ([0-9.]+ [mµu]s).*/\1/p' "$tmp/all.moved" | sort -n | awk '{ a[NR] = $0 } END { print NR " pauses, median " a[int((NR + 1) / 2)] ", longest " a[NR] }'; }

net_moves() { # GUEST-ARGUMENTS OPTIONS
	tap_up
	peer_testpmd_vhost "$tmp/net.sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 slow=20 $1" -n "tap,ifname=$tap$2"
	guest_ready g
	guest_grows g got 0 200
	before=$(guest_handles g)
	for ((round = 0; round < count; round++)); do
		moved g net0 "vhost-user,path=$tmp/net.sock"
		guest_grows g got "$(guest_count g got)" 200
		moved g net0 "tap,ifname=$tap"
		guest_grows g got "$(guest_count g got)" 200
	done
	after=$(guest_handles g)
	[ "$before" = "$after" ] || fail "before: $before, after $count moves there and back: $after"
	head -n 2 "$tmp/all.moved"
	summary
	guest_quit g
}

test_net() { net_moves "" ""; } # limit: 300
test_net_irq() { net_moves "wait=irq" ""; } # limit: 300
test_net_no_mergeable() { net_moves "mrg=0" ""; } # limit: 300

test_net_from_vhost_user() { # limit: 120
	tap_up
	peer_testpmd_vhost "$tmp/net.sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 slow=20" -n "vhost-user,path=$tmp/net.sock,reconnect=100ms"
	guest_ready g
	guest_grows g got 0 200
	moved g net0 "tap,ifname=$tap"
	guest_grows g got "$(guest_count g got)" 200
	peer_kill "$tmp/net.sock" # it has nothing to do with us any more
	guest_grows g got "$(guest_count g got)" 200
	refused g net0 "vhost-user,path=$tmp/net.sock" "$tmp/net.sock"
	guest_grows g got "$(guest_count g got)" 200
	peer_restart "$tmp/net.sock" || fail "testpmd does not start again"
	moved g net0 "vhost-user,path=$tmp/net.sock,reconnect=100ms"
	guest_grows g got "$(guest_count g got)" 200
	peer_restart "$tmp/net.sock" || fail "testpmd does not start again"
	guest_grows g got "$(guest_count g got)" 200
	guest_quit g
}

# Two back ends: another one of the same kind.
test_net_between_testpmds() { # limit: 180
	peer_testpmd_vhost "$tmp/a.sock" server 1 io || fail "no testpmd"
	PEER_DPDK=trixie peer_testpmd_vhost "$tmp/b.sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1" -n "vhost-user,path=$tmp/a.sock"
	guest_ready g
	for ((round = 0; round < count / 4; round++)); do
		guest_grows g got "$(guest_count g got)" 200
		moved g net0 "vhost-user,path=$tmp/b.sock"
		guest_grows g got "$(guest_count g got)" 200
		moved g net0 "vhost-user,path=$tmp/a.sock"
	done
	guest_grows g got "$(guest_count g got)" 200
	guest_quit g
}

# The driver makes segments; testpmd without tso=1 does not take them.
test_net_refused() { # limit: 120
	tap_up
	peer_testpmd_vhost "$tmp/net.sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 slow=20 tso=1" -n "tap,ifname=$tap"
	guest_ready g
	guest_grows g got 0 200
	refused g net0 "vhost-user,path=$tmp/net.sock" "TSO"
	guest_grows g got "$(guest_count g got)" 200
	refused g net0 "vhost-user,path=$tmp/nowhere.sock" "nowhere.sock"
	refused g net0 "vdpa,path=/dev/null" "/dev/null"
	refused g net7 "tap,ifname=$tap" "net7"
	guest_grows g got "$(guest_count g got)" 200
	guest_quit g
}

test_net_with_tso() { # limit: 120
	tap_up
	peer_testpmd_vhost "$tmp/net.sock" server 1 io --vdev=,tso=1 || fail "no testpmd"
	guest_start g net "lossy=1 slow=20 tso=1" -n "tap,ifname=$tap"
	guest_ready g
	guest_grows g got 0 200
	moved g net0 "vhost-user,path=$tmp/net.sock"
	guest_grows g got "$(guest_count g got)" 200
	guest_quit g
}

disk_moves() { # QUEUES GUEST-ARGUMENTS OPTIONS
	truncate -s 64M "$tmp/disk"
	peer_qsd_vhost_blk "$tmp/blk.sock" "$tmp/disk,locking=off" raw "$1" || fail "no storage daemon"
	guest_start g blk "$2" -d "$tmp/disk$3"
	guest_ready g
	guest_grows g requests 0 500
	before=$(guest_handles g)
	for ((round = 0; round < count; round++)); do
		moved g disk0 "vhost-user,path=$tmp/blk.sock"
		guest_grows g requests "$(guest_count g requests)" 500
		moved g disk0 "$tmp/disk$3"
		guest_grows g requests "$(guest_count g requests)" 500
	done
	after=$(guest_handles g)
	[ "$before" = "$after" ] || fail "before: $before, after $count moves there and back: $after"
	head -n 2 "$tmp/all.moved"
	summary
	guest_quit g
	same_as_file g "$tmp/disk"
}

test_disk() { disk_moves 1 "" ""; } # limit: 300
test_disk_irq() { disk_moves 1 "wait=irq depth=8" ""; } # limit: 300
test_disk_two_queues() { PEER_QSD=trixie disk_moves 2 "queues=2" ",queues=2"; } # limit: 300
test_disk_mmio() { disk_moves 1 "transport=mmio wait=irq" ",transport=mmio"; } # limit: 300

# Often the vCPU stands still between making requests available and ringing the doorbell.
test_disk_late_doorbell() { disk_moves 1 "late=500 depth=4" ""; } # limit: 300

# Starts at the daemon, is moved to a file; and the daemon ends without harm.
test_disk_from_daemon() { # limit: 120
	truncate -s 64M "$tmp/disk"
	peer_qsd_vhost_blk "$tmp/blk.sock" "$tmp/disk,locking=off" || fail "no storage daemon"
	guest_start g blk "" -d "vhost-user,path=$tmp/blk.sock"
	guest_ready g
	guest_grows g requests 0 500
	moved g disk0 "$tmp/disk"
	peer_kill "$tmp/blk.sock"
	guest_grows g requests "$(guest_count g requests)" 500
	guest_quit g
	same_as_file g "$tmp/disk"
}

test_disk_refused() { # limit: 120
	truncate -s 64M "$tmp/disk"
	truncate -s 32M "$tmp/small" "$tmp/smaller"
	peer_qsd_vhost_blk "$tmp/small.sock" "$tmp/small" raw 2 || fail "no storage daemon"
	peer_qsd_vhost_blk "$tmp/one.sock" "$tmp/disk,locking=off" || fail "no storage daemon"
	guest_start g blk "queues=2" -d "$tmp/disk,queues=2"
	guest_ready g
	guest_grows g requests 0 500
	refused g disk0 "vhost-user,path=$tmp/small.sock" "capacity"
	refused g disk0 "vhost-user,path=$tmp/one.sock" "queue"
	refused g disk0 "$tmp/smaller" "capacity"
	refused g disk0 "$tmp/small" "in use"
	refused g disk0 "vhost-user,path=$tmp/nowhere.sock" "nowhere.sock"
	guest_grows g requests "$(guest_count g requests)" 500
	guest_quit g
	same_as_file g "$tmp/disk"
}

# What asks that costs nothing: descriptors, threads, the guest's time.
test_refusals_leave_nothing() { # limit: 120
	tap_up
	truncate -s 64M "$tmp/disk" "$tmp/other"
	peer_qsd_vhost_blk "$tmp/blk.sock" "$tmp/other" || fail "no storage daemon"
	guest_start g net "lossy=1 slow=20 disk=1" -n "tap,ifname=$tap" -d "$tmp/disk,queues=2"
	guest_ready g
	guest_grows g got 0 200
	before=$(guest_handles g)
	for ((round = 0; round < count; round++)); do
		refused g net0 "vhost-user,path=$tmp/blk.sock" . >/dev/null
		refused g net0 "vhost-user,path=$tmp/nowhere.sock" . >/dev/null
		refused g disk0 "vhost-user,path=$tmp/blk.sock" . >/dev/null
		refused g disk0 "$tmp/nowhere" . >/dev/null
	done
	after=$(guest_handles g)
	[ "$before" = "$after" ] || fail "before: $before, after $((4 * count)) refusals: $after"
	guest_grows g got "$(guest_count g got)" 200
	guest_quit g
}

stopped() { kill -STOP -- "-$(peer_pid "$1")"; }
goes_on() { kill -CONT -- "-$(peer_pid "$1")"; }

# To somebody who accepts and says nothing.
test_to_who_stands_still() { # limit: 120
	tap_up
	truncate -s 64M "$tmp/disk"
	peer_testpmd_vhost "$tmp/net.sock" server 1 io || fail "no testpmd"
	peer_qsd_vhost_blk "$tmp/blk.sock" "$tmp/disk,locking=off" || fail "no storage daemon"
	stopped "$tmp/net.sock"
	stopped "$tmp/blk.sock"
	guest_start g net "lossy=1 slow=20 disk=1" -n "tap,ifname=$tap" -d "$tmp/disk"
	guest_ready g
	guest_grows g got 0 200
	for who in "net0 vhost-user,path=$tmp/net.sock" "disk0 vhost-user,path=$tmp/blk.sock"; do
		started=${EPOCHREALTIME/[.,]/}
		# shellcheck disable=SC2086 # two words
		refused g $who "no (reply|answer)"
		echo "refused after $(((${EPOCHREALTIME/[.,]/} - started) / 1000)) ms"
		guest_grows g got "$(guest_count g got)" 200
		guest_grows g disk "$(guest_count g disk)" 100
	done
	goes_on "$tmp/net.sock"
	goes_on "$tmp/blk.sock"
	moved g net0 "vhost-user,path=$tmp/net.sock"
	moved g disk0 "vhost-user,path=$tmp/blk.sock"
	guest_grows g got "$(guest_count g got)" 200
	guest_grows g disk "$(guest_count g disk)" 100
	guest_quit g
}

# From somebody who has requests and does not answer them: the move is refused, and what was there goes on.
test_disk_from_who_stands_still() { # limit: 120
	truncate -s 64M "$tmp/disk"
	peer_qsd_vhost_blk "$tmp/blk.sock" "$tmp/disk,locking=off" || fail "no storage daemon"
	guest_start g blk "" -d "vhost-user,path=$tmp/blk.sock,reconnect=100ms"
	guest_ready g
	guest_grows g requests 0 500
	stopped "$tmp/blk.sock"
	sleep 0.3
	started=${EPOCHREALTIME/[.,]/}
	refused g disk0 "$tmp/disk" .
	echo "refused after $(((${EPOCHREALTIME/[.,]/} - started) / 1000)) ms"
	ctl g stats >"$tmp/stats" || fail "no counters"
	goes_on "$tmp/blk.sock"
	guest_grows g requests "$(guest_count g requests)" 500
	moved g disk0 "$tmp/disk"
	guest_grows g requests "$(guest_count g requests)" 500
	guest_quit g
	same_as_file g "$tmp/disk"
}

# From somebody who is dead: that is what one would do about it.
test_net_from_the_dead() { # limit: 120
	tap_up
	peer_testpmd_vhost "$tmp/net.sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 slow=20" -n "vhost-user,path=$tmp/net.sock,reconnect=100ms"
	guest_ready g
	guest_grows g got 0 200
	for ((round = 0; round < 3; round++)); do
		peer_kill "$tmp/net.sock"
		sleep 0.3
		moved g net0 "tap,ifname=$tap"
		guest_grows g got "$(guest_count g got)" 200
		peer_restart "$tmp/net.sock" || fail "testpmd does not start again"
		moved g net0 "vhost-user,path=$tmp/net.sock,reconnect=100ms"
		guest_grows g got "$(guest_count g got)" 200
	done
	cat "$tmp/all.moved"
	guest_quit g
}

test_disk_from_the_dead() { # limit: 120
	truncate -s 64M "$tmp/disk"
	peer_qsd_vhost_blk "$tmp/blk.sock" "$tmp/disk,locking=off" || fail "no storage daemon"
	guest_start g blk "" -d "vhost-user,path=$tmp/blk.sock,reconnect=100ms"
	guest_ready g
	guest_grows g requests 0 500
	guest_say g h
	until_true 10 nothing_away || fail "requests stay away"
	peer_kill "$tmp/blk.sock"
	guest_say g g # these wait for somebody, and nobody has taken them
	sleep 0.3
	moved g disk0 "$tmp/disk"
	guest_grows g requests "$(guest_count g requests)" 500
	guest_quit g
	same_as_file g "$tmp/disk"
}
nothing_away() { [ "$(guest_count g away)" = 0 ]; }

# A back end of a network device that dies, hangs and comes back while frames cross it: those after its return are
# compared like all others, none comes twice.
# shellcheck shell=bash disable=SC2154
sock=$tmp/net.sock
count=${COUNT:-10}

# Kills it and starts it again, COUNT times, and each time frames go on.
returns() { # GUEST
	local before after
	guest_ready "$1"
	guest_grows "$1" got 0 500
	before=$(guest_handles "$1")
	for ((round = 0; round < count; round++)); do
		peer_kill "$sock"
		sleep "0.$((RANDOM % 4))"
		peer_restart "$sock" || fail "testpmd does not start again"
		guest_grows "$1" got "$(guest_count "$1" got)" 500
	done
	after=$(guest_handles "$1")
	[ "$before" = "$after" ] || fail "before: $before, after $count returns: $after"
	echo "$after"
	guest_quit "$1"
}

test_killed_split() { # limit: 600
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1" -n "vhost-user,path=$sock,reconnect=100ms"
	returns g
}

test_killed_irq() { # limit: 600
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 wait=irq window=8" -n "vhost-user,path=$sock,reconnect=100ms"
	returns g
}

test_killed_two_pairs() { # limit: 600
	peer_testpmd_vhost "$sock" server 2 io || fail "no testpmd"
	guest_start g net "lossy=1 pairs=2" -n "vhost-user,path=$sock,queues=2,reconnect=100ms"
	returns g
}

test_killed_mergeable() { # limit: 600
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 room=256 window=16" -n "vhost-user,path=$sock,reconnect=100ms"
	returns g
}

test_killed_server_24() { # limit: 600
	guest_start g net "lossy=1" -n "vhost-user,path=$sock,server,reconnect=100ms"
	until_true 5 peers_listens "$sock" || fail "nobody listens"
	PEER_DPDK=trixie peer_testpmd_vhost "$sock" client 1 io || fail "no testpmd"
	returns g
}

# Nobody knows where it was in a packed ring: the driver is told, resets the device, and all goes on.
test_killed_packed() { # limit: 600
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 packed=1 heal=1" -n "vhost-user,path=$sock,packed=on,reconnect=100ms"
	returns g
	grep -qE '^done .* resets [1-9]' "$tmp/g.out" || fail "the device has never needed a reset"
}

test_killed_for_good() {
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1" -n "vhost-user,path=$sock"
	guest_ready g
	guest_grows g got 0 500
	peer_kill "$sock"
	guest_line g '^not ok.*needs a reset' 10
	grep -q net0 "$tmp/g.err" || fail "nothing is said of net0"
	grep net0 "$tmp/g.err"
}

# The driver resets its device and sets it up again while nobody serves it.
away_resets() { # GUEST-ARGUMENTS OPTIONS
	truncate -s 1M "$tmp/disk"
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 disk=1 $1" -n "vhost-user,path=$sock,reconnect=100ms$2" -d "$tmp/disk$2"
	guest_ready g
	guest_grows g got 0 500
	for ((round = 0; round < 3; round++)); do
		peer_kill "$sock"
		for ((i = 0; i < 5; i++)); do guest_ask g r reset 10; done
		guest_grows g disk "$(guest_count g disk)" 100
		ctl g stats >"$tmp/stats" || fail "no counters while it is away"
		peer_restart "$sock" || fail "testpmd does not start again"
		guest_grows g got "$(guest_count g got)" 500
	done
	guest_quit g
}

test_guest_resets_meanwhile() { away_resets "" ""; } # limit: 120
test_guest_resets_meanwhile_packed() { away_resets "packed=1 heal=1" ",packed=on"; } # limit: 120

test_resets_with_it_there() {
	peer_testpmd_vhost "$sock" server 2 io || fail "no testpmd"
	guest_start g net "lossy=1 pairs=2" -n "vhost-user,path=$sock,queues=2"
	guest_ready g
	for ((round = 0; round < 3 * count; round++)); do
		guest_ask g r reset
		guest_grows g got "$(guest_count g got)" 50
	done
	guest_quit g
}

test_resets_with_it_there_packed_24() {
	PEER_DPDK=trixie peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 packed=1" -n "vhost-user,path=$sock,packed=on"
	guest_ready g
	for ((round = 0; round < 3 * count; round++)); do
		guest_ask g r reset
		guest_grows g got "$(guest_count g got)" 50
	done
	guest_quit g
}

# It stands still: the rest of the VM does not, and nothing is lost that was not on its way.
test_stopped() { # limit: 90
	local before
	truncate -s 1M "$tmp/disk"
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1 disk=1" -n "vhost-user,path=$sock,reconnect=100ms" -d "$tmp/disk"
	guest_ready g
	guest_grows g got 0 500
	for ((round = 0; round < 3; round++)); do
		kill -STOP -- "-$(peer_pid "$sock")"
		for ((i = 0; i < 4; i++)); do
			before=${EPOCHREALTIME/[.,]/}
			ctl g stats >"$tmp/stats" || fail "no counters while it stands still"
			echo "counters after $(((${EPOCHREALTIME/[.,]/} - before) / 1000)) ms"
			guest_grows g disk "$(guest_count g disk)" 100
			sleep 0.5
		done
		kill -CONT -- "-$(peer_pid "$sock")"
		guest_grows g got "$(guest_count g got)" 500
	done
	guest_quit g
	! grep -q . "$tmp/g.err" || cat "$tmp/g.err"
}

# Who stands still has the rings in his hands, so a reset lasts until he is seen to have let go; then his place is his
# again. The new life's rings lie where the old ones were: whatever he wrote late would be seen.
stopped_and_reset() { # NAME GO_ON...: what ends it
	local g=$1 before
	shift
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start "$g" net "lossy=1" -n "vhost-user,path=$sock,reconnect=100ms"
	guest_ready "$g"
	guest_grows "$g" got 0 500
	kill -STOP -- "-$(peer_pid "$sock")"
	guest_say "$g" r
	sleep 0.3
	before=${EPOCHREALTIME/[.,]/}
	ctl "$g" stats >"$tmp/stats" || fail "no counters while a reset waits"
	echo "counters after $(((${EPOCHREALTIME/[.,]/} - before) / 1000)) ms"
	sleep 8
	! grep -q '^reset' "$tmp/$g.out" || fail "the reset ended while the back end could still write"
	grep -q 'may still use the guest' "$tmp/$g.err" || fail "nothing says why"
	"$@" || fail "$* failed"
	before=${EPOCHREALTIME/[.,]/}
	guest_line "$g" '^reset' 20
	echo "the reset ended after $(((${EPOCHREALTIME/[.,]/} - before) / 1000)) ms"
	guest_grows "$g" got "$(guest_count "$g" got)" 500 40
	guest_quit "$g"
}

go_on() { kill -CONT -- "-$(peer_pid "$sock")"; }
kill_and_restart() { peer_kill "$sock" && peer_restart "$sock"; }

test_stopped_and_reset() { # limit: 120
	for ((round = 0; round < 3; round++)); do
		stopped_and_reset "g$round" go_on
		peer_kill "$sock"
		rm -f "$sock"
	done
}

test_stopped_reset_and_killed() { # limit: 120
	stopped_and_reset g kill_and_restart
}

# A guest that starts anew gets memory that nobody else writes to.
test_stopped_and_rebooted() { # limit: 120
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1" -n "vhost-user,path=$sock,reconnect=100ms" --reboot again
	guest_ready g
	guest_grows g got 0 500
	kill -STOP -- "-$(peer_pid "$sock")"
	guest_say g b
	sleep 8
	ctl g stats >"$tmp/stats" || fail "no counters while a reboot waits"
	grep -q 'starts anew when' "$tmp/g.err" || fail "nothing says what is waited for"
	[ "$(grep -c '^ready' "$tmp/g.out")" = 1 ] || fail "it has started anew too early"
	go_on
	until_true 20 eval '[ "$(grep -c "^ready" "$tmp/g.out")" = 2 ]' || fail "it does not start anew"
	guest_grows g got 0 500 40
	guest_quit g
}

# A quit and a power-off do not wait for who stands still.
test_stopped_and_quit() {
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1" -n "vhost-user,path=$sock,reconnect=100ms"
	guest_ready g
	guest_grows g got 0 500
	kill -STOP -- "-$(peer_pid "$sock")"
	guest_quit g 15
	kill -CONT -- "-$(peer_pid "$sock")"
}

# It dies while it is being told what there is to serve, wherever that is.
early() { # GUEST: of a back end on $sock that is there
	local before after
	guest_ready "$1"
	guest_grows "$1" got 0 500
	before=$(guest_handles "$1")
	for ((round = 0; round < 2 * count; round++)); do
		peer_kill "$sock"
		peer_restart "$sock" || fail "testpmd does not start again"
		sleep "0.0$((RANDOM % 10))"
	done
	guest_grows "$1" got "$(guest_count "$1" got)" 500 40
	after=$(guest_handles "$1")
	[ "$before" = "$after" ] || fail "before: $before, after $((2 * count)) returns: $after"
	guest_quit "$1"
	sed 's/.*ringlet: warning: //; s/ at [^ ]*:/:/' "$tmp/g.err" | sort | uniq -c
}

test_killed_early() { # limit: 600
	peer_testpmd_vhost "$sock" server 1 io || fail "no testpmd"
	guest_start g net "lossy=1" -n "vhost-user,path=$sock,reconnect=10ms"
	early g
}

test_killed_early_server() { # limit: 600
	guest_start g net "lossy=1" -n "vhost-user,path=$sock,server,reconnect=10ms"
	until_true 5 peers_listens "$sock" || fail "nobody listens"
	peer_testpmd_vhost "$sock" client 1 io || fail "no testpmd"
	early g
}

# At the same time the driver resets its device again and again.
test_killed_and_reset() { # limit: 600
	peer_testpmd_vhost "$sock" server 2 io || fail "no testpmd"
	guest_start g net "lossy=1 pairs=2" -n "vhost-user,path=$sock,queues=2,reconnect=10ms"
	guest_ready g
	guest_grows g got 0 500
	before=$(guest_handles g)
	for ((round = 0; round < count; round++)); do
		guest_say g rrr
		sleep "0.0$((RANDOM % 10))"
		peer_kill "$sock"
		guest_say g rrr
		peer_restart "$sock" || fail "testpmd does not start again"
		guest_say g rrr
	done
	guest_grows g got "$(guest_count g got)" 500 40
	after=$(guest_handles g)
	[ "$before" = "$after" ] || fail "before: $before, after $count returns: $after"
	guest_quit g
}

# A guest's requests at our own back end: written, read back, compared, and the file compared with what the guest says;
# killed and started again under load, when with an in-flight buffer nothing is lost and the driver notices nothing.
#   BACKEND_BLK='COMMAND...'   what is started (default: ringlet backend blk)
# shellcheck shell=bash disable=SC2154,SC2015
sock=$tmp/blk.sock disk=$tmp/disk
count=${COUNT:-20}

serve() { # SOCKET-OPTIONS FILE[,OPTIONS]
	# shellcheck disable=SC2086
	peers_start "$sock" "peers_listens $sock" ${BACKEND_BLK:-$ringlet backend blk} "$sock$1" "$2" || fail "no back end"
}

plain() { # SOCKET-OPTIONS FILE-OPTIONS GUEST-ARGUMENTS DISK-OPTIONS
	truncate -s 64M "$disk"
	serve "$1" "$disk$2"
	guest_run g blk "$3 count=20000" -d "vhost-user,path=$sock$4"
	peer_stop "$sock"
	tail -n 1 "$(peer_log "$sock")"
	same_as_file g "$disk"
	rm -f "$disk"
}

test_split() { plain "" "" "" ""; }
test_sync() { plain "" ",aio=sync" "" ""; }
test_direct() { plain "" ",direct" "" ""; }
test_irq() { plain "" "" "wait=irq" ""; }
test_poll() { plain ",poll" "" "" ""; }
test_poll_direct() { plain ",poll" ",direct" "wait=irq" ""; }
test_depth_1_irq() { plain "" "" "wait=irq depth=1 count=2000" ""; }
test_mmio() { plain "" "" "transport=mmio wait=irq" ",transport=mmio"; }
test_no_event_idx() { plain "" "" "wait=irq event_idx=0" ""; }
test_no_indirect() { plain "" "" "indirect=0" ""; }
test_packed() { plain "" "" "" ",packed=on"; }
test_packed_irq() { plain "" "" "wait=irq" ",packed=on"; }
test_two_queues() { plain ",queues=2" "" "queues=2" ",queues=2"; }
test_four_queues_poll() { plain ",queues=4,poll" "" "queues=4" ",queues=4"; }
test_discard_and_zeroes() { plain "" "" "zeroes=1" ""; }
test_discard_and_zeroes_packed() { plain "" "" "zeroes=1" ",packed=on"; }

memory() { # SOCKET-OPTIONS GUEST-ARGUMENTS DISK-OPTIONS
	serve "$1" memory,size=64M
	guest_run g blk "$2 count=20000" -d "vhost-user,path=$sock$3"
}
test_memory() { memory "" "zeroes=1" ""; }
test_memory_in_order() { memory "" "zeroes=1 wait=irq" ",in_order=on"; }
test_memory_packed_poll() { memory ",poll,queues=2" "queues=2" ",packed=on,queues=2"; }

test_connects() { # it is the one that connects, to a front end that listens
	truncate -s 64M "$disk"
	# shellcheck disable=SC2086
	peers_start "$sock" true ${BACKEND_BLK:-$ringlet backend blk} "$sock,server=off" "$disk" || fail "no back end"
	guest_run g blk "count=5000" -d "vhost-user,path=$sock,server=on,wait=10s"
	same_as_file g "$disk"
}

test_grows() {
	truncate -s 64M "$disk"
	serve "" "$disk"
	guest_start g blk "wait=irq depth=4" -d "vhost-user,path=$sock"
	guest_ready g
	for size in 128 96 256; do
		guest_ask g c capacity
		irqs=$(field config_irqs)
		truncate -s "${size}M" "$disk"
		until_true 10 resized $((size << 11)) || fail "no new capacity, or no interrupt that tells of it: $answer"
	done
	guest_quit g
	same_as_file g "$disk"
}
resized() {
	guest_ask g c capacity
	[ "$(field capacity)" = "$1" ] && (($(field config_irqs) > irqs))
}

# Under load.  The device must not need a reset: what was taken and not given back is done by the next one.
killed() { # SOCKET-OPTIONS FILE-OPTIONS GUEST-ARGUMENTS DISK-OPTIONS
	local before after
	truncate -s 64M "$disk"
	serve "$1" "$disk$2"
	guest_start g blk "$3" -d "vhost-user,path=$sock,reconnect=20ms$4"
	guest_ready g
	guest_grows g requests 0 1000
	before=$(guest_handles g)
	for ((round = 0; round < count; round++)); do
		peer_kill "$sock"
		sleep "0.$((RANDOM % 2))$((RANDOM % 10))"
		peer_restart "$sock" || fail "the back end does not start again"
		guest_grows g requests "$(guest_count g requests)" $((500 + RANDOM % 1000))
	done
	after=$(guest_handles g)
	[ "$before" = "$after" ] || fail "before: $before, after $count returns: $after"
	guest_quit g
	same_as_file g "$disk"
	grep -qE '^done .* resets 0 ' "$tmp/g.out" || fail "the device has needed a reset"
	echo "$(grep -c 'is gone' "$tmp/g.err") losses, $after"
}

test_killed() { killed "" "" "" ""; }                                      # limit: 300
test_killed_irq() { killed "" "" "wait=irq" ""; }                          # limit: 300
test_killed_direct() { killed "" ",direct" "" ""; }                        # limit: 300
test_killed_sync() { killed "" ",aio=sync,direct" "wait=irq" ""; }         # limit: 300
test_killed_poll() { killed ",poll" "" "" ""; }                            # limit: 300
test_killed_two_queues() { killed ",queues=2" ",direct" "queues=2" ",queues=2"; } # limit: 300

test_stopped_and_started() { # limit: 120
	truncate -s 64M "$disk"
	serve "" "$disk"
	guest_start g blk "" -d "vhost-user,path=$sock,reconnect=20ms"
	guest_ready g
	for ((round = 0; round < count; round++)); do
		guest_grows g requests "$(guest_count g requests)" 500
		kill -TERM "$(peer_pid "$sock")"
		until_true 10 peer_gone || fail "the back end does not end"
		peer_restart "$sock" || fail "the back end does not start again"
	done
	guest_grows g requests "$(guest_count g requests)" 500
	guest_quit g
	same_as_file g "$disk"
	grep -qE '^done .* resets 0 ' "$tmp/g.out" || fail "the device has needed a reset"
}
peer_gone() { ! peer_alive "$sock"; }

test_resets_with_requests_on_their_way() { # limit: 120
	local before after
	truncate -s 64M "$disk"
	serve ",queues=2" "$disk"
	guest_start g blk "queues=2" -d "vhost-user,path=$sock,queues=2"
	guest_ready g
	before=$(find "/proc/$(peer_pid "$sock")/fd" | wc -l)
	for ((round = 0; round < 3 * count; round++)); do
		guest_grows g requests "$(guest_count g requests)" 100
		guest_ask g r reset
	done
	after=$(find "/proc/$(peer_pid "$sock")/fd" | wc -l)
	[ "$before" = "$after" ] || fail "the back end had $before descriptors, has $after"
	guest_quit g
	same_as_file g "$disk"
}

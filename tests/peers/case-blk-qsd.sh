# A guest's requests at QEMU's storage daemon: written, read back, compared, and the file compared with what the guest says.
# shellcheck shell=bash disable=SC2154,SC2015
sock=$tmp/blk.sock disk=$tmp/disk
count=${COUNT:-10}

plain() { # QUEUES GUEST-ARGUMENTS DISK-OPTIONS [raw|qcow2]
	local format=${4:-raw}
	qemu-img create -q -f "$format" "$disk" 64M
	peer_qsd_vhost_blk "$sock" "$disk" "$format" "$1" || fail "no storage daemon"
	guest_run g blk "$2 count=20000" -d "vhost-user,path=$sock$3"
	peer_stop "$sock"
	if [ "$format" != raw ]; then
		qemu-img check -q -f "$format" "$disk" && qemu-img convert -f "$format" -O raw "$disk" "$disk.raw" || fail "a bad image"
		mv "$disk.raw" "$disk"
	fi
	same_as_file g "$disk"
	rm -f "$disk"
}

test_split() { plain 1 "" ""; }
test_split_10() { PEER_QSD=trixie plain 1 "" ""; }
test_irq() { plain 1 "wait=irq" ""; }
test_irq_10() { PEER_QSD=trixie plain 1 "wait=irq depth=4" ""; }
test_depth_1_irq() { plain 1 "wait=irq depth=1 count=2000" ""; }
test_mmio() { plain 1 "transport=mmio wait=irq" ",transport=mmio"; }
test_no_event_idx() { plain 1 "wait=irq event_idx=0" ""; }
test_no_indirect() { plain 1 "indirect=0" ""; }
test_two_queues() { plain 2 "queues=2" ",queues=2"; }
test_two_queues_10() { PEER_QSD=trixie plain 2 "queues=2 wait=irq" ",queues=2"; }
test_qcow2() { plain 1 "" "" qcow2; }
test_qcow2_10() { PEER_QSD=trixie plain 2 "queues=2" ",queues=2" qcow2; }
test_discard_and_zeroes() { plain 1 "zeroes=1" ""; }
test_discard_and_zeroes_qcow2_10() { PEER_QSD=trixie plain 1 "zeroes=1" "" qcow2; }

test_packed_where_it_is_not_offered() { plain 1 "" ",packed=on"; }

test_resize_10() {
	truncate -s 64M "$disk"
	PEER_QSD=trixie peer_qsd_vhost_blk "$sock" "$disk" || fail "no storage daemon"
	guest_start g blk "wait=irq depth=4" -d "vhost-user,path=$sock"
	guest_ready g
	for size in 128 96 256; do
		guest_ask g c capacity
		irqs=$(field config_irqs)
		peer_qsd_resize "$sock" $((size << 20)) || fail "the daemon does not resize it"
		until_true 10 resized $((size << 11)) || fail "no new capacity, or no interrupt that tells of it: $answer"
	done
	guest_quit g
	same_as_file g "$disk"
}
resized() {
	guest_ask g c capacity
	[ "$(field capacity)" = "$1" ] && (($(field config_irqs) > irqs))
}

# Nobody noted which requests it had: the driver is told, resets the device and sends them again.
killed() { # GUEST-ARGUMENTS OPTIONS QUEUES
	local before after
	truncate -s 64M "$disk"
	peer_qsd_vhost_blk "$sock" "$disk" raw "$3" || fail "no storage daemon"
	guest_start g blk "heal=1 $1" -d "vhost-user,path=$sock,reconnect=50ms$2"
	guest_ready g
	guest_grows g requests 0 1000
	before=$(guest_handles g)
	for ((round = 0; round < count; round++)); do
		peer_kill "$sock"
		sleep "0.$((RANDOM % 3))"
		peer_restart "$sock" || fail "the daemon does not start again"
		guest_grows g requests "$(guest_count g requests)" 1000
	done
	after=$(guest_handles g)
	[ "$before" = "$after" ] || fail "before: $before, after $count returns: $after"
	guest_quit g
	same_as_file g "$disk"
	grep -qE '^done .* resets [1-9]' "$tmp/g.out" || fail "the device has never needed a reset"
	sort "$tmp/g.err" | uniq -c | sort -rn | head -n 5
}

test_killed() { killed "" "" 1; } # limit: 300
test_killed_irq_10() { PEER_QSD=trixie killed "wait=irq" "" 1; } # limit: 300
test_killed_two_queues() { killed "queues=2" ",queues=2" 2; } # limit: 300

test_killed_for_good() {
	truncate -s 64M "$disk"
	peer_qsd_vhost_blk "$sock" "$disk" || fail "no storage daemon"
	guest_start g blk "" -d "vhost-user,path=$sock"
	guest_ready g
	guest_grows g requests 0 1000
	peer_kill "$sock"
	guest_line g '^not ok.*needs a reset' 10
	grep -q disk0 "$tmp/g.err" || fail "nothing is said of disk0"
	cat "$tmp/g.err"
}

# With nothing on its way the driver is not to notice, however often.
test_killed_idle() { # limit: 300
	local before after rounds=${COUNT:-50}
	truncate -s 64M "$disk"
	peer_qsd_vhost_blk "$sock" "$disk" || fail "no storage daemon"
	guest_start g blk "wait=irq" -d "vhost-user,path=$sock,reconnect=20ms"
	guest_ready g
	guest_grows g requests 0 1000
	before=$(guest_handles g)
	for ((round = 0; round < rounds; round++)); do
		guest_say g h
		until_true 10 idle || fail "requests stay away: $answer"
		peer_kill "$sock"
		until_true 10 left_alone $((round + 1)) || fail "it is not noticed"
		if ((round % 2)); then guest_say g g; fi # some come while nobody is there
		peer_restart "$sock" || fail "the daemon does not start again"
		guest_say g g
		guest_grows g requests "$(guest_count g requests)" 100
	done
	after=$(guest_handles g)
	[ "$before" = "$after" ] || fail "before: $before, after $rounds returns: $after"
	echo "$after"
	guest_quit g
	same_as_file g "$disk"
	grep -qE '^done .* resets 0 ' "$tmp/g.out" || fail "the device has needed a reset"
}
left_alone() { [ "$(grep -c 'is gone' "$tmp/g.err")" = "$1" ]; }
idle() { [ "$(guest_count g away)" = 0 ]; }

test_guest_resets_meanwhile() { # limit: 120
	truncate -s 64M "$disk"
	peer_qsd_vhost_blk "$sock" "$disk" || fail "no storage daemon"
	guest_start g blk "heal=1" -d "vhost-user,path=$sock,reconnect=50ms"
	guest_ready g
	for ((round = 0; round < 5; round++)); do
		guest_grows g requests "$(guest_count g requests)" 1000
		peer_kill "$sock"
		for ((i = 0; i < 5; i++)); do guest_ask g r reset 10; done
		peer_restart "$sock" || fail "the daemon does not start again"
	done
	guest_grows g requests "$(guest_count g requests)" 1000
	guest_quit g
	same_as_file g "$disk"
}

test_resets_with_requests_on_their_way() { # limit: 120
	truncate -s 64M "$disk"
	peer_qsd_vhost_blk "$sock" "$disk" raw 2 || fail "no storage daemon"
	guest_start g blk "queues=2" -d "vhost-user,path=$sock,queues=2"
	guest_ready g
	for ((round = 0; round < 3 * count; round++)); do
		guest_grows g requests "$(guest_count g requests)" 100
		guest_ask g r reset
	done
	guest_quit g
	same_as_file g "$disk"
}

test_stopped() { # limit: 90
	local before
	truncate -s 64M "$disk" "$tmp/other"
	peer_qsd_vhost_blk "$sock" "$disk" || fail "no storage daemon"
	guest_start g blk "" -d "vhost-user,path=$sock,reconnect=100ms"
	guest_ready g
	for ((round = 0; round < 3; round++)); do
		guest_grows g requests "$(guest_count g requests)" 1000
		kill -STOP -- "-$(peer_pid "$sock")"
		sleep 1
		before=${EPOCHREALTIME/[.,]/}
		ctl g stats >"$tmp/stats" || fail "no counters while it stands still"
		echo "counters after $(((${EPOCHREALTIME/[.,]/} - before) / 1000)) ms"
		kill -CONT -- "-$(peer_pid "$sock")"
	done
	guest_grows g requests "$(guest_count g requests)" 1000
	guest_quit g
	same_as_file g "$disk"
	! grep -q . "$tmp/g.err" || cat "$tmp/g.err"
}

#!/bin/bash
# "ringlet compare" with the guest that needs no fast KVM: figures come out, nothing is left, whatever ends it. TAP on stdout.
set -u
cd "$(dirname "$0")/.." || exit
ringlet=$PWD/${BUILD:-build}/ringlet
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

export COMPARE_TEST=$$ # by which processes are known to be of this test

# What is on the host that a comparison might leave there
state() {
	ip -o link | sed -E 's/^[0-9]+: ([^:@]*).*/link \1/'
	pgrep -x ringlet | while read -r pid; do
		if grep -qaz "^COMPARE_TEST=$$\$" "/proc/$pid/environ" 2>/dev/null; then echo "process $pid"; fi
	done
	# Others work on this host, too; what is ours has a name that says so.
	find /dev/shm /tmp /run -mindepth 1 -maxdepth 1 -name '*ringlet*' 2>/dev/null | sort
	ls /dev/vduse /dev/vhost-vdpa-* 2>/dev/null
	cut -d ' ' -f 5 /proc/self/mountinfo | sort
}

# Processes that were told to end may take a moment.
nothing_left() { # NAME
	local i
	for ((i = 0; i < 50; i++)); do
		state >"$tmp/after"
		if cmp -s "$tmp/before" "$tmp/after"; then return 0; fi
		sleep 0.1
	done
	why="left on the host: $(diff "$tmp/before" "$tmp/after" | grep '^[<>]' | tr '\n' ' ')"
	return 1
}

check() { # NAME FUNCTION: "ok", or "not ok" with $why
	why=
	state >"$tmp/before"
	if "$2" && nothing_left; then
		echo "ok - compare/$1"
	else
		echo "not ok - compare/$1: $why"
		sed 's/^/# /' "$tmp/out" "$tmp/err" 2>/dev/null | tail -n 40
	fi
}

run() { # STATUS OPTION...
	local want=$1 status
	shift
	timeout 120 "$ringlet" compare "$@" >"$tmp/out" 2>"$tmp/err"
	status=$?
	[ $status = "$want" ] || { why="exit status $status, expected $want"; return 1; }
}

told() { # FILE PATTERN
	grep -qE "$2" "$tmp/$1" || { why="nothing like \"$2\" in $1"; return 1; }
}

cards() {
	run 0 --net tap,vhost-user,user --workload pps,rr --repeat 2 --duration 200ms --out "$tmp/net" &&
		told out '^tap +[0-9]' && told out '^vhost-user +[0-9]' && told out '^user +[0-9]' && told err 'round 2 of 2: tap: pps' &&
		[ "$(wc -l <"$tmp/net/result.csv")" = 13 ] && told net/result.json '"VIRTIO_F_VERSION_1"|VERSION_1' &&
		[ "$(grep -o '<svg' "$tmp/net/report.html" | wc -l)" -ge 5 ] && return
	why=${why:-files: $(find "$tmp/net" -type f | tr '\n' ' ')}
	return 1
}

disks() {
	run 0 --disk in-process,vhost-user --workload randread,qd1 --size 16M --repeat 1 --duration 200ms -q &&
		told out '^in-process +[0-9]' && told out '^vhost-user +[0-9]' && ! told err . && why=
}

# Each combination has its own line, and a packed ring is a packed ring.
combinations() {
	run 0 --net vhost-user --workload pps --transport pci,mmio --ring split,packed --notify ioeventfd,exit --repeat 1 --duration 200ms -q \
		--out "$tmp/all" && [ "$(grep -c '^vhost-user ' "$tmp/out")" -ge 8 ] && told all/result.json RING_PACKED
}

each_its_best() {
	run 0 --net tap,vhost-user --workload pps --features best --repeat 1 --duration 200ms -q && told out '^Feature bits'
}

interrupted() { # SIGNAL
	local pid status i
	"$ringlet" compare --net tap,vhost-user --workload pps --repeat 100 --duration 200ms >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	for ((i = 0; i < 200; i++)); do
		if grep -q 'round 1 of 100: vhost-user' "$tmp/err"; then break; fi
		sleep 0.05
	done
	kill "-$1" $pid
	wait $pid
	status=$?
	[ $status = "$2" ] || { why="exit status $status, expected $2"; return 1; }
}
by_ctrl_c() { interrupted INT 130; }
by_kill() { interrupted KILL 137; }

missing() {
	run 125 --net tap,vdpa=/dev/vhost-vdpa-no --workload pps && told err '/dev/vhost-vdpa-no' && ! told err 'round 1' && why= &&
		run 125 --disk in-process -k /no/kernel -i /no/initrd --workload seq && told err '/no/kernel' && told err '/no/initrd' && told err 'tools'
}

# One of its VMs dies: that is said, and the rest is taken down.
a_guest_is_killed() {
	local pid status i
	"$ringlet" compare --net tap --workload pps --repeat 1 --duration 20s >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	for ((i = 0; i < 100; i++)); do
		# Not the one that only looks what is offered (probe=1).
		if pkill -KILL -P $pid -f 'hold=[0-9]* --net'; then break; fi
		sleep 0.05
	done
	wait $pid
	status=$?
	[ $status = 125 ] && told err '^ringlet: .*tap' && return
	why=${why:-exit status $status, expected 125}
	return 1
}

check cards cards
check disks disks
check combinations combinations
check features-best each_its_best
check ctrl-c by_ctrl_c
check kill-9 by_kill
check missing-things-are-named-first missing
check a-guest-is-killed a_guest_is_killed

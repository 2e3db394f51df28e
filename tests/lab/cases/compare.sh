#!/bin/bash
# "ringlet compare" with a Linux guest and what only the kernel has: every path and workload gives a figure, and the reasons beside it;
# nothing is left. The user's own command, its exit status, and a guest that stops.
#   TEST_COMPARE=paths   every path, disks, the user's own command; a few without
#   TEST_COMPARE=all     all workloads, on PCI and MMIO, split and packed
# timeout: 900
. "$(dirname "$0")/../lib.sh"
[ -e /dev/vhost-net ] || fail "no /dev/vhost-net in the lab"
need_guest "$kernel"
guest=("${guest_args[@]}" --tools build/guest/tools.img --duration 1s --repeat 1)

ours() { # that no kill may leave
	ip -o link | cut -d : -f 2
	pgrep -x ringlet
	find /dev/shm /tmp /run -mindepth 1 -maxdepth 1 ! -name 'tmp.*' | sort
}
state() {
	ours
	ls /dev/vduse /dev/vhost-vdpa-* 2>/dev/null
}

compare() { # STATUS OPTION...
	local want=$1 status=0
	shift
	"$ringlet" compare "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
	tail -n 60 "$tmp/err" "$tmp/out"
	[ $status = "$want" ] || fail "compare $*: exit status $status, not $want"
	[ "$(state)" = "$before" ] || fail "left on the host: $(diff <(echo "$before") <(state))"
}

# Field FIELD (of the CSV's first line) of PATH and WORKLOAD
field() { # CSV PATH WORKLOAD FIELD
	awk -F , -v path="$2" -v work="$3" -v want="$4" '
		NR == 1 { for (i = 1; i <= NF; i++) { gsub(/"|\r/, "", $i); at[$i] = i } next }
		{ gsub(/"|\r/, "") }
		$at["path"] == path && $at["workload"] == work { print $at[want] }' "$1"
}

more_than() { # A B WHAT
	awk -v a="${1:-0}" -v b="$2" 'BEGIN { exit !(a > b) }' || fail "$3: $1 is not more than $2"
}

before=$(state)
card=(tap vhost-net)
works=tcp,rr
disk=()
dirs=net
if [ -n "${TEST_COMPARE:-}" ]; then
	card=(tap vhost-net vhost-user vdpa)
	disk=(in-process vhost-user vdpa)
	disk_works=randread,qd1
	dirs="net disk"
fi
more=()
if [ "${TEST_COMPARE:-}" = all ]; then
	works=tcp,tcp-in,rr,pps,ping
	disk_works=randread,randwrite,seq,qd1
	more=(--transport pci,mmio --ring split,packed)
fi
paths() { local IFS=,; echo "$*"; }

compare 0 --net "$(paths "${card[@]}")" --workload "$works" "${guest[@]}" "${more[@]}" --out "$tmp/net"
[ -z "$(paths "${disk[@]}")" ] || compare 0 --disk "$(paths "${disk[@]}")" --workload "$disk_works" "${guest[@]}" "${more[@]}" --size 64M --out "$tmp/disk"
if [ ${#more[@]} = 0 ]; then
	for path in "${card[@]}"; do
		more_than "$(field "$tmp/net/result.csv" "$path" tcp rate)" 1000000 "$path: bits a second"
		more_than "$(field "$tmp/net/result.csv" "$path" rr p50_us)" 10 "$path: us an answer"
		more_than "$(field "$tmp/net/result.csv" "$path" rr exits)" 1 "$path: exits an answer"
	done
	# Who works is seen by whose CPU it takes, and who makes the system calls.
	more_than "$(field "$tmp/net/result.csv" vhost-net tcp cpu_vhost)" 0.01 "the kernel's worker"
	[ -z "${TEST_COMPARE:-}" ] || more_than "$(field "$tmp/net/result.csv" vhost-user tcp cpu_backend)" 0.01 "the back end"
	[ -z "${TEST_COMPARE:-}" ] || more_than "$(field "$tmp/disk/result.csv" vdpa qd1 cpu_backend)" 0.01 "the back end by VDUSE"
	more_than "$(field "$tmp/net/result.csv" tap rr syscalls)" 2 "system calls of this process"
	more_than 1 "$(field "$tmp/net/result.csv" vhost-net rr syscalls)" "system calls beside vhost-net"
	for path in "${disk[@]}"; do
		more_than "$(field "$tmp/disk/result.csv" "$path" qd1 rate)" 10 "$path: reads a second"
		more_than "$(field "$tmp/disk/result.csv" "$path" qd1 p99_us)" 10 "$path: us a read"
	done
fi
for dir in $dirs; do
	[ "$(grep -o '<svg' "$tmp/$dir/report.html" | wc -l)" -ge 3 ] || fail "$dir: plots are missing in report.html"
done

own_command() {
	compare 0 --net tap "${guest[@]}" -- sh -c 'ping -c 3 "$COMPARE_HOST"'
	grep -q '^tap ' "$tmp/out" || fail "a command gives no figure"
	compare 125 --net tap "${guest[@]}" -- sh -c 'exit 7'
	grep -q 'exit status 7' "$tmp/err" || fail "the command's exit status is lost"
	compare 125 --net tap "${guest[@]}" -- poweroff -f
}
[ -z "${TEST_COMPARE:-}" ] || own_command

# Ctrl-C, and a kill that leaves the kernel a device: a later one takes that with it.
killed() { # SIGNAL STATUS
	local status=0 i
	"$ringlet" compare --disk vdpa --workload seq --duration 20s >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	for ((i = 0; i < 600; i++)); do
		if [ -e /dev/vhost-vdpa-0 ] && pgrep -f what=seq >/dev/null; then break; fi
		sleep 0.1
	done
	kill "-$1" "$pid"
	wait "$pid" || status=$?
	pid=
	[ $status = "$2" ] || fail "SIG$1: exit status $status, not $2"
}
killed INT 130
[ "$(state)" = "$before" ] || fail "left after Ctrl-C: $(diff <(echo "$before") <(state))"
[ -n "${TEST_COMPARE:-}" ] || exit 0

without=$(ours)
killed KILL 137
sleep 1
[ "$(ours)" = "$without" ] || fail "left after SIGKILL: $(diff <(echo "$without") <(ours))"
ls /dev/vduse/rlcompare* >/dev/null || fail "nothing for the next one to take: the kernel took it itself"
# The VM's end waits for who served it, 30 s and more; meanwhile there is another device.
"$ringlet" compare --disk vdpa --workload seq --duration 1s --repeat 1 || fail "no comparison beside what was left"
sleep 45
compare 0 --disk vdpa --workload seq --duration 1s --repeat 1

#!/bin/bash
# Boots every bare guest and compares how it ends: TAP on stdout, status 1 if anything differs.
# usage: RINGLET=build/ringlet tests/bare/run.sh [NAME...]     NAME as in the table: smp-8, serial, ...
cd "$(dirname "$0")/../.." || exit 1
ringlet=${RINGLET:-build/ringlet}
bare=${BUILD:-build}/bare
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
chosen=" $* "
failed=0
count=0

# What is wrong with the run just made; empty: nothing
reason=

# run GUEST STATUS OPTIONS...: into $work/out and $work/err; sets $reason
run() {
	local guest=$1 want=$2 rc
	shift 2
	timeout -k 1 60 "$ringlet" run -k "$bare/$guest.elf" -m 64M --timeout 20s "$@" \
		>"$work/out" 2>"$work/err" </dev/null
	rc=$?
	ended "$rc" "$want"
}

ended() { # GOT WANTED
	reason=
	if grep -q '^not ok' "$work/out"; then
		reason=$(grep -m1 '^not ok' "$work/out" | tr -d '\r' | sed 's/^not ok //')
	elif [ "$1" -ne "$2" ]; then
		reason="exit status $1, expected $2"
	fi
}

expect() { # FILE EXTENDED-REGEX
	[ -n "$reason" ] && return
	grep -qE -- "$2" "$work/$1" || reason="no line matches '$2' in std$1"
}

report() { # NAME
	count=$((count + 1))
	if [ -z "$reason" ]; then
		echo "ok - bare/$1"
		return
	fi
	failed=1
	echo "not ok - bare/$1: $reason"
	head -c 4000 "$work/out" "$work/err" | tr -d '\r' | sed 's/^/# /'
}

wanted() {
	[ "$chosen" = "  " ] || [[ $chosen == *" $1 "* ]]
}

# simple NAME GUEST STATUS OPTIONS...
simple() {
	local name=$1
	shift
	wanted "$name" || return
	run "$@"
	report "$name"
}

# As simple, and a pattern in what the guest or the VMM prints
simple_expect() { # NAME out|err REGEX GUEST STATUS OPTIONS...
	local name=$1 file=$2 regex=$3
	shift 3
	wanted "$name" || return
	run "$@"
	expect "$file" "$regex"
	report "$name"
}

wait_for_line() { # TEXT
	local n
	for ((n = 0; n < 500; n++)); do
		grep -q "$1" "$work/out" 2>/dev/null && return
		sleep 0.02
	done
	return 1
}

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

needs_memory() { # NAME MIB
	local free
	wanted "$1" || return
	free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
	[ "$free" -ge "$2" ] && return
	count=$((count + 1))
	echo "ok - bare/$1 # SKIP $free MiB of memory available, $2 needed"
	return 1
}

serial_input() {
	local pid
	wanted serial || return
	: >"$work/out"
	rm -f "$work/in"
	mkfifo "$work/in"
	timeout -k 1 60 "$ringlet" run -k "$bare/serial.elf" -m 64M --timeout 20s \
		>"$work/out" 2>"$work/err" <"$work/in" &
	pid=$!
	exec 3>"$work/in" # held open: an end of input is not what is tested
	wait_for_line ready
	awk 'BEGIN { for (i = 0; i < 6000; i++) printf "%c", 65 + i % 23 }' >&3
	wait $pid
	ended $? 0
	exec 3>&-
	expect out '^ready'
	report serial
}

console() { # NAME LINES OPTIONS...
	local name=$1 lines=$2
	wanted "$name" || return
	run console 0 -a "lines=$lines" "${@:3}"
	awk -v n="$lines" 'BEGIN {
		for (i = 0; i < n; i++) {
			s = sprintf("%08d", i)
			for (k = 0; k < 55; k++)
				s = s sprintf("%c", 65 + (i + k) % 26)
			print s
		}
	}' >"$work/want"
	if [ -z "$reason" ] && ! cmp -s "$work/want" "$work/out"; then
		reason=$(cmp "$work/want" "$work/out" 2>&1 | head -1 | sed "s|$work/||g")
		reason="${reason:-the output differs}; $(wc -c <"$work/out") of $(wc -c <"$work/want") bytes"
	fi
	report "$name"
}

# Somebody who does not read our output must not take away the means to end us.
blocked() { # NAME OPTIONS...
	local rc
	wanted "$1" || return
	rm -f "$work/full"
	mkfifo "$work/full"
	exec 3<>"$work/full"
	head -c 65536 /dev/zero >&3
	: >"$work/out"
	timeout -k 1 12 "$ringlet" run -k "$bare/console.elf" -m 64M --timeout 4s -a lines=65536 "${@:2}" \
		>&3 2>"$work/err" </dev/null
	rc=$?
	exec 3>&-
	ended $rc 124
	[ $rc -ne 137 ] || reason="with its output blocked it outlives --timeout and SIGTERM"
	report "$1"
}

# Two SIGTERMs end it at once, whatever the guest does.  timeout(1) would swallow the second.
terminate() { # NAME GUEST
	local pid watchdog rc start took
	wanted "$1" || return
	: >"$work/out"
	"$ringlet" run -k "$bare/$2.elf" -m 64M --timeout 20s >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	(sleep 25 && kill -KILL $pid) >/dev/null 2>&1 &
	watchdog=$!
	reason="the guest does not start"
	if wait_for_line ready; then
		start=$(now_ms)
		kill -TERM $pid
		sleep 0.1
		kill -TERM $pid 2>/dev/null
		wait $pid
		rc=$?
		took=$(($(now_ms) - start))
		ended $rc 143
		[ -n "$reason" ] || [ $took -le 1100 ] || reason="it took $took ms"
	else
		kill -KILL $pid
	fi 2>/dev/null
	wait $pid 2>/dev/null
	kill $watchdog 2>/dev/null
	wait $watchdog 2>/dev/null
	report "$1"
}

# --timeout is kept to a second
times_out() { # NAME GUEST
	local start took
	wanted "$1" || return
	start=$(now_ms)
	run "$2" 124 --timeout 1s
	took=$(($(now_ms) - start))
	[ -n "$reason" ] || { [ $took -ge 1000 ] && [ $took -le 2500 ]; } || reason="it took $took ms"
	expect out '^ready'
	report "$1"
}

if [ ! -x "$ringlet" ]; then
	echo "not ok - bare: $ringlet is not built"
	exit 1
fi
if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
	echo "ok - bare # SKIP no access to /dev/kvm"
	exit 0
fi

simple debug_exit-0 debug_exit 0 -a status=0
simple debug_exit-7 debug_exit 7 -a status=7
simple debug_exit-255 debug_exit 255 -a status=255
simple ram-64M ram 0 -a mem=64
needs_memory ram-4G 1024 && simple ram-4G ram 0 -m 4G -a mem=4096
needs_memory ram-6G 1024 && simple ram-6G ram 0 -m 6G -a mem=6144
simple hole hole 0
simple_expect pio out '^string of 30 bytes over ports' pio 0
simple ecam ecam 0
simple mmio mmio 0
for n in 1 2 4 8 32; do
	simple_expect smp-$n out "^# $n CPUs" smp 0 -c $n -a cpus=$n
done
simple timer timer 0
serial_input
console console-mmio 1024 -a via=mmio
console console-port 128 -a via=port
console console-flood 1024 -a via=port -a poll=0
blocked console-blocked -a via=port -a poll=0
simple_expect poweroff out '^going' poweroff 0
simple_expect reboot-port out '^going' reboot 122 -a how=port
simple_expect reboot-keyboard out '^going' reboot 122 -a how=keyboard
simple_expect triple out '^going' triple 122
simple_expect pvpanic out '^going' pvpanic 121
# The guest leaves a number in rax.
simple_expect badexit err 'rax 0*5ca1ab1e0ddba11' badexit 125
times_out hlt-timeout hlt
times_out spin-timeout spin
terminate hlt-sigterm hlt
terminate spin-sigterm spin

echo "1..$count"
exit $failed

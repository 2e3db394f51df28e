#!/bin/bash
# The balloon takes memory from a guest and gives it back; what it took is the host's again.
. "$(dirname "$0")/../lib.sh"
ctl() {
	"$ringlet" ctl ballooned "$@"
}
used_kib() { # by the guest's RAM, as the kernel counts the pages of its file
	awk '/ringlet-ram/ { ram = 1; next } ram && /^Rss:/ { sum += $2; ram = 0 } END { print sum }' "/proc/$pid/smaps"
}
until_shown() { # WHAT: in the counters, within 30 s
	local i
	for ((i = 0; i < 60; i++)); do
		ctl stats >"$tmp/stats"
		if grep -q "$1" "$tmp/stats"; then return; fi
		sleep 0.5
	done
	show "$tmp/stats"
	fail "the counters never said '$1'"
}
start_guest --timeout "${patience}s" --name ballooned -m 512M --balloon
wait_for_shell
# Memory that was in use once and is free now: reported pages aside, the host still has it.
say 'dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null; rm /tmp/big; echo filled-$((1))'
wait_for filled-1
before=$(used_kib)
ctl balloon 300M || fail "the balloon is refused"
until_shown 'wanted 300 MiB, is 300 MiB'
say 'echo "free $(awk "/MemFree/ {print \$2}" /proc/meminfo)"'
wait_for '^free [0-9]'
free=$(tr -d '\r' <"$tmp/out" | sed -n 's/^free //p')
[ "$free" -lt $((200 << 10)) ] || fail "the guest still has $free KiB free of 512 MiB less 300"
after=$(used_kib)
echo "host: $before KiB before, $after KiB with the balloon"
[ "$after" -lt $((212 << 10)) ] || fail "the host still has $after KiB behind 512 MiB less 300"
ctl balloon 0
until_shown 'wanted 0 MiB, is 0 MiB'
until_shown 'the guest says:.*free memory'
say 'dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null && md5sum /tmp/big; poweroff'
wait_for "$(head -c 200M /dev/zero | md5sum | cut -d ' ' -f 1)"
finish 40
expect_status 0 "power-off after a balloon"

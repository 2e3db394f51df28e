# Sourced by the cases that move a card: a TCP connection for each direction between 10.1.0.1, here, and 10.1.0.2, the guest.
# shellcheck shell=bash disable=SC2034,SC2154
declare -A carried=([9001]=0 [9002]=0) streams_socat=()
streams_mouthful=$((256 << 10)) # bytes in each direction between two moves; more than a socket here keeps

# 9001 carries numbered blocks to the guest until streams_end; the guest then ends 9002, which brings others from there. The blocks
# are random, but made once: that takes longer than all the rest.
streams_blocks='{ i=0; until [ -e "$enough" ]; do echo $((i += 1)) && cat "$block"; done; }'

streams_start() {
	local block=$tmp/block enough=$tmp/enough
	head -c 1M /dev/urandom >"$block"
	mkfifo "$tmp/down" "$tmp/up"
	sha256sum <"$tmp/down" >"$tmp/down.sha" &
	streams_down=$!
	eval "$streams_blocks" | tee "$tmp/down" |
		socat -u - TCP-LISTEN:9001,reuseaddr,sndbuf=65536 &
	streams_socat[9001]=$!
	sha256sum <"$tmp/up" >"$tmp/up.sha" &
	streams_up=$!
	socat -u TCP-LISTEN:9002,reuseaddr - > >(tee "$tmp/up" | wc -c >"$tmp/up.bytes") &
	streams_socat[9002]=$!
}

streams_guest='
block=/tmp/block enough=/tmp/enough
head -c 1048576 /dev/urandom >$block
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0 || fail "there is no eth0"
t ping -q -c 1 -W 10 10.1.0.1 || fail "no ping"
mkfifo /tmp/down /tmp/up
sha256sum </tmp/down >/tmp/down.sha & down=$!
sha256sum </tmp/up >/tmp/up.sha & up=$!
'"$streams_blocks"' | tee /tmp/up | t socat -u - TCP:10.1.0.1:9002 & sender=$!
echo streaming
t socat -u TCP:10.1.0.1:9001 - | tee /tmp/down | wc -c >/tmp/down.bytes
touch $enough
wait $sender || fail "the stream to the host has broken"
wait $down $up
echo "down $(cut -d " " -f 1 /tmp/down.sha) $(cat /tmp/down.bytes)"
echo "up $(cut -d " " -f 1 /tmp/up.sha)"
! dmesg | grep -iE "virtio.*(fail|error|bad)|NETDEV WATCHDOG|WARNING|BUG:" || fail "the kernel complains"
'

# What its socat has taken in so far, in bytes. The lab's kernel has no tcp_diag for ss.
streams_count() { # PORT
	sed -n 's/^rchar: //p' "/proc/${streams_socat[$1]}/io"
}

streams_went_on() { # PORT
	local now
	now=$(streams_count "$1" 2>/dev/null) || stop "the stream of port $1 is over after $(moved) moves"
	[ "$now" -ge $((carried[$1] + streams_mouthful)) ]
}

# Until both directions have carried something since the last time.
streams_carry() {
	local port
	for port in 9001 9002; do
		until_so 60 "port $port carries $streams_mouthful bytes more than ${carried[$port]}" streams_went_on "$port"
	done
	for port in 9001 9002; do carried[$port]=$(streams_count "$port"); done
}

streams_end() {
	touch "$tmp/enough"
}

streams_compare() {
	wait "$streams_down" "$streams_up"
	until [ -s "$tmp/up.bytes" ]; do sleep 0.1; done
	local down up bytes
	down=$(cut -d ' ' -f 1 "$tmp/down.sha") up=$(cut -d ' ' -f 1 "$tmp/up.sha")
	bytes=$(sed -n 's/^down [0-9a-f]* //p' "$tmp/out" | tr -d '\r')
	echo "compared: $bytes bytes to the guest, $(cat "$tmp/up.bytes") from it"
	grep -aq "^down $down " "$tmp/out" || fail "what the guest got differs from what was sent to it"
	grep -aq "^up $up" "$tmp/out" || fail "what was got from the guest differs from what it sent"
}

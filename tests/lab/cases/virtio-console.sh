#!/bin/bash
# --console virtio: the shell is on hvc0, both ways, and a lot of output comes out whole; a named port carries bytes
# both ways and its socket is gone at the end.
. "$(dirname "$0")/../lib.sh"
head -c 300000 /dev/urandom >"$tmp/to_guest"
start_guest --timeout "${patience}s" --name "console$$" --console "virtio,port=org.test.0:$tmp/port,port=second" \
	--stats="$tmp/stats"
wait_for_shell
say 'tty; seq 1 3000; echo "sum $(seq 1 3000 | md5sum)"'
wait_for '^sum [0-9a-f]'

# What comes first says that the port is there, and that output is kept for a client to come.
say 'p=$(grep -lx org.test.0 /sys/class/virtio-ports/*/name); p=/dev/$(basename "${p%/name}"); echo "is $p"'
wait_for '^is /dev/vport'
say 'exec 5<>$p; echo ready >&5; head -c 300000 <&5 >/tmp/got; cat /tmp/got >&5; echo "got $(md5sum </tmp/got)"'
[ -S "/run/ringlet/console$$/port-second" ] || fail "the port without a path has no socket beside the control socket"
timeout 60 socat -u UNIX-CONNECT:"$tmp/port" - >"$tmp/early" &
client=$!
for ((i = 0; i < 300; i++)); do
	grep -qsx ready "$tmp/early" && break
	sleep 0.2
done
kill "$client"
grep -qx ready "$tmp/early" || fail "the named port is silent"
# One client does both: it sends all, says that it has ended, and still gets the answer.
timeout 100 socat -t 100 UNIX-CONNECT:"$tmp/port" - <"$tmp/to_guest" >"$tmp/from_guest" 2>"$tmp/socat" &
client=$!
wait_for '^got [0-9a-f]' 90
for ((i = 0; i < 50; i++)); do
	[ "$(stat -c %s "$tmp/from_guest")" = 300000 ] && break
	sleep 0.2
done
kill "$client"
cmp "$tmp/to_guest" "$tmp/from_guest" || fail "the named port has lost or changed something: $(cat "$tmp/socat")"
say 'exit'
finish 30
expect_status 0 "the shell's end"
expect_line "$tmp/out" '/dev/(hvc0|console)'
tr -d '\r' <"$tmp/out" | sed -n '/^1$/,/^3000$/p' >"$tmp/seq"
[ "$(md5sum <"$tmp/seq")" = "$(seq 1 3000 | md5sum)" ] || fail "the output has lost or changed something"
if [ -e "$tmp/port" ] || [ -e "/run/ringlet/console$$" ]; then fail "a socket was left behind"; fi
expect_line "$tmp/stats" '"type": "console"'

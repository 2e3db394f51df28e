#!/bin/bash
# only: test-all
# How a command ends and what it finds: signals, no such command, users, a process that it leaves behind, a reader of
# its output that leaves, signals for it, 10 MB, the serial line where the kernel has no driver for the port.
# timeout: 900
. "$(dirname "$0")/../lib.sh"
patience=100
quick() { # STATUS OPTIONS... -- COMMAND...
	local expected=$1
	shift
	run_guest --timeout "${patience}s" "$@"
	expect_status "$expected" "$*"
}

quick 137 -- sh -c 'kill -KILL $$'
quick 127 -- no-such-command --help
expect_line "$tmp/err" 'guest: no-such-command: command not found'
quick 126 -- /etc/passwd
expect_line "$tmp/err" 'guest: /etc/passwd: Permission denied'
quick 126 --cwd /nonexistent -- true
expect_line "$tmp/err" 'cwd /nonexistent: No such file'
quick 126 --user nobody-at-all -- true
expect_line "$tmp/err" 'user nobody-at-all: .*no such user'
quick 117 --result "$tmp/result" -- sh -c 'exit 121'
expect_line "$tmp/err" 121
grep -q '"command_status": 121' "$tmp/result" || fail "--result does not name the command's own status"

# shellcheck disable=SC2016 # the guest's
quick 0 --user 1000:5 -- sh -c 'id -u; id -g; echo x >/dev/stdout; echo "$HOME"; touch /root/x 2>/dev/null || echo denied'
[ "$(cat "$tmp/out")" = $'1000\n5\nx\n/\ndenied' ] || fail "another user: $(cat "$tmp/out")"

# All that the command wrote is there, and what it left behind holds up nobody.
quick 3 -- sh -c 'sleep 1000 & seq 1 100000; exit 3'
cmp <(seq 1 100000) "$tmp/out" || fail "output is missing beside a process in the background"

# 2>&1 of ours is the command's: nothing changes places.
need_guest "$kernel"
# shellcheck disable=SC2016 # the guest's
"$ringlet" run "${guest_args[@]}" --timeout "${patience}s" -- sh -c 'for i in $(seq 1 2000); do echo $i; echo e$i >&2; done' \
	>"$tmp/out" 2>&1
for ((i = 1; i <= 2000; i++)); do printf '%s\ne%s\n' $i $i; done >"$tmp/expected"
cmp "$tmp/expected" "$tmp/out" || fail "stdout and stderr in one file: not in their order"

# A reader that leaves is the command's SIGPIPE.
"$ringlet" run "${guest_args[@]}" --timeout "${patience}s" -- yes | head -n 3 >/dev/null
status=${PIPESTATUS[0]}
expect_status 141 "yes into a pipe that nobody reads"

# A reader that sleeps loses nothing.
"$ringlet" run "${guest_args[@]}" --timeout "${patience}s" -- seq 1 50000 | { sleep 30 && cat; } >"$tmp/out"
cmp <(seq 1 50000) "$tmp/out" || fail "a slow reader has lost output"

# A signal is passed on, and what the command makes of it counts.
# shellcheck disable=SC2016 # the guest's
"$ringlet" run "${guest_args[@]}" --timeout "${patience}s" -- \
	sh -c 'trap "echo got; exit 5" TERM; echo ready; while :; do sleep 1; done' >"$tmp/out" 2>"$tmp/err" &
pid=$!
wait_for '^ready'
kill -TERM "$pid"
finish 30
expect_status 5 "SIGTERM, which the command handles"
"$ringlet" run "${guest_args[@]}" --timeout "${patience}s" -- \
	sh -c 'trap "" TERM; echo ready; while :; do sleep 1; done' >"$tmp/out" 2>"$tmp/err" &
pid=$!
wait_for '^ready'
kill -TERM "$pid"
sleep 3
kill -TERM "$pid"
finish 10
expect_status 143 "the second SIGTERM"

head -c 10000000 /dev/urandom >"$tmp/in"
"$ringlet" run "${guest_args[@]}" --timeout "${patience}s" --stdin -- sh -c 'md5sum >&2 </dev/null; cat' <"$tmp/in" >"$tmp/out"
cmp "$tmp/in" "$tmp/out" || fail "10 MB have changed on their way"

kernel=6.1-cloud
need_guest "$kernel"
head -c 100000 "$tmp/in" >"$tmp/some"
"$ringlet" run "${guest_args[@]}" --timeout "${patience}s" --stdin -a module_blacklist=virtio_console -- \
	sh -c 'cat; echo two >&2; exit 9' <"$tmp/some" >"$tmp/out" 2>"$tmp/err"
status=$?
expect_status 9 "a command by the serial line"
cmp "$tmp/some" "$tmp/out" || fail "the serial line has changed what went over it"
grep -qx two "$tmp/err" || fail "no stderr by the serial line"
quick 7 -- sh -c 'ls /dev/vport* && exit 7'

#!/bin/bash
# On a terminal: Ctrl-a b is a break (SysRq), Ctrl-a h helps, Ctrl-a x quits, and the terminal is as it was.
. "$(dirname "$0")/../lib.sh"
need_guest "$kernel"
mkfifo "$tmp/in"
cat >"$tmp/run" <<EOF
stty -a >$tmp/before
$ringlet run ${guest_args[*]} --timeout ${patience}s
echo "status \$?"
stty -a >$tmp/after
EOF
script -qec "bash $tmp/run" /dev/null <"$tmp/in" >"$tmp/out" 2>"$tmp/err" &
pid=$!
exec {guest_in}>"$tmp/in"
wait_for '^ringlet:~# ' 80
printf '\001h' >&"$guest_in"
wait_for 'Ctrl-a x  quit Ringlet' 5
printf '\001b' >&"$guest_in"
sleep 0.3
printf 'h' >&"$guest_in"
wait_for 'sysrq: HELP' 10
printf '\001x' >&"$guest_in"
exec {guest_in}>&-
finish 10
expect_line "$tmp/out" '^status 0'
cmp "$tmp/before" "$tmp/after" || fail "the terminal is not as it was"

#!/bin/bash
# --console virtio: the shell is on hvc0, both ways, and a lot of output comes out whole.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s" --console virtio
wait_for_shell
say 'tty; seq 1 3000; echo "sum $(seq 1 3000 | md5sum)"'
wait_for '^sum [0-9a-f]'
say 'exit'
finish 30
expect_status 0 "the shell's end"
expect_line "$tmp/out" '/dev/(hvc0|console)'
tr -d '\r' <"$tmp/out" | sed -n '/^1$/,/^3000$/p' >"$tmp/seq"
[ "$(md5sum <"$tmp/seq")" = "$(seq 1 3000 | md5sum)" ] || fail "the output has lost or changed something"

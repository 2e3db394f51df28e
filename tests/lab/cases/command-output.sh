#!/bin/bash
# What a command prints arrives byte for byte and alone, also much of it.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -- sh -c 'printf "a\r\n\000\001\003\004\021\023\177\377"; echo err >&2; seq 1 20000'
expect_status 0 "a command that succeeded"
{
	printf 'a\r\n\000\001\003\004\021\023\177\377'
	echo err
	seq 1 20000
} >"$tmp/expected"
cmp "$tmp/expected" "$tmp/out" || fail "the output is not what the command wrote"

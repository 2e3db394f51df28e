#!/bin/bash
# What a command prints arrives byte for byte, stdout and stderr apart from each other and from the kernel's log; its
# input as well; and --result tells of it.
. "$(dirname "$0")/../lib.sh"
head -c 1000000 /dev/urandom >"$tmp/in"
# shellcheck disable=SC2016 # the guest's
input=$tmp/in run_guest --timeout "${patience}s" --stdin --result "$tmp/result" --env 'A=b  c' --cwd /tmp -- sh -c '
	cat >in; cat in; printf "a\r\n\000\001\003\004\021\023\177\377"; echo "$A" >&2; pwd >&2; seq 1 20000 >&2; seq 1 20000; exit 7' \
	>"$tmp/log"
tail -n 1 "$tmp/log"
expect_status 7 "exit 7"
{
	cat "$tmp/in"
	printf 'a\r\n\000\001\003\004\021\023\177\377'
	seq 1 20000
} >"$tmp/expected"
cmp "$tmp/expected" "$tmp/out" || fail "stdout is not what the command wrote"
{
	echo 'b  c'
	echo /tmp
	seq 1 20000
} >"$tmp/expected"
cmp "$tmp/expected" "$tmp/err" || fail "stderr is not what the command wrote"
expect_line "$tmp/console" 'Linux version'
python3 - "$tmp/result" <<'P' || fail "--result does not tell what was"
import json, sys
r = json.load(open(sys.argv[1]))
t = r["times_ms"]
assert (r["status"], r["command_status"], r["outcome"], r["reason"], r["oops"], r["tail"]) == (7, 7, "answer", "", None, None), r
assert 0 < t["kernel"] < t["init"] < t["command"] < t["answer"] < t["end"], t
assert r["command"][0] == "sh" and r["kernel"]["version"] in open(sys.argv[1].replace("result", "console"), errors="replace").read()
P

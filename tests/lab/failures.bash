# Sourced by the cases about guests in trouble.
# shellcheck shell=bash

expect_result() { # STATUS OUTCOME
	python3 - "$tmp/result" "$@" <<'P' || fail "--result does not say $2"
import json, sys
r = json.load(open(sys.argv[1]))
assert (r["status"], r["outcome"]) == (int(sys.argv[2]), sys.argv[3]), (r["status"], r["outcome"], r["reason"])
assert r["status"] == 0 or r["reason"] or r["outcome"] == "answer", "no reason"
if r["times_ms"]["kernel"] is not None and r["status"] and r["outcome"] != "answer":
    assert r["tail"], "no tail"
P
}

# A run whose status, sentence and --result are as they should be.
row() { # STATUS OUTCOME PATTERN OPTIONS... -- COMMAND...
	local expected=$1 outcome=$2 pattern=$3
	shift 3
	echo "== $outcome: $*"
	rm -f "$tmp/result" "$tmp/console"
	run_guest --timeout 100s --result "$tmp/result" "$@"
	expect_status "$expected" "$*"
	expect_result "$expected" "$outcome"
	if [ -n "$pattern" ]; then
		expect_line "$tmp/err" "$pattern"
		[ ! -s "$tmp/console" ] || expect_line "$tmp/err" 'all of it: '
	fi
}

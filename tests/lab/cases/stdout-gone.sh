#!/bin/bash
# only: test-all
# A closed or full stdout, or a reader that leaves: the guest runs on and its end is told as ever.
# timeout: 240
. "$(dirname "$0")/../lib.sh"
need_guest "$kernel"
boot() {
	echo 'poweroff -f' | "$ringlet" run "${guest_args[@]}" --timeout 70s --log "$tmp/console" "$@"
}
boot >&- 2>"$tmp/err"
status=$?
show "$tmp/err"
expect_status 0 "booting with a closed stdout"
boot >/dev/full 2>"$tmp/err"
status=$?
expect_status 0 "booting with a full stdout"
boot 2>"$tmp/err" | head -n 3
status=${PIPESTATUS[0]}
expect_status 0 "booting for a reader that left"
grep -aq 'Power down' "$tmp/console" || fail "the log is not whole"

#!/bin/bash
# only: test-all
# A bzImage that unpacks itself: the boot protocol's way in.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" --unpack off -- uname -r
expect_status 0 "booting"
[ "$(cat "$tmp/out")" = "$(cat "build/guest/$kernel/version")" ] || fail "it printed $(cat "$tmp/out")"

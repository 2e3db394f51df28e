#!/bin/bash
# A guest that does not hear its power button is ended by the second SIGTERM: 143.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s" -a rdinit=/bin/sh
wait_for '# ' 80
kill -TERM "$pid"
sleep 3
kill -0 "$pid" 2>/dev/null || fail "the first SIGTERM ended ringlet though the guest ignores the button"
kill -TERM "$pid"
finish 10
expect_status 143 "the second SIGTERM"

#!/bin/bash
# only: test-all
# A file that cannot be executed is 126, and its output says which.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -- /etc/passwd
expect_status 126 "a command without execute permission"
expect_line "$tmp/err" /etc/passwd

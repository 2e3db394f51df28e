#!/bin/bash
# only: test-all
# Statuses that ringlet itself gives a meaning to come out as 117, with the real one in the message.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -- sh -c 'exit 121'
expect_status 117 "exit 121 in the guest"
expect_line "$tmp/err" 121

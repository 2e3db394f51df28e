#!/bin/bash
# only: test-all
# A command that does not exist is 127, and its output says which.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -- no-such-command --help
expect_status 127 "a command that does not exist"
expect_line "$tmp/err" no-such-command

#!/bin/bash
# A command's exit status is ringlet's.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -- sh -c 'exit 7'
expect_status 7 "exit 7"

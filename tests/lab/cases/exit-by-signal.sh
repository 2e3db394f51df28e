#!/bin/bash
# only: test-all
# A command that a signal killed reports 128 + the signal, as a shell does.
. "$(dirname "$0")/../lib.sh"
run_guest --timeout "${patience}s" -- sh -c 'kill -KILL $$'
expect_status 137 "a command killed by SIGKILL"

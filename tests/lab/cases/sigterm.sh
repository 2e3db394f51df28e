#!/bin/bash
# only: test-all
# SIGTERM presses the guest's power button: a clean power-off, 0.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s"
wait_for_shell
kill -TERM "$pid"
finish 30
expect_status 0 "SIGTERM"
expect_line "$tmp/out" 'Power down'

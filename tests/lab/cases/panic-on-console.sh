#!/bin/bash
# only: test-all
# The same where the console is on stdout.
. "$(dirname "$0")/../lib.sh"
start_guest --timeout "${patience}s" --panic exit
wait_for_shell
say 'echo c >/proc/sysrq-trigger'
finish 30
expect_status 121 "a panic"
expect_line "$tmp/out" 'Kernel panic'
